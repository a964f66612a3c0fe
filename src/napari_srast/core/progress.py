"""Report the progress of long work and ask whether it was canceled.

Runs, writers, exports, analyses, evaluations, trainings and benchmarks have the keywords ``progress``, of the type
:data:`ProgressCallback`, and ``should_stop``, a :data:`CancelCheck`. They make one :class:`RunMonitor` of them, that is
passed unchanged to the innermost loop. Only the thread that drives the work reports progress, unless the function says
otherwise; any thread may ask for cancellation.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

from napari_srast.errors import Cancelled

__all__ = [
    "NO_MONITOR",
    "STAGE_SHARES",
    "CancelCheck",
    "Progress",
    "ProgressCallback",
    "RunMonitor",
    "iterate_progress",
]

STAGE_SHARES = {"raster": 0.02, "align": 0.35, "calibrate": 0.25, "split": 0.38}
"""The stages of an upsampling in their order, with the share of its time that progress bars give to each."""
_STAGES = tuple(STAGE_SHARES)
_POLL_SECONDS = 0.1
T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One progress report.

    Parameters
    ----------
    stage
        Name of the stage, such as "split" or "saving".
    done, total
        Number of completed steps of the stage, and of all its steps; 0 of 1 if the steps are not counted.
    fraction
        Completed fraction of the whole work, 0 to 1.
    detail
        What the last step was or gave, such as the name of a slide or a loss; may be empty.
    """

    stage: str
    done: int
    total: int
    fraction: float
    detail: str = ""


ProgressCallback = Callable[[Progress], None]
"""Receives every report; an exception that it raises ends the work."""
CancelCheck = Callable[[], bool]
"""Returns True once the work should end; threads may call it at the same time."""


@dataclass(frozen=True, kw_only=True)
class RunMonitor:
    """Progress callback and cancel token of one run, export, analysis or other long work.

    Parameters
    ----------
    on_progress
        Receives every report. None: no reports.
    should_stop
        Returns True once the work should end. None: it is never canceled.

    Examples
    --------
    >>> from napari_srast.core.progress import RunMonitor
    >>> monitor = RunMonitor(on_progress=lambda step: print(step.stage, round(step.fraction, 2)))
    >>> monitor.report("align", 1, 2)
    align 0.19
    >>> monitor.is_canceled()
    False
    """

    on_progress: ProgressCallback | None = None
    should_stop: CancelCheck | None = None

    def report(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Report that ``done`` of ``total`` steps of a stage are complete; ``detail`` describes the last one.

        A stage that is not in :data:`STAGE_SHARES` is work of its own: its fraction is that of its steps.
        """
        if self.on_progress is not None:
            self.on_progress(Progress(stage, done, total, _fraction_of_run(stage, done / max(total, 1)), detail))

    def report_fraction(self, stage: str, fraction: float) -> None:
        """Report the completed fraction, 0 to 1, of a stage whose steps are not counted."""
        if self.on_progress is not None:
            self.on_progress(Progress(stage, 0, 1, _fraction_of_run(stage, fraction)))

    def is_canceled(self) -> bool:
        """Return whether the run was canceled."""
        return self.should_stop is not None and self.should_stop()

    def check_canceled(self) -> None:
        """Raise :class:`~napari_srast.errors.Cancelled` if the run was canceled."""
        if self.is_canceled():
            raise Cancelled

    def stopped_by(self, is_halted: CancelCheck) -> RunMonitor:
        """Return a monitor that is canceled by ``is_halted``, too."""
        return replace(self, should_stop=lambda: is_halted() or self.is_canceled())

    def for_workers(self, is_halted: CancelCheck) -> RunMonitor:
        """Return a monitor for worker threads: it reports nothing, and is canceled by ``is_halted``, too."""
        return replace(self.stopped_by(is_halted), on_progress=None)

    def listening(self, listener: ProgressCallback) -> RunMonitor:
        """Return a monitor that passes each report to ``listener`` first."""

        def on_progress(step: Progress) -> None:
            listener(step)
            if self.on_progress is not None:
                self.on_progress(step)

        return replace(self, on_progress=on_progress)


NO_MONITOR = RunMonitor()
"""A monitor that reports nothing and is never canceled."""


def _fraction_of_run(stage: str, fraction: float) -> float:
    """Return the fraction of the whole work, given the fraction of a stage."""
    if stage not in STAGE_SHARES:
        return fraction
    before = sum(STAGE_SHARES[name] for name in _STAGES[: _STAGES.index(stage)])
    return before + STAGE_SHARES[stage] * fraction


def iterate_progress(
    run: Callable[[RunMonitor], T], should_stop: CancelCheck | None = None
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
