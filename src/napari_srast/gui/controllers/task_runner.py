"""Run one background task at a time and track the state of the window.

States: EMPTY -> OPENING -> READY <-> RUNNING or EXPORTING. An abandoned
:class:`~napari_srast.gui.runtime.background.BackgroundTask` never calls back, so a late result has no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from psygnal import Signal

from napari_srast.core.progress import Progress
from napari_srast.errors import ChoiceError
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.runtime import background, gc_pause
from napari_srast.gui.runtime.error_report import ErrorContext, error_report

__all__ = ["AppState", "Task", "TaskRunner"]


class AppState(Enum):
    """State of the window."""

    EMPTY = "empty"
    OPENING = "opening"
    READY = "ready"
    RUNNING = "running"
    EXPORTING = "exporting"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A unit of background work.

    Parameters
    ----------
    state
        State of the window while the task runs; ``on_result`` must change it.
    steps
        Generator function that does the work in a thread.
    on_result
        Called in the GUI thread with the result. An exception that it raises is handled like an error of the work.
    activity
        Description such as "opening the slide", for error messages.
    on_error
        Called in the GUI thread after an error was reported.
    on_choice
        Does the work with a choice, given option and name, if the work raised a
        :class:`~napari_srast.errors.ChoiceError`.
    context
        Slide and settings for the error report.
    can_stop
        Whether the work can be canceled.
    """

    state: AppState
    steps: background.Steps
    on_result: Callable[[Any], None]
    activity: str
    on_error: Callable[[], None] | None = None
    on_choice: Callable[[str, str], None] | None = None
    context: ErrorContext | None = None
    can_stop: bool = True


class TaskRunner:
    """Run one task at a time; emit the state of the window and the progress of the task.

    Parameters
    ----------
    messages
        Receives errors of tasks.
    has_slide
        Returns whether a slide is open; decides the state when no task runs.

    Attributes
    ----------
    choice_needed
        Signal with the error of a task that needs a choice, and a function that does the work with a name. If nothing
        is connected, the error is reported.
    """

    choice_needed = Signal(ChoiceError, object)
    state_changed = Signal()
    progress_changed = Signal(Progress)

    def __init__(self, messages: Messages, has_slide: Callable[[], bool]) -> None:
        self.state = AppState.EMPTY
        self.is_shut_down = False
        """Whether the window or the dock widget has closed."""
        self._messages = messages
        self._has_slide = has_slide
        self._running: background.BackgroundTask | None = None
        self._unstoppable: str | None = None

    def obstacle(self) -> str | None:
        """Return why no action that needs a slide can start now; None if it can."""
        return "Open a slide first." if self.state is AppState.EMPTY else self.busy_reason()

    def busy_reason(self) -> str | None:
        """Return why no task can start now; None if it can."""
        return {
            AppState.EMPTY: None,
            AppState.OPENING: "Wait until the slide is open, or cancel.",
            AppState.READY: None,
            AppState.RUNNING: "A run is in progress; wait for it, or cancel it.",
            AppState.EXPORTING: "Wait until the result is saved, or cancel.",
        }[self.state]

    def is_idle(self) -> bool:
        """Return whether a task can start now; show the reason if it cannot."""
        busy = self.busy_reason()
        if busy is not None:
            self._messages.error_message.emit(busy)
        return busy is None

    def start(self, task: Task) -> None:
        """Start a task; a task that is still running is abandoned."""
        self.abandon()
        last: Progress | None = None

        def on_step(progress: Progress) -> None:
            nonlocal last
            last = progress
            self.progress_changed.emit(progress)

        def on_error(error: Exception) -> None:
            if isinstance(error, ChoiceError) and task.on_choice is not None and len(self.choice_needed):
                self.set_state(self.resting_state())
                self.choice_needed.emit(error, partial(task.on_choice, error.option))
                return
            self.report_error(error, task.activity, last, task.context)
            if task.on_error is not None:
                task.on_error()

        def on_done(result: Any) -> None:
            self._messages.error_report = None  # of an earlier task
            try:
                task.on_result(result)
            except Exception as error:  # noqa: BLE001 - otherwise the window would stay busy forever
                on_error(error)

        # The task starts first: if showing the new state fails, the window is ready again after the task.
        self._running = background.start(task.steps, on_step=on_step, on_done=on_done, on_error=on_error)
        self._unstoppable = None if task.can_stop else task.activity  # the task would keep its slide in memory
        self.set_state(task.state)

    def compute(self, steps: background.Steps, on_result: Callable[[Any], None], activity: str) -> None:
        """Compute something in the background, at low priority.

        Parameters
        ----------
        steps
            Generator function that does the work in a thread.
        on_result
            Called in the GUI thread with the result, when the window is ready again.
        activity
            Description such as "finding domains", for the status and for error messages.
        """

        def on_done(result: Any) -> None:
            self.set_state(self.resting_state())
            on_result(result)

        self.start(
            Task(state=AppState.RUNNING, steps=background.low_priority(steps), on_result=on_done, activity=activity)
        )
        self._emit_activity(activity)

    def write(self, function: Callable[[], Any], on_written: Callable[[Any], str], activity: str) -> None:
        """Write a file in the background, without a way to cancel.

        Parameters
        ----------
        function
            Writes the file in a thread.
        on_written
            Called in the GUI thread with what the function returns; returns the status message.
        activity
            Description such as "saving the table", for the status and for error messages.
        """

        def on_done(result: Any) -> None:
            self.set_state(self.resting_state())
            self._messages.status_message.emit(on_written(result))

        self.start(
            Task(
                state=AppState.EXPORTING,
                steps=background.single_step(function),
                on_result=on_done,
                activity=activity,
                can_stop=False,
            )
        )
        self._emit_activity(activity)

    def _emit_activity(self, activity: str) -> None:
        if self.is_working:
            self._messages.status_message.emit(f"{activity[0].upper()}{activity[1:]} …")

    def report_error(
        self,
        error: Exception,
        activity: str,
        progress: Progress | None = None,
        context: ErrorContext | None = None,
    ) -> None:
        """Show an error, store its report, and return to the resting state unless a task runs.

        Parameters
        ----------
        error
            The exception.
        activity
            What failed, such as "opening the slide".
        progress
            Last progress before the error.
        context
            Slide and settings for the report.
        """
        self._messages.error_report = error_report(error, activity, progress, context)
        if not self.is_working:
            self.set_state(self.resting_state())
        self._messages.error_message.emit(background.error_message(error, activity))

    def resting_state(self) -> AppState:
        """Return the state of the window when no task runs."""
        return AppState.READY if self._has_slide() else AppState.EMPTY

    @property
    def is_working(self) -> bool:
        """Whether a task is running."""
        return self._running is not None and self._running.active

    @property
    def unstoppable_activity(self) -> str | None:
        """What the running task does, if it cannot be canceled."""
        return self._unstoppable if self.is_working else None

    def abandon(self) -> None:
        """Stop the running task and ignore its result."""
        if self._running is not None:
            self._running.abandon()
            self._running = None

    def set_state(self, state: AppState) -> None:
        """Set the state of the window and emit the change."""
        if state is not self.state:
            self.state = state
            self.state_changed.emit()

    def pause_gc(self) -> None:
        """Pause full garbage collection while a slide loads or a run is in progress."""
        gc_pause.freeze_gc(keep=lambda: self.state in (AppState.OPENING, AppState.RUNNING) and not self.is_shut_down)

    def shutdown(self) -> None:
        """Abandon the running task because the window or the dock widget closes."""
        self.is_shut_down = True  # functions that were scheduled for later check this
        gc_pause.unfreeze_gc()
        self.abandon()
