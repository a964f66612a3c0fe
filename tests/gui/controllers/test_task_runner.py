from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest
from psygnal import EmitLoopError

from napari_srast.core.progress import Progress
from napari_srast.errors import InputError
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.task_runner import AppState, Task, TaskRunner
from napari_srast.gui.runtime.background import single_step

pytestmark = pytest.mark.gui


@pytest.fixture
def messages() -> Messages:
    return Messages()


@pytest.fixture
def tasks(messages: Messages) -> TaskRunner:
    """A task runner of a window with an open slide."""
    return TaskRunner(messages, has_slide=lambda: True)


def task(work: Callable[[], Any], on_result: Callable[[Any], None], **options: Any) -> Task:
    options = {"state": AppState.RUNNING, "steps": single_step(work), "activity": "testing", **options}
    return Task(on_result=on_result, **options)


def test_task_sets_the_state_and_passes_on_its_result(tasks: TaskRunner, qtbot: Any) -> None:
    results: list[str] = []
    tasks.start(task(lambda: "result", results.append))
    assert tasks.state is AppState.RUNNING
    assert tasks.is_working
    qtbot.waitUntil(lambda: results == ["result"])
    assert not tasks.is_working


def test_task_reports_progress(tasks: TaskRunner, qtbot: Any) -> None:
    received: list[Progress] = []
    results: list[None] = []
    tasks.progress_changed.connect(received.append)
    progress = Progress("split", 1, 2, 0.5)

    def steps(should_stop: Callable[[], bool]) -> Generator[Progress, None, None]:
        yield progress

    tasks.start(task(lambda: None, results.append, steps=steps))
    qtbot.waitUntil(lambda: bool(results))
    assert received == [progress]


def test_window_is_ready_after_a_task_whose_state_could_not_be_shown(tasks: TaskRunner, qtbot: Any) -> None:
    def fail() -> None:
        tasks.state_changed.disconnect(fail)
        raise LookupError

    results: list[str] = []
    tasks.state_changed.connect(fail)
    with pytest.raises(EmitLoopError):
        tasks.start(task(lambda: "result", lambda result: (results.append(result), tasks.set_state(AppState.READY))))
    qtbot.waitUntil(lambda: results == ["result"])
    assert tasks.state is AppState.READY


@pytest.mark.parametrize("fails_in", ["work", "on_result"])
def test_error_is_shown_and_the_window_is_ready_again(
    fails_in: str, tasks: TaskRunner, messages: Messages, qtbot: Any
) -> None:
    shown: list[str] = []
    after: list[AppState] = []
    messages.error_message.connect(shown.append)

    def fail(*_: Any) -> None:
        raise InputError("The slide has no gene.")

    work, on_result = (fail, lambda _: None) if fails_in == "work" else (lambda: None, fail)
    tasks.start(task(work, on_result, on_error=lambda: after.append(tasks.state)))
    qtbot.waitUntil(lambda: bool(after))
    assert shown == ["The slide has no gene."]
    assert after == [AppState.READY]
    assert messages.error_report is not None
    assert "Failed: testing" in messages.error_report


def test_new_task_replaces_the_running_one(tasks: TaskRunner, qtbot: Any) -> None:
    results: list[str] = []
    go = threading.Event()
    tasks.start(task(lambda: go.wait(5) and "old", results.append))
    tasks.start(task(lambda: "new", results.append))
    go.set()
    qtbot.waitUntil(lambda: bool(results))
    qtbot.wait(50)
    assert results == ["new"]


def test_obstacle_depends_on_the_state(messages: Messages) -> None:
    tasks = TaskRunner(messages, has_slide=lambda: False)
    assert tasks.obstacle() == "Open a slide first."
    assert tasks.busy_reason() is None
    tasks.set_state(AppState.RUNNING)
    assert tasks.obstacle() == tasks.busy_reason() == "A run is in progress; wait for it, or cancel it."
    assert tasks.resting_state() is AppState.EMPTY
