"""One long piece of work at a time, and what the window says meanwhile; no controls.

Phases: EMPTY -> OPENING -> READY <-> RUNNING or EXPORTING. Whatever runs is a job with its own tag (the
:class:`~napari_srast.gui.runtime.background.BackgroundTask` itself): letting go of the job is what makes a late result harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from psygnal import Signal

from napari_srast.core.progress import Progress
from napari_srast.gui.runtime import background
from napari_srast.gui.runtime.error_report import ErrorContext, error_report

__all__ = ["AppState", "TaskRunner"]


class AppState(Enum):
    """What the window is busy with."""

    EMPTY = "empty"
    OPENING = "opening"
    READY = "ready"
    RUNNING = "running"
    EXPORTING = "exporting"


class TaskRunner:
    """Runs one job at a time and tells its phase, its progress and how it ended.

    Parameters
    ----------
    start
        What runs jobs; by default napari's threads.
    """

    phase_changed = Signal()
    progressed = Signal(Progress)
    said = Signal(str)
    failed = Signal(str)

    def __init__(self, start: Callable[..., background.BackgroundTask] = background.start) -> None:
        self.phase = AppState.EMPTY
        self.report: str | None = None
        """What can be copied and sent about the last job that failed."""
        self._start = start
        self._job: background.BackgroundTask | None = None

    def obstacle(self) -> str | None:
        """Return why nothing that needs a slide can be started now, or None."""
        return "Open a slide first." if self.phase is AppState.EMPTY else self.busy()

    def busy(self) -> str | None:
        """Return why nothing at all can be started now, or None."""
        return {
            AppState.EMPTY: None,
            AppState.OPENING: "Wait until the slide is open, or cancel.",
            AppState.READY: None,
            AppState.RUNNING: "A run is going on; wait for it, or cancel it.",
            AppState.EXPORTING: "Wait until the result is saved, or cancel.",
        }[self.phase]

    def begin(
        self,
        phase: AppState,
        steps: background.Steps,
        done: Callable[[Any], None],
        doing: str,
        failed: Callable[[], None] | None = None,
        circumstances: ErrorContext | None = None,
    ) -> None:
        """Start a job.

        Parameters
        ----------
        phase
            What the window is busy with meanwhile; ``done`` ends it.
        steps
            The work.
        done
            Takes its outcome. What it raises is told like an error of the work.
        doing
            What it is, in words.
        failed
            Runs after an error was told.
        circumstances
            What a report of an error says of the slide and the settings.
        """
        self.let_go()
        last: Progress | None = None

        def step(progress: Progress) -> None:
            nonlocal last
            last = progress
            self.progressed.emit(progress)

        def fail(error: Exception) -> None:
            self.complain(error, doing, last, circumstances)
            if failed is not None:
                failed()

        def finish(outcome: Any) -> None:
            try:
                done(outcome)
            except Exception as error:  # noqa: BLE001 - or the window would wait for ever
                fail(error)

        self.set_phase(phase)
        self._job = self._start(steps, on_step=step, on_done=finish, on_error=fail)

    def complain(
        self,
        error: Exception,
        doing: str,
        last: Progress | None = None,
        circumstances: ErrorContext | None = None,
    ) -> None:
        """Tell an error, keep its report, and be ready for the next thing."""
        self.report = error_report(error, doing, last, circumstances)
        if not self.is_working:
            self.set_phase(self.resting_phase())
        self.failed.emit(background.explain(error, doing))

    def resting_phase(self) -> AppState:
        """Return the phase when nothing runs."""
        raise NotImplementedError

    @property
    def is_working(self) -> bool:
        """Whether a job is under way."""
        return self._job is not None and self._job.active

    def let_go(self) -> None:
        """Stop what runs; nothing of it lands."""
        if self._job is not None:
            self._job.abandon()
            self._job = None

    def set_phase(self, phase: AppState) -> None:
        """Change the phase and tell it."""
        if phase is not self.phase:
            self.phase = phase
            self.phase_changed.emit()
