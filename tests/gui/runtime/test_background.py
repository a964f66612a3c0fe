from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Generator
from typing import Any

import pytest
from superqt.utils._qthreading import WorkerBase

from napari_srast.errors import Cancelled, InputError
from napari_srast.gui.runtime.background import BackgroundTask, error_message, low_priority, start

pytestmark = pytest.mark.gui


class _Calls:
    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.done: list[Any] = []
        self.errors: list[Exception] = []
        self.threads: set[int] = set()

    def start(self, steps: Callable[..., Generator[Any, None, Any]]) -> BackgroundTask:
        return start(steps, on_step=self._step, on_done=self.done.append, on_error=self.errors.append)

    def _step(self, value: Any) -> None:
        self.steps.append(value)
        self.threads.add(threading.get_ident())


def test_progress_and_result_arrive_in_the_gui_thread(qtbot: Any) -> None:
    calls = _Calls()
    threads = []

    def steps(should_stop: Callable[[], bool]) -> Generator[int, None, str]:
        threads.append(threading.get_ident())
        yield from (1, 2)
        return "result"

    calls.start(steps)
    qtbot.waitUntil(lambda: bool(calls.done))
    assert calls.steps == [1, 2]
    assert calls.done == ["result"]
    assert calls.threads == {threading.get_ident()}
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), InputError("no gene"), AssertionError("mass")])
def test_every_error_calls_on_error(qtbot: Any, error: Exception) -> None:
    calls = _Calls()

    def steps(should_stop: Callable[[], bool]) -> Generator[int, None, None]:
        yield 1
        raise error

    task = calls.start(steps)
    qtbot.waitUntil(lambda: bool(calls.errors))
    assert calls.errors == [error]
    assert not task.active


def test_abandoned_task_stops_and_never_calls_back(qtbot: Any) -> None:
    calls, ended = _Calls(), threading.Event()

    def steps(should_stop: Callable[[], bool]) -> Generator[int, None, str]:
        try:
            while not should_stop():
                yield 0
                time.sleep(0.005)
            raise Cancelled
        finally:
            ended.set()

    task = calls.start(steps)
    qtbot.waitUntil(lambda: bool(calls.steps))
    task.abandon()
    n_steps = len(calls.steps)
    assert ended.wait(1)
    qtbot.wait(50)
    assert len(calls.steps) == n_steps
    assert calls.done == calls.errors == []


def test_result_of_an_abandoned_task_is_dropped(qtbot: Any) -> None:
    calls, go = _Calls(), threading.Event()

    def steps(should_stop: Callable[[], bool]) -> Generator[int, None, str]:
        go.wait(5)  # ignores should_stop
        yield from ()
        return "stale"

    task = calls.start(steps)
    task.abandon()
    go.set()
    qtbot.wait(100)
    assert calls.done == []


def test_work_that_napari_drops_leaves_no_thread(qtbot: Any) -> None:
    before, calls = set(threading.enumerate()), _Calls()

    def steps(should_stop: Callable[[], bool]) -> Generator[int, None, None]:
        while not should_stop():
            yield 0

    task = start(low_priority(steps), on_step=calls.steps.append, on_done=calls.done.append, on_error=print)
    qtbot.waitUntil(lambda: bool(calls.steps))
    for worker in list(WorkerBase._worker_set):  # as napari does on closing, or if the progress bar is canceled
        worker.quit()

    def runs() -> list[str]:
        return [t.name for t in set(threading.enumerate()) - before if t.name.startswith("napari-srast-run")]

    assert runs()
    qtbot.waitUntil(lambda: not runs(), timeout=5000)
    assert not task.active
    assert calls.done == []


def test_deprecations_of_torch_are_no_notifications(qtbot: Any) -> None:
    torch = pytest.importorskip("torch")
    calls = _Calls()

    def steps(should_stop: Callable[[], bool]) -> Generator[int, None, list[str]]:
        yield 1
        shown: list[str] = []
        # Here napari has set a function that shows every warning as a notification.
        warnings.showwarning = lambda message, *_: shown.append(str(message))
        torch.jit.script(torch.nn.Identity())
        warnings.warn("worth reading", UserWarning, stacklevel=1)
        return shown

    calls.start(steps)
    qtbot.waitUntil(lambda: bool(calls.done or calls.errors))
    assert calls.errors == []
    assert calls.done == [["worth reading"]]


def test_unexpected_errors_give_one_sentence_and_a_log_record(caplog: pytest.LogCaptureFixture) -> None:
    assert error_message(InputError("The slide has no gene."), "upsampling") == "The slide has no gene."
    assert not caplog.records
    text = error_message(ValueError("bad\nshape"), "upsampling")
    assert text.startswith("Unexpected error while upsampling (ValueError: bad shape)")
    assert caplog.records[0].exc_info is not None
