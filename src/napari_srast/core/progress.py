"""Report the progress of a run and ask whether it was canceled.

A :class:`RunMonitor` is created where a run starts, from the callbacks of the command line or the window, and passed
unchanged to the innermost loop. Only the thread that drives a run reports progress; any thread may ask for
cancellation.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

from napari_srast.errors import Cancelled

__all__ = ["NO_MONITOR", "STAGE_SHARES", "Progress", "RunMonitor", "iterate_progress"]

STAGE_SHARES = {"raster": 0.02, "align": 0.35, "calibrate": 0.25, "split": 0.38}
"""The stages of a run in their order, with the share of the run time that progress bars give to each."""
_STAGES = tuple(STAGE_SHARES)
_POLL_SECONDS = 0.1
T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One progress report of a run.

    Parameters
    ----------
    stage
        Name of the stage, such as "split".
    done, total
        Number of completed steps of the stage, and of all its steps.
    fraction
        Completed fraction of the whole run, 0 to 1.
    """

    stage: str
    done: int
    total: int
    fraction: float


@dataclass(frozen=True, kw_only=True)
class RunMonitor:
    """Progress callback and cancellation callback of one run.

    Parameters
    ----------
    on_progress
        Receives every :class:`Progress` report. An exception that it raises ends the run. None: no reports.
    should_stop
        Returns True once the run should end; threads may call it at the same time. None: the run is never canceled.

    Examples
    --------
    >>> from napari_srast.core.progress import RunMonitor
    >>> monitor = RunMonitor(on_progress=lambda step: print(step.stage, round(step.fraction, 2)))
    >>> monitor.report("align", 1, 2)
    align 0.19
    >>> monitor.is_canceled()
    False
    """

    on_progress: Callable[[Progress], None] | None = None
    should_stop: Callable[[], bool] | None = None

    def report(self, stage: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` steps of a stage are complete; only from the thread that drives the run."""
        if self.on_progress is not None:
            before = sum(STAGE_SHARES[name] for name in _STAGES[: _STAGES.index(stage)])
            self.on_progress(Progress(stage, done, total, before + STAGE_SHARES[stage] * done / max(total, 1)))

    def is_canceled(self) -> bool:
        """Return whether the run was canceled."""
        return self.should_stop is not None and self.should_stop()

    def check_canceled(self) -> None:
        """Raise :class:`~napari_srast.errors.Cancelled` if the run was canceled."""
        if self.is_canceled():
            raise Cancelled

    def stopped_by(self, is_halted: Callable[[], bool]) -> RunMonitor:
        """Return a monitor that is canceled by ``is_halted``, too."""
        return replace(self, should_stop=lambda: is_halted() or self.is_canceled())

    def for_workers(self, is_halted: Callable[[], bool]) -> RunMonitor:
        """Return a monitor for worker threads: it reports nothing, and is canceled by ``is_halted``, too."""
        return replace(self.stopped_by(is_halted), on_progress=None)

    def listening(self, listener: Callable[[Progress], None]) -> RunMonitor:
        """Return a monitor that passes each report to ``listener`` first."""

        def on_progress(step: Progress) -> None:
            listener(step)
            if self.on_progress is not None:
                self.on_progress(step)

        return replace(self, on_progress=on_progress)


NO_MONITOR = RunMonitor()
"""A monitor that reports nothing and is never canceled."""


def iterate_progress(
    run: Callable[[RunMonitor], T], should_stop: Callable[[], bool] | None = None
) -> Generator[Progress, None, T]:
    """Turn a function that takes a monitor into a generator of its progress reports.

    The function runs in a thread of its own, which waits at every report until the generator is asked for the next
    one. Closing the generator cancels the function and waits until it has ended. A function that waits also ends once
    ``should_stop`` returns True.

    Parameters
    ----------
    run
        The function.
    should_stop
        Returns True once the function should end.

    Yields
    ------
    Progress
        The reports; the generator returns what the function returns, and raises what it raises.
    """
    reports: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
    resume = threading.Semaphore(0)
    closed = threading.Event()
    outcome: Future[T] = Future()

    def on_progress(step: Progress) -> None:
        reports.put(step)
        while not resume.acquire(timeout=_POLL_SECONDS):
            monitor.check_canceled()  # the generator may have been dropped, which must not block the thread forever
            if not threading.main_thread().is_alive():
                raise Cancelled  # the program ends
        if closed.is_set():
            raise Cancelled

    def work() -> None:
        try:
            outcome.set_result(run(monitor))
        except BaseException as error:  # noqa: BLE001 - raised by the generator
            outcome.set_exception(error)
        finally:
            reports.put(None)

    monitor = RunMonitor(on_progress=on_progress, should_stop=should_stop).stopped_by(closed.is_set)
    # Not an executor: its thread would wait for more work as long as a dropped generator is referenced.
    thread = threading.Thread(target=work, name="napari-srast-run_0")
    thread.start()
    try:
        while (step := reports.get()) is not None:
            yield step
            resume.release()
        return outcome.result()
    finally:
        closed.set()
        resume.release()
        thread.join()
