"""Panel below the tabs: estimate, Run, Queue and Cancel, progress, status and error messages."""

from __future__ import annotations

import time

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from napari_srast.core.progress import Progress
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.state.run_estimate import duration
from napari_srast.gui.widgets.common import MessageArea, button, label
from napari_srast.gui.widgets.tooltips import allow, describe

__all__ = ["RunBar"]

_STAGES = {  # descriptions; the command line shows the names
    "raster": "creating the pixels",
    "align": "fitting features",
    "calibrate": "calibrating on this slide",
    "split": "dividing the counts",
    "checks": "checking the result",
    "cells": "sharing the counts among cells",
    "signatures": "scoring gene sets",
    "structure": "testing genes",
    "colocalization": "comparing genes",
}
_BEGINNINGS = {AppState.OPENING: "opening", AppState.EXPORTING: "writing"}  # before the first report of progress
# No red has enough contrast on both of napari's themes, so the message has its own background.
_ERROR_STYLE = "color: #ffffff; background: #b3131f; font-weight: bold; padding: 4px; border-radius: 3px;"


class RunBar(QWidget):
    """Start and cancel runs; show their estimate, progress and messages.

    Parameters
    ----------
    controller
        Controller of the window.
    """

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
        # Qt's busy indicator is animated. With the canvas in the same window, every step of it draws the whole window
        # with OpenGL, which without a graphics card takes more processor time than opening a slide.
        self._clock = QTimer(self)
        self._clock.setInterval(1000)
        self._clock.timeout.connect(self._show_elapsed)
        describe(self.progress, "run_progress")
        self.waiting = label()
        self.preparation = label()
        self.status = label()
        self.message = MessageArea(self.status)
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
        column.addWidget(self.preparation)
        row = QHBoxLayout()
        row.addWidget(self.message, 1)
        row.addWidget(self.report)
        column.addLayout(row)
        controller.tasks.state_changed.connect(self.refresh)
        controller.tasks.progress_changed.connect(self._on_progress)
        controller.runs.queue_changed.connect(self._on_queue)
        controller.preparation.changed.connect(self._on_preparation)
        controller.messages.status_message.connect(self.show_status)
        controller.messages.error_message.connect(self.show_error)
        self.refresh()
        self._on_queue()
        self._on_preparation()

    def refresh(self) -> None:
        """Enable the controls that can be used now; show the progress bar only while a task runs."""
        state = self._controller.tasks.state
        busy = state in (AppState.OPENING, AppState.RUNNING, AppState.EXPORTING)
        allow(self.cancel, None if busy else "Nothing is running.")
        self.progress.setVisible(busy)
        if busy:
            self._started = time.monotonic()
            self.progress.setValue(0)
            self.progress.setFormat(_BEGINNINGS.get(state, "starting"))
        if state is AppState.OPENING:
            self._clock.start()
        else:
            self._clock.stop()

    def allow_runs(self, problem: str | None) -> None:
        """Enable Run and Queue, or disable them and show the reason.

        Parameters
        ----------
        problem
            Problem of the region or the settings; None if there is none.
        """
        controller = self._controller
        allow(self.run, controller.tasks.obstacle() or problem)
        idle = None if controller.tasks.state is AppState.RUNNING else "Nothing is running; press Run."
        allow(self.queue, ("Open a slide first." if controller.slides.slide is None else None) or idle or problem)

    def show_status(self, text: str) -> None:
        """Show a status message."""
        self._show(text, "")

    def show_error(self, text: str) -> None:
        """Show an error message until the next message."""
        self._show(text, _ERROR_STYLE)

    def _show(self, text: str, style: str) -> None:
        self.status.setStyleSheet(style)
        self.status.setText(text)
        self.message.updateGeometry()
        self.message.show_first_line()
        self.report.setVisible(self._controller.messages.error_report is not None)

    def _copy_report(self) -> None:
        clipboard = QApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(self._controller.messages.error_report)
        self.show_status("Copied the error report.")

    def _on_queue(self) -> None:
        requests = self._controller.runs.waiting
        self.waiting.setText("Queued: " + "; ".join(request.title for request in requests) if requests else "")
        self.waiting.setVisible(bool(requests))

    def _show_elapsed(self) -> None:
        self.progress.setFormat(f"opening, {time.monotonic() - self._started:.0f} s")

    def _on_preparation(self) -> None:
        text = self._controller.preparation.text
        self.preparation.setText(text)
        self.preparation.setVisible(bool(text))

    def _on_progress(self, progress: Progress) -> None:
        if progress.fraction > 0:
            self._clock.stop()
        self.progress.setValue(round(1000 * progress.fraction))
        part = f" {progress.done} of {progress.total}" if progress.total > 1 else ""
        elapsed = time.monotonic() - self._started
        left = ""
        if 0.05 < progress.fraction < 1 and elapsed > 2:
            left = f", {duration(elapsed * (1 - progress.fraction) / progress.fraction)} left"
        self.progress.setFormat(f"{_STAGES.get(progress.stage, progress.stage)}{part}{left}")
