"""Open slides, the current one, and signals about changes to them."""

from __future__ import annotations

from napari.components import ViewerModel
from psygnal import Signal

from napari_srast.core.slide import Slide
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.layers.regions import RegionLayer
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.state.slide_session import Schedule, SessionCallbacks, SlideSession

__all__ = ["Workspace"]


class Workspace:
    """State that the controllers of one window share.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    schedule
        Runs a function after the window has been drawn; None runs it at once.

    Attributes
    ----------
    sessions
        The open slides, in the order of opening.
    current
        The slide that the panels show; None if no slide is open.
    shows_all
        Whether the other slides are shown next to the current one.
    display_failed
        Signal with the error of a gene layer that could not be drawn.
    session_closing, session_closed
        Signals with the slide, before and after it is closed.
    """

    slide_changed = Signal()
    coordinate_system_changed = Signal()
    region_changed = Signal()
    tool_changed = Signal()
    result_changed = Signal()
    display_changed = Signal()
    display_failed = Signal(Exception)
    session_closing = Signal(SlideSession)
    session_closed = Signal(SlideSession)

    def __init__(self, viewer: ViewerModel, schedule: Schedule | None = None) -> None:
        self.viewer = viewer
        self.schedule = schedule
        self.sessions: list[SlideSession] = []
        self.current: SlideSession | None = None
        self.shows_all = False
        self._empty_region = RegionLayer(viewer, self.region_changed.emit, self.tool_changed.emit)

    @property
    def slide(self) -> Slide | None:
        """The current slide, in its chosen coordinate system."""
        return None if self.current is None else self.current.slide

    @property
    def region_layer(self) -> RegionLayer:
        """The region layer of the current slide."""
        return self._empty_region if self.current is None else self.current.region_layer

    @property
    def results(self) -> list[DisplayedResult]:
        """The results of the current slide."""
        return [] if self.current is None else self.current.results

    @property
    def result(self) -> DisplayedResult | None:
        """The displayed result of the current slide."""
        return None if self.current is None else self.current.result

    @property
    def overlay(self) -> Overlay | None:
        """The gene layers of the displayed result."""
        return None if self.current is None else self.current.overlay

    def new_session(self, loaded: LoadedSlide) -> SlideSession:
        """Return a session for a slide, connected to the signals; it is not added to ``sessions``."""
        callbacks = SessionCallbacks(
            region_changed=self.region_changed.emit,
            tool_changed=self.tool_changed.emit,
            display_changed=self.display_changed.emit,
            display_failed=self.display_failed.emit,
            schedule=self.schedule,
        )
        return SlideSession(self.viewer, loaded, callbacks)

    def announce_current(self) -> None:
        """Emit that another slide is current, and label synthetic slides on the canvas."""
        label = self.viewer.canvas.overlays.text
        label.text = "Synthetic slide" if self.slide is not None and self.slide.source.synthetic else ""
        label.position = "top_left"
        label.visible = bool(label.text)
        self.slide_changed.emit()
        self.region_changed.emit()
        self.result_changed.emit()

    def disconnect(self) -> None:
        """Disconnect from the viewer."""
        self._empty_region.disconnect()
        for session in self.sessions:
            session.disconnect()
