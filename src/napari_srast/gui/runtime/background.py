"""Run work in a background thread; its progress and its result arrive in the GUI thread.

napari's workers mistake every ``RuntimeError`` for their own deletion and suppress it, and PyTorch raises little else.
Therefore the outcome of a task, a result or an error, is returned as a value. An abandoned task never calls back, so a
stale result has no effect.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

from napari.qt.threading import create_worker

from napari_srast._utils.triton_guard import block_triton_import
from napari_srast.core.progress import Progress, RunMonitor, iterate_progress
from napari_srast.errors import Cancelled, SrastError, is_memory_error, out_of_memory_message
from napari_srast.gui.runtime.priority import ShortSwitchInterval, lower_thread_priority
from napari_srast.gui.runtime.warning_filters import ignore_torch_deprecations

__all__ = ["BackgroundTask", "Steps", "call", "error_message", "low_priority", "reported", "single_step", "start"]

Steps = Callable[[Callable[[], bool]], Generator[Any, None, Any]]
"""A generator function that takes ``should_stop``, yields progress and returns the result."""

logger = logging.getLogger(__name__)
_switch_interval = ShortSwitchInterval()


class BackgroundTask:
    """Work in progress; no callback is called after it has ended or was abandoned.

    napari's worker lives longer than its work, so a task that has ended drops its callbacks and its input.

    Parameters
    ----------
    steps
        The work.
    on_step
        Called with every value that the work yields.
    on_done
        Called with the result.
    on_error
        Called with the exception that the work raised.
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
        """Whether the task may still call back."""
        return self._callbacks is not None

    def abandon(self) -> None:
        """Ask the work to stop and drop the callbacks; the thread ends at its next check."""
        self._stop.set()
        self._callbacks = None

    def work(self) -> Generator[Any, None, _Outcome | None]:
        """Do the work, in the background thread."""
        steps, self._steps = self._steps, None
        assert steps is not None
        ignore_torch_deprecations()  # again, because napari shows every warning of a worker
        try:
            return _Outcome(value=(yield from steps(self._stop.is_set)))
        except Cancelled:
            return None
        except Exception as error:  # noqa: BLE001 - every error of the thread is shown in the window
            return _Outcome(error=error)

    def step(self, value: Any) -> None:
        """Pass on a yielded value, in the GUI thread."""
        if self._callbacks is not None:
            self._callbacks[0](value)

    def end(self, outcome: _Outcome | None) -> None:
        """Pass on the result or the error, in the GUI thread."""
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
    """Run ``steps`` in a background thread; the callbacks run in the GUI thread.

    A stopped task calls neither ``on_done`` nor ``on_error``. See :class:`BackgroundTask` for the parameters.
    """
    block_triton_import()
    ignore_torch_deprecations()
    task = BackgroundTask(steps, on_step, on_done, on_error)
    # Functions instead of methods of the task: the signals keep only functions alive.
    create_worker(
        task.work,
        _connect={
            "yielded": lambda value: task.step(value),
            "returned": lambda outcome: task.end(outcome),
            "finished": lambda: task.abandon(),  # napari may drop the work half done; then it must stop
        },
    )
    return task


def single_step(function: Callable[[], Any]) -> Steps:
    """Turn a function into a task without progress, which cannot be stopped."""
    return call(lambda should_stop: function())


def reported(function: Callable[[RunMonitor], Any]) -> Steps:
    """Turn a function that takes a monitor into a task that reports its progress and can be stopped."""
    return partial(iterate_progress, function)


def call(function: Callable[[Callable[[], bool]], Any]) -> Steps:
    """Turn a function that takes ``should_stop`` into a task without progress."""

    def steps(should_stop: Callable[[], bool]) -> Generator[Any, None, Any]:
        yield from ()
        return function(should_stop)

    return steps


def low_priority(steps: Steps) -> Steps:
    """Give the GUI thread priority over a task.

    The task runs in a thread of its own: napari's thread returns to a pool that others use, and a thread cannot raise
    its priority again.
    """

    def run(should_stop: Callable[[], bool]) -> Generator[Progress, None, Any]:
        def work(monitor: RunMonitor) -> Any:
            lower_thread_priority()
            assert monitor.on_progress is not None
            with contextlib.closing(steps(monitor.is_canceled)) as iterator:
                while True:
                    try:
                        monitor.on_progress(next(iterator))
                    except StopIteration as done:
                        return done.value

        with _switch_interval:
            return (yield from iterate_progress(work, should_stop))

    return run


def error_message(error: Exception, activity: str) -> str:
    """Return one sentence about an error for the user; unexpected errors are logged with their traceback.

    Parameters
    ----------
    error
        The exception.
    activity
        What failed, such as "opening the slide".
    """
    if isinstance(error, SrastError):
        return str(error)
    if is_memory_error(error):
        return out_of_memory_message(f"while {activity}")
    logger.error("unexpected error while %s", activity, exc_info=error)
    detail = " ".join(str(error).split())[:200]
    return f"Unexpected error while {activity} ({type(error).__name__}: {detail}); press 'Copy report' and report it."
