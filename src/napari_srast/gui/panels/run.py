"""The part of the window that is always there: estimate, Run, Queue, Cancel, progress, and what was said or failed."""

from __future__ import annotations

import time

from qtpy.QtWidgets import QApplication, QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from napari_srast.core.progress import Progress
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.widgets.common import button, label
from napari_srast.gui.widgets.tooltips import allow, describe

__all__ = ["RunBar", "duration"]

_STAGES = {  # as people would say them; the command line names them as the paper does
    "raster": "laying out pixels",
    "align": "learning the tissue",
    "calibrate": "trying it on this slide",
    "split": "splitting counts",
    "checks": "checking the sums",
}
# No red can be read on both of napari's themes, so it brings its own ground.
_ALARM = "color: #ffffff; background: #b3131f; font-weight: bold; padding: 4px; border-radius: 3px;"


class RunBar(QWidget):
    """Estimate, Run, Queue, Cancel, progress and status."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._started = 0.0
        self.estimate = label()
        self.run = button("run", "Run", lambda: None)
        self.queue = button("queue", "Queue", lambda: None)
        self.cancel = button("cancel", "Cancel", controller.runs.cancel)
        self.help = button("help", "?", lambda: None)
        self.help.setMaximumWidth(30)
        self.report = button("copy_report", "Copy report", self._copy_report)
        self.report.setVisible(False)
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.setTextVisible(True)
        describe(self.progress, "run_progress")
        self.waiting = label()
        self.status = label()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.estimate)
        row = QHBoxLayout()
        row.addWidget(self.run, 3)
        row.addWidget(self.queue, 1)
        row.addWidget(self.cancel, 1)
        row.addWidget(self.help)
        column.addLayout(row)
        column.addWidget(self.progress)
        column.addWidget(self.waiting)
        told = QHBoxLayout()
        told.addWidget(self.status, 1)
        told.addWidget(self.report)
        column.addLayout(told)
        controller.tasks.state_changed.connect(self.refresh)
        controller.tasks.progress_changed.connect(self._on_progress)
        controller.runs.queue_changed.connect(self._on_queue)
        controller.messages.status_message.connect(self.say)
        controller.messages.error_message.connect(self.complain)
        self.refresh()
        self._on_queue()

    def refresh(self) -> None:
        """Enable what can be done and show progress only while something runs."""
        phase = self._controller.tasks.state
        busy = phase in (AppState.OPENING, AppState.RUNNING, AppState.EXPORTING)
        allow(self.cancel, None if busy else "Nothing is running.")
        self.progress.setVisible(busy)
        if busy:
            self._started = time.monotonic()
            counted = phase in (AppState.RUNNING, AppState.EXPORTING)
            self.progress.setRange(0, 1000 if counted else 0)  # 0 to 0: it moves without an end
            self.progress.setValue(0)
            self.progress.setFormat("starting" if counted else phase.value)

    def allow_runs(self, problem: str | None) -> None:
        """Enable Run and Queue, or say what is in the way: ``problem`` is one of the region or the settings."""
        controller = self._controller
        allow(self.run, controller.tasks.obstacle() or problem)
        idle = None if controller.tasks.state is AppState.RUNNING else "Nothing is running: press Run."
        allow(self.queue, ("Open a slide first." if controller.slides.slide is None else None) or idle or problem)

    def say(self, text: str) -> None:
        """Show what happened."""
        self.status.setStyleSheet("")
        self.status.setText(text)

    def complain(self, text: str) -> None:
        """Show what went wrong, until the next thing happens."""
        self.status.setStyleSheet(_ALARM)
        self.status.setText(text)
        self.report.setVisible(self._controller.messages.error_report is not None)

    def _copy_report(self) -> None:
        clipboard = QApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(self._controller.messages.error_report)
        self.say("The report of the last error was copied.")

    def _on_queue(self) -> None:
        tasks = self._controller.runs.waiting
        self.waiting.setText("Waiting: " + "; ".join(task.title for task in tasks) if tasks else "")
        self.waiting.setVisible(bool(tasks))

    def _on_progress(self, progress: Progress) -> None:
        self.progress.setValue(round(1000 * progress.fraction))
        part = f" {progress.done} of {progress.total}" if progress.total > 1 else ""
        elapsed = time.monotonic() - self._started
        left = ""
        if 0.05 < progress.fraction < 1 and elapsed > 2:
            left = f", {duration(elapsed * (1 - progress.fraction) / progress.fraction)} left"
        self.progress.setFormat(f"{_STAGES.get(progress.stage, progress.stage)}{part}{left}")


def duration(seconds: float) -> str:
    """Write a time as people say it."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
