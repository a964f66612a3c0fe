"""Display, compare, close and export results of the current slide.

Every method runs in the GUI thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from psygnal import Signal

from napari_srast._utils.text import count
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.errors import SrastError
from napari_srast.gui.controllers.comparison import image_difference, settings_on
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.regions import Regions
from napari_srast.gui.controllers.task_runner import AppState, Task, TaskRunner
from napari_srast.gui.export.write import export_steps
from napari_srast.gui.layers.camera import zoom_to_box
from napari_srast.gui.layers.cursor_readout import CursorReadout, PixelReadout
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.layers.side_by_side import raster_bounds
from napari_srast.gui.runtime import background
from napari_srast.gui.runtime.error_report import ErrorContext
from napari_srast.gui.state import slide_loading
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.run_request import RunRequest
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.gui.state.workspace import Workspace

__all__ = ["Results"]


class Results:
    """Display results, compare them and export them.

    Parameters
    ----------
    workspace
        The open slides.
    tasks
        Runs reading and exporting in a background thread.
    regions
        Receives the region of a result whose settings are restored.
    messages
        Receives status and error messages.
    """

    result_added = Signal()
    settings_restored = Signal(UpsampleResult)
    cursor_readout_changed = Signal(PixelReadout)

    def __init__(self, workspace: Workspace, tasks: TaskRunner, regions: Regions, messages: Messages) -> None:
        self.result_changed = workspace.result_changed
        self.display_changed = workspace.display_changed
        self._workspace = workspace
        self._tasks = tasks
        self._regions = regions
        self._messages = messages
        self._cursor_readout = CursorReadout(workspace.viewer, self._displayed, self.cursor_readout_changed.emit)
        workspace.display_failed.connect(self._report_display_error)

    @property
    def all(self) -> list[DisplayedResult]:
        """The results of the current slide."""
        return self._workspace.results

    @property
    def current(self) -> DisplayedResult | None:
        """The displayed result."""
        return self._workspace.result

    @property
    def overlay(self) -> Overlay | None:
        """The gene layers of the displayed result."""
        return self._workspace.overlay

    # ------------------------------------------------------------------ adding

    def add(self, request: RunRequest, displayed: DisplayedResult) -> None:
        """Add the result of a run to its slide, and display or compare it."""
        result, session = displayed.result, request.owner
        if request.against is not None and request.against is session.result:
            session.results.append(displayed)
            difference = image_difference(request.against.result, result)
            self._messages.status_message.emit(f"Done: {request.title} {difference}, shown side by side.")
            self._compare(session, displayed)
            self.result_changed.emit()
            return
        try:
            session.add_result(displayed)
        except Exception:
            self.result_changed.emit()  # the result is in the list, and can be displayed once memory is free
            raise
        self._messages.status_message.emit(
            f"Done: {request.title}, {count(result.n_pixels, 'pixel')}, {count(len(result.genes), 'gene')}."
        )
        if session is self._workspace.current:
            self._announce_added(session)
        elif session.overlay is not None:
            session.overlay.hide()
            session.show_first_genes()

    def add_saved(self, session: SlideSession, displayed: DisplayedResult) -> None:
        """Add a result that was read from disk to its slide, display it and restore its settings."""
        try:
            session.add_result(displayed.on(session.slide))
        except SrastError as error:
            self._messages.error_message.emit(str(error))
            return
        text = " ".join([f"Opened the result {displayed.result.run} with its settings.", *displayed.notices])
        (self._messages.error_message if displayed.notices else self._messages.status_message).emit(text)
        self._announce_added(session)
        self.restore_settings()

    def open_saved(self, run: str) -> None:
        """Read a result from the SpatialData store of the current slide and display it."""
        session = self._workspace.current
        if session is None or not self._tasks.is_idle():
            return
        slide = session.slide

        def on_result(displayed: DisplayedResult) -> None:
            self._tasks.set_state(self._tasks.resting_state())
            if session in self._workspace.sessions:  # its layers may have been removed in the meantime
                self.add_saved(session, displayed)

        steps = background.call(lambda stop: slide_loading.load_run(slide, run, stop))
        self._tasks.start(Task(state=AppState.OPENING, steps=steps, on_result=on_result, activity="opening the result"))
        self._messages.status_message.emit("Opening the result …")

    def _announce_added(self, session: SlideSession) -> None:
        self.result_changed.emit()
        session.show_first_genes()
        if session.region_layer.tool in (None, "edit"):  # do not interrupt the drawing of the next region
            session.region_layer.stop_drawing()
            self.result_added.emit()
            if session.result is not None and session.result.result.region is not None:
                zoom_to_box(self._workspace.viewer, *raster_bounds(session.slide, session.result.result))

    # -------------------------------------------------------------- displaying

    def choose(self, displayed: DisplayedResult) -> None:
        """Display another result of the current slide."""
        session = self._workspace.current
        if session is not None and displayed is not session.result:
            session.choose_result(displayed)
            self.result_changed.emit()
            session.show_first_genes()

    def drop(self) -> None:
        """Close the displayed result."""
        session = self._workspace.current
        if session is not None:
            session.drop_result()
            self.result_changed.emit()
            session.show_first_genes()

    def show_genes(self, genes: Sequence[str]) -> None:
        """Show exactly these genes of the displayed result."""
        if self.overlay is not None:
            self.overlay.show(genes)

    def compare_with(self, other: DisplayedResult | None) -> None:
        """Compare the displayed result with another one on the same pixels, or (None) with the measured counts."""
        if self._workspace.current is not None:
            self._compare(self._workspace.current, other)

    def _compare(self, session: SlideSession, other: DisplayedResult | None) -> None:
        overlay = session.overlay
        if overlay is not None:
            overlay.compare_with(other)
            is_current = session is self._workspace.current
            if other is not None and is_current and overlay.view not in ("before", "side_by_side"):
                overlay.set_view("side_by_side")
                self.display_changed.emit()

    def restore_settings(self) -> None:
        """Set region, genes and settings to those of the displayed result."""
        if self.current is None:
            return
        result, slide = self.current.result, self._workspace.slide
        self._regions.set(result.region)
        settings = result.settings if slide is None else settings_on(slide, result)
        self.settings_restored.emit(dataclasses.replace(result, settings=settings))

    def _displayed(self) -> tuple[Slide, DisplayedResult, Overlay] | None:
        slide, displayed, overlay = self._workspace.slide, self.current, self.overlay
        if slide is None or displayed is None or overlay is None:
            return None
        return slide, displayed, overlay

    def _report_display_error(self, error: Exception) -> None:
        context = None if self.current is None else _context(self.current.result)
        self._tasks.report_error(error, "showing the genes", context=context)

    # --------------------------------------------------------------- exporting

    def export(self, path: Path | None) -> None:
        """Save the displayed result in the background.

        Parameters
        ----------
        path
            File or SpatialData store to write; None writes into the SpatialData store of the slide.
        """
        session = self._workspace.current
        if session is None or self.current is None or not self._tasks.is_idle():
            return
        result, into_slide = self.current.result, path is None
        target = Path(str(result.slide.source.path)) if path is None else path

        def on_result(written: Path) -> None:
            self._tasks.set_state(self._tasks.resting_state())  # the slide may have been closed in the meantime
            self._messages.status_message.emit(f"Saved to {written}")
            if into_slide:
                session.add_run(result.run)
                self.result_changed.emit()

        self._tasks.start(
            Task(
                state=AppState.EXPORTING,
                steps=export_steps(result, target, into_slide=into_slide),
                on_result=on_result,
                activity="saving the result",
                context=_context(result),
            )
        )
        self._messages.status_message.emit("Saving …")

    def disconnect(self) -> None:
        """Disconnect from the viewer."""
        self._cursor_readout.disconnect()


def _context(result: UpsampleResult) -> ErrorContext:
    return ErrorContext(slide=result.slide, settings=result.settings, n_genes=len(result.genes))
