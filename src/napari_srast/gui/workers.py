"""Long work in a thread, with steps that arrive in the GUI thread and a stop that cannot be missed.

napari's workers take any ``RuntimeError`` for their own deletion and swallow it, and PyTorch raises little else. So the
outcome of a job, good or bad, travels as a value. A job that was abandoned never calls back: a stale result cannot
land.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from napari.qt.threading import create_worker

from napari_srast.errors import Cancelled, SrastError

__all__ = ["Job", "Steps", "explain", "start"]

logger = logging.getLogger(__name__)

Steps = Callable[[Callable[[], bool]], Generator[Any, None, Any]]
"""A generator function that takes the stop token, yields steps and returns the result."""


@dataclass(eq=False)
class Job:
    """A piece of work under way.

    Parameters
    ----------
    stop
        Set to make the work end at its next check.
    active
        False once the job has ended or was abandoned; nothing of it is called back after that.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    active: bool = True

    def abandon(self) -> None:
        """Ask the work to stop and let go of it at once; its thread ends at its next check."""
        self.active = False
        self.stop.set()


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
) -> Job:
    """Run ``steps`` in a thread; the callbacks run in the GUI thread.

    A job that is stopped calls neither ``on_done`` nor ``on_error``.
    """
    job = Job()

    def work() -> Generator[Any, None, _Outcome | None]:
        try:
            return _Outcome(value=(yield from steps(job.stop.is_set)))
        except Cancelled:
            return None
        except Exception as error:  # noqa: BLE001 - whatever went wrong in the thread is told in the window
            return _Outcome(error=error)

    def step(value: Any) -> None:
        if job.active:
            on_step(value)

    def end(outcome: _Outcome | None) -> None:
        if not job.active:
            return
        job.active = False
        if outcome is None:
            return
        if outcome.error is None:
            on_done(outcome.value)
        else:
            on_error(outcome.error)

    create_worker(work, _connect={"yielded": step, "returned": end})
    return job


def explain(error: Exception, doing: str) -> str:
    """Return one sentence for the user; faults of this package are logged with their traceback."""
    if isinstance(error, SrastError):
        return str(error)
    logger.error("unexpected error while %s", doing, exc_info=error)
    detail = " ".join(str(error).split())[:200]
    return f"Unexpected error while {doing} ({type(error).__name__}: {detail}); please report it with the log."
