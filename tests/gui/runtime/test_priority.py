from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest
from qtpy.QtCore import QThreadPool

from napari_srast.api import upsample
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled
from napari_srast.gui.runtime.background import low_priority, single_step, start
from napari_srast.gui.runtime.priority import SWITCH_SECONDS, ShortSwitchInterval

pytestmark = pytest.mark.gui


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def _outcome(qtbot: Any, steps: Callable[..., Generator[Any, None, Any]]) -> tuple[list[Any], Any]:
    seen: list[Any] = []
    ended: list[Any] = []
    start(steps, on_step=seen.append, on_done=ended.append, on_error=ended.append)
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    return seen, ended[0]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="niceness belongs to the process")
def test_only_threads_of_a_run_have_low_priority(qtbot: Any, make_slide: Callable[..., Slide]) -> None:
    niceness: dict[str, int] = {}

    def should_stop() -> bool:
        """Record the niceness; every computing thread calls this."""
        niceness[threading.current_thread().name.rpartition("_")[0]] = _niceness()
        return False

    def compute() -> int:
        niceness["run"] = _niceness()
        return upsample(make_slide(10, 10, n_genes=30), factor=2, should_stop=should_stop).n_pixels

    before = _niceness()
    _, n_pixels = _outcome(qtbot, low_priority(single_step(compute)))
    assert n_pixels == 400
    assert {"run", "napari-srast-run", "napari-srast"} <= set(niceness)
    assert set(niceness.values()) == {max(5, before)}
    assert _niceness() == before
    pool = QThreadPool.globalInstance()
    for _ in range(2 * pool.maxThreadCount()):  # threads of napari's pool
        assert _outcome(qtbot, single_step(_niceness))[1] == before


def test_low_priority_passes_on_progress_results_and_errors(qtbot: Any) -> None:
    def steps(should_stop: Callable[[], bool]) -> Generator[int, None, str]:
        yield from (1, 2)
        return "result"

    assert _outcome(qtbot, low_priority(steps)) == ([1, 2], "result")

    def fail() -> None:
        raise RuntimeError("out of memory")

    _, error = _outcome(qtbot, low_priority(single_step(fail)))
    assert isinstance(error, RuntimeError)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    assert last.tb_frame.f_code.co_name == "fail"  # the error report needs the original traceback


def test_switch_interval_is_short_only_during_a_task(qtbot: Any) -> None:
    before = sys.getswitchinterval()
    begun, ended = threading.Event(), threading.Event()

    def steps(should_stop: Callable[[], bool]) -> Generator[int, None, None]:
        yield 0
        begun.set()
        while not should_stop():
            time.sleep(0.005)
        ended.set()
        raise Cancelled

    task = start(low_priority(steps), on_step=lambda _: None, on_done=lambda _: None, on_error=lambda _: None)
    qtbot.waitUntil(begun.is_set)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
    task.abandon()
    assert ended.wait(5)
    qtbot.waitUntil(lambda: sys.getswitchinterval() == pytest.approx(before))

    short = ShortSwitchInterval()
    with short:
        with short:
            pass
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)  # the outer one is still active
    assert sys.getswitchinterval() == pytest.approx(before)


def test_stopped_task_ends_even_if_nobody_asks_for_its_progress() -> None:
    """napari's workers drop a generator without closing it when the viewer closes."""
    stop, ended = threading.Event(), threading.Event()

    def steps(should_stop: Callable[[], bool]) -> Generator[int, None, None]:
        try:
            while True:
                yield 0
        finally:
            ended.set()

    progress = low_priority(steps)(stop.is_set)
    next(progress)
    stop.set()
    assert ended.wait(5)
