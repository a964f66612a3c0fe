"""One long piece of work at a time, and what the window says meanwhile; no controls.

Phases: EMPTY -> OPENING -> READY <-> RUNNING or EXPORTING. Whatever runs is a job with its own tag (the
:class:`~napari_srast.gui.workers.Job` itself): letting go of the job is what makes a late result harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from psygnal import Signal

from napari_srast.gui import workers
from napari_srast.slide import Progress

__all__ = ["Jobs", "Phase"]


class Phase(Enum):
    """What the window is busy with."""

    EMPTY = "empty"
    OPENING = "opening"
    READY = "ready"
    RUNNING = "running"
    EXPORTING = "exporting"


class Jobs:
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

    def __init__(self, start: Callable[..., workers.Job] = workers.start) -> None:
        self.phase = Phase.EMPTY
        self._start = start
        self._job: workers.Job | None = None

    def obstacle(self) -> str | None:
        """Return why nothing that needs a slide can be started now, or None."""
        return "Open a slide first." if self.phase is Phase.EMPTY else self.busy()

    def busy(self) -> str | None:
        """Return why nothing at all can be started now, or None."""
        return {
            Phase.EMPTY: None,
            Phase.OPENING: "Wait until the slide is open, or cancel.",
            Phase.READY: None,
            Phase.RUNNING: "A run is going on; wait for it, or cancel it.",
            Phase.EXPORTING: "Wait until the result is saved, or cancel.",
        }[self.phase]

    def begin(
        self,
        phase: Phase,
        steps: workers.Steps,
        done: Callable[[Any], None],
        doing: str,
        failed: Callable[[], None] | None = None,
    ) -> None:
        """Start a job; ``done`` takes its outcome, ``failed`` runs after an error was told."""
        self.let_go()

        def fail(error: Exception) -> None:
            self.set_phase(self.resting_phase())
            self.failed.emit(workers.explain(error, doing))
            if failed is not None:
                failed()

        self.set_phase(phase)
        self._job = self._start(steps, on_step=self.progressed.emit, on_done=done, on_error=fail)

    def resting_phase(self) -> Phase:
        """Return the phase when nothing runs."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Stop what runs; nothing of it lands."""
        if self._job is not None:
            self._job.abandon()
            self._job = None

    def set_phase(self, phase: Phase) -> None:
        """Change the phase and tell it."""
        if phase is not self.phase:
            self.phase = phase
            self.phase_changed.emit()
