"""Long work in a thread, with steps that arrive in the GUI thread and a stop that cannot be missed.

napari's workers take any ``RuntimeError`` for their own deletion and swallow it, and PyTorch raises little else. So the
outcome of a job, good or bad, travels as a value. A job that was abandoned never calls back: a stale result cannot
land.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from napari.qt.threading import create_worker

from napari_srast._utils.triton_guard import block_triton_import
from napari_srast.errors import Cancelled, SrastError, is_memory_error
from napari_srast.gui.runtime.priority import GivingWay, step_back

__all__ = ["BackgroundTask", "Steps", "aside", "explain", "once", "start", "with_reports"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Steps = Callable[[Callable[[], bool]], Generator[Any, None, Any]]
"""A generator function that takes the stop token, yields steps and returns the result."""
_giving_way = GivingWay()


class BackgroundTask:
    """A piece of work under way; nothing of it is called back once it has ended or was abandoned.

    The thread's worker outlives its work for a while, so a job that ended keeps neither its callbacks nor its input.
    """

    def __init__(
        self,
        steps: Steps,
        on_step: Callable[[Any], None],
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._steps: Steps | None = steps
        self._callbacks: tuple[Callable, Callable, Callable] | None = (on_step, on_done, on_error)
        self._stop = threading.Event()

    @property
    def active(self) -> bool:
        """Whether the job may still call back."""
        return self._callbacks is not None

    def abandon(self) -> None:
        """Ask the work to stop and let go of it at once; its thread ends at its next check."""
        self._stop.set()
        self._callbacks = None

    def work(self) -> Generator[Any, None, _Outcome | None]:
        """Do the work, in the thread."""
        steps, self._steps = self._steps, None
        assert steps is not None
        try:
            return _Outcome(value=(yield from steps(self._stop.is_set)))
        except Cancelled:
            return None
        except Exception as error:  # noqa: BLE001 - whatever went wrong in the thread is told in the window
            return _Outcome(error=error)

    def step(self, value: Any) -> None:
        """Pass a step on, in the GUI thread."""
        if self._callbacks is not None:
            self._callbacks[0](value)

    def end(self, outcome: _Outcome | None) -> None:
        """Pass the outcome on, in the GUI thread."""
        callbacks, self._callbacks = self._callbacks, None
        if callbacks is None or outcome is None:
            return
        if outcome.error is None:
            callbacks[1](outcome.value)
        else:
            callbacks[2](outcome.error)


@dataclass(frozen=True)
class _Outcome:
    value: Any = None
    error: Exception | None = None


def start(
    steps: Steps,
    *,
    on_step: Callable[[Any], None],
    on_done: Callable[[Any], None],
    on_error: Callable[[Exception], None],
) -> BackgroundTask:
    """Run ``steps`` in a thread; the callbacks run in the GUI thread.

    A job that is stopped calls neither ``on_done`` nor ``on_error``.
    """
    block_triton_import()
    job = BackgroundTask(steps, on_step, on_done, on_error)
    # Functions, not the job's methods: the signals keep only functions alive.
    create_worker(
        job.work, _connect={"yielded": lambda value: job.step(value), "returned": lambda outcome: job.end(outcome)}
    )
    return job


def once(function: Callable[[], Any]) -> Steps:
    """Turn a plain function into a job of a single step."""

    def steps(should_stop: Callable[[], bool]) -> Generator[Any, None, Any]:
        yield from ()
        return function()

    return steps


def aside(steps: Steps) -> Steps:
    """Let the window go before all that a job computes.

    It gets a thread of its own: that of napari's worker goes back to a pool that others use, too, and a thread that has
    stepped back may not step forward again.
    """

    def run(should_stop: Callable[[], bool]) -> Generator[Any, None, Any]:
        def drain(report: Callable[[Any], None]) -> Any:
            going_on = steps(should_stop)
            while True:
                try:
                    report(next(going_on))
                except StopIteration as done:
                    return done.value

        with _giving_way:
            return (yield from with_reports(drain, step_back))

    return run


def with_reports(
    function: Callable[[Callable[[Any], None]], T], prepare: Callable[[], None] | None = None
) -> Generator[Any, None, T]:
    """Run a function that reports from any thread, and yield its reports as they come; ``prepare`` its thread first."""
    reports: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with ThreadPoolExecutor(1, initializer=prepare) as pool:
        future = pool.submit(function, reports.put)
        future.add_done_callback(lambda _: reports.put(None))
        while (report := reports.get()) is not None:
            yield report
        return future.result()


def explain(error: Exception, doing: str) -> str:
    """Return one sentence for the user; faults of this package are logged with their traceback."""
    if isinstance(error, SrastError):
        return str(error)
    if is_memory_error(error):
        return f"This computer ran out of memory while {doing}; close other programs, or ask for less at once."
    logger.error("unexpected error while %s", doing, exc_info=error)
    detail = " ".join(str(error).split())[:200]
    return f"Unexpected error while {doing} ({type(error).__name__}: {detail}); press 'Copy report' and report it."
