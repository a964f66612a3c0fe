"""The slides that are open and the one that is worked on: opening, switching, closing; no controls.

Every method runs in the GUI thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from psygnal import Signal

from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.task_runner import AppState, TaskRunner
from napari_srast.gui.layers.camera import zoom_to_layers
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.layers.regions import RegionLayer
from napari_srast.gui.runtime import background, gc_pause
from napari_srast.gui.runtime.error_report import ErrorContext
from napari_srast.gui.state import slide_loading
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.preferences import UserPreferences
from napari_srast.gui.state.slide_loading import ExternalSlide, LoadedSlide, shown_elsewhere
from napari_srast.gui.state.slide_session import SlideSession, slide_of

__all__ = ["SlideManager"]


class SlideManager(TaskRunner):
    """Opens slides, switches between them and closes them.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    start
        What runs jobs; by default napari's threads.
    later
        What runs a function once the window has drawn itself; by default at once.
    remembered
        Recent slides and favorite genes; by default those of the user.
    """

    slide_changed = Signal()
    coordinate_system_changed = Signal()
    region_changed = Signal()
    layers_changed = Signal()
    result_changed = Signal()
    shown_changed = Signal()
    not_shown = Signal(Exception)

    def __init__(
        self,
        viewer: ViewerModel,
        *,
        start: Callable[..., background.BackgroundTask] = background.start,
        later: Callable[[Callable[[], None]], None] | None = None,
        remembered: UserPreferences | None = None,
    ) -> None:
        super().__init__(start)
        self.viewer = viewer
        self.slides: list[SlideSession] = []
        self.current: SlideSession | None = None
        self.remembered = UserPreferences.load() if remembered is None else remembered
        self._later = later
        self._adopting = False
        self.is_down = False  # the window or the dock widget has closed
        self._no_regions = RegionLayer(viewer, self.region_changed.emit)
        self.not_shown.connect(self._complain_of_showing)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removing.connect(self._on_removing)
        viewer.layers.events.removed.connect(self._on_removed)

    # -------------------------------------------------------- what is worked on

    @property
    def opened(self) -> LoadedSlide | None:
        """The slide that is worked on, as it was read."""
        return None if self.current is None else self.current.opened

    @property
    def slide(self) -> Slide | None:
        """The slide that is worked on, in its chosen coordinate system."""
        return None if self.current is None else self.current.slide

    @property
    def regions(self) -> RegionLayer:
        """The region layer of that slide."""
        return self._no_regions if self.current is None else self.current.regions

    @property
    def results(self) -> list[DisplayedResult]:
        """The results of that slide."""
        return [] if self.current is None else self.current.results

    @property
    def finished(self) -> DisplayedResult | None:
        """The one of them that is on show."""
        return None if self.current is None else self.current.finished

    @property
    def overlay(self) -> Overlay | None:
        """Its layers."""
        return None if self.current is None else self.current.overlay

    def resting_phase(self) -> AppState:
        """Return the phase when nothing runs."""
        return AppState.EMPTY if self.current is None else AppState.READY

    # ------------------------------------------------------------------ slides

    def open(self, source: Any, **elements: str | None) -> None:
        """Read a slide or a result in a worker and show it; ``elements`` name what was chosen of a slide.

        A slide that is open already is switched to, one that napari-spatialdata shows is taken over: neither is loaded
        twice.
        """
        path = _path_of(source)
        if path is not None and not elements:
            open_already = next((s for s in self.slides if _path_of(s.opened.source) == path), None)
            if open_already is not None:
                self.switch(open_already)
                return
            shown = next((s for s in shown_elsewhere(self.viewer.layers) if _path_of(s.sdata) == path), None)
            if shown is not None:
                self.use_shown(shown)
                return
        self._open(lambda: slide_loading.load(source, **elements), "opening the slide", replace=bool(elements))

    def open_sample(self) -> None:
        """Make and show the built-in synthetic slide."""
        self._open(slide_loading.load_sample, "making the sample slide")

    def use_shown(self, shown: ExternalSlide) -> None:
        """Take over a slide that napari-spatialdata shows, without showing it twice."""
        self._open(
            lambda: slide_loading.load(shown.sdata, coordinate_system=shown.coordinate_system),
            "reading the slide",
            shown,
        )

    def _open(
        self, load: Callable[[], LoadedSlide], doing: str, shown: ExternalSlide | None = None, *, replace: bool = False
    ) -> None:
        # What results were made of stays open beside what was chosen now: nothing unsaved is lost.
        replaced = self.current if replace and not self.results else None

        def done(opened: LoadedSlide) -> None:
            if replaced is not None and replaced in self.slides:
                self._take_out(replaced)
            gc_pause.unfreeze_gc()
            self._keep_aside()  # what was loaded for it, too
            self.show(opened, shown)

        self._keep_aside()
        self.begin(AppState.OPENING, background.once(load), done, doing)
        self.said.emit(f"{doing[0].upper()}{doing[1:]} …")

    def _keep_aside(self) -> None:
        """Let no collection of garbage look through all that lives while a slide is opened or a run goes on."""
        gc_pause.freeze_gc(keep=lambda: self.phase in (AppState.OPENING, AppState.RUNNING) and not self.is_down)

    def show(self, opened: LoadedSlide, shown: ExternalSlide | None = None) -> None:
        """Show a slide and work on it; ``shown`` holds layers of it that are there already."""
        known = next((s for s in self.slides if _same_slide(s.slide, opened.slide)), None)
        if known is not None:
            self._rest()
            self.switch(known)
            if opened.result is not None:
                self.land_saved(known, opened.result)
            return
        new = SlideSession(
            self.viewer,
            opened,
            region_changed=self.region_changed.emit,
            shown_changed=self.shown_changed.emit,
            failed=self.not_shown.emit,
            later=self._later,
        )
        try:
            missing = new.missing_layers(shown)
        except Exception:
            new.disconnect()
            raise
        if self.current is not None:
            self.current.hide()
        self.slides.append(new)
        self.current = new
        if missing:
            self.set_phase(AppState.OPENING)
        self._add_layers(new, missing)

    def _add_layers(self, new: SlideSession, missing: list[Layer]) -> None:
        """Add a slide's layers, one in each turn of the event loop, then begin to work on it."""
        while missing and new in self.slides and not self.is_down:
            layer, *missing = missing
            try:
                with self._taking_charge():
                    self.viewer.add_layer(layer)
            except Exception as error:  # noqa: BLE001 - or the window would wait for ever
                self._close(new)
                self.complain(error, "opening the slide")
                return
            if missing and self._later is not None:
                self._later(partial(self._add_layers, new, missing))
                return
        if new in self.slides and not self.is_down:
            try:
                self._begin_work(new)
            except Exception as error:  # noqa: BLE001 - as above
                self.complain(error, "opening the slide")

    def _complain_of_showing(self, error: Exception) -> None:
        result = None if self.finished is None else self.finished.result
        circumstances = None
        if result is not None:
            circumstances = ErrorContext(slide=result.slide, settings=result.settings, n_genes=len(result.genes))
        self.complain(error, "showing the genes", circumstances=circumstances)

    def _begin_work(self, new: SlideSession) -> None:
        for layer in new.theirs:
            layer.events.affine.connect(self._on_their_affine)
        source = new.slide.source
        if source.path is not None and not source.synthetic:
            self.remembered.add_slide(source.path)
        self._rest()
        self._tell_of_current()
        zoom_to_layers(self.viewer, new.shown_layers)
        notices = " ".join(new.slide.notices)
        self.said.emit(notices or f"{new.title} is open. Draw a region, or run the whole slide.")
        if new.opened.result is not None:
            self.land_saved(new, new.opened.result)

    def land_saved(self, owner: SlideSession, finished: DisplayedResult) -> None:
        """Show a result that came with its slide."""
        raise NotImplementedError

    def _rest(self) -> None:
        """Be ready, unless a run or an export goes on beside."""
        if self.phase in (AppState.EMPTY, AppState.OPENING):
            self.set_phase(self.resting_phase())

    def switch(self, slide: SlideSession) -> None:
        """Work on another open slide; region and results of each are kept."""
        if slide is self.current or slide not in self.slides:
            return
        if self.current is not None:
            self.current.hide()
        self.current = slide
        slide.reveal()
        self._tell_of_current()
        zoom_to_layers(self.viewer, slide.shown_layers)
        self.said.emit(f"{slide.title} is on show.")

    def close(self) -> None:
        """Close the slide that is worked on, with its region and results; the one before it comes on show."""
        if self.current is not None and self.busy() is None:
            self._close(self.current)

    def _close(self, slide: SlideSession) -> None:
        self._take_out(slide)
        if not self.is_working:
            self.set_phase(self.resting_phase())
        self._tell_of_current()

    def _take_out(self, slide: SlideSession) -> None:
        """Remove a slide from the viewer and reveal the one before it."""
        for layer in slide.theirs:
            layer.events.affine.disconnect(self._on_their_affine)
        place = self.slides.index(slide)
        self.slides.remove(slide)
        with self._taking_charge():
            slide.remove()
        if slide is self.current:
            self.current = self.slides[max(place - 1, 0)] if self.slides else None
            if self.current is not None:
                self.current.reveal()

    def _tell_of_current(self) -> None:
        """Let the panels follow the slide that is worked on now."""
        label = self.viewer.canvas.overlays.text
        label.text = "Synthetic slide" if self.slide is not None and self.slide.source.synthetic else ""
        label.position = "top_left"
        label.visible = bool(label.text)
        self.slide_changed.emit()
        self.region_changed.emit()
        self.result_changed.emit()

    def set_coordinate_system(self, name: str) -> None:
        """Show slide, region and result in another coordinate system of the slide."""
        if self.current is not None and name != self.current.slide.coordinate_system:
            self.current.place(name)
            zoom_to_layers(self.viewer, self.current.shown_layers)
            self.coordinate_system_changed.emit()

    # ------------------------------------------------- what happens in the viewer

    @contextlib.contextmanager
    def _taking_charge(self) -> Iterator[None]:
        """Keep what we add and remove ourselves from being taken for the user's doing."""
        before, self._adopting = self._adopting, True
        try:
            yield
        finally:
            self._adopting = before

    def adopt_present(self) -> None:
        """Work on slides whose layers were there before the panel was."""
        for layer in list(self.viewer.layers):
            self._adopt(layer)

    def _on_inserted(self, event: Any) -> None:
        """Adopt slides that the sample menu adds as plain layers; their spots come last."""
        self.layers_changed.emit()
        if not self._adopting:
            self._adopt(event.value)

    def _adopt(self, layer: Layer) -> None:
        """Work on the slide whose spots a layer shows."""
        slide = slide_of(layer)
        if slide is None or role_of(layer) != "spots":
            return
        if all(slide is not known.slide for known in self.slides):
            self.show(LoadedSlide(slide=slide, source=None))

    def _on_removing(self, event: Any) -> None:
        """Let napari's collection, which follows, find what goes with the layer."""
        gc_pause.unfreeze_gc()

    def _on_removed(self, event: Any) -> None:
        """Close slides all of whose layers the user has removed, once napari has removed all that it is about to."""
        self.layers_changed.emit()
        if self._adopting:
            return
        if self._later is not None:
            self._later(self._close_if_gone)
        else:
            self._close_if_gone()

    def _close_if_gone(self) -> None:
        if self.is_down:
            return
        for slide in [slide for slide in self.slides if slide.is_gone]:
            self._close(slide)

    def _on_their_affine(self, event: Any) -> None:
        """Follow napari-spatialdata's coordinate system: its switch moves only its own layers."""
        name = event.source.metadata.get("_current_cs")
        if self.current is None or event.source not in self.current.theirs:
            return
        if name in self.current.slide.transforms:
            self.set_coordinate_system(name)

    def shutdown(self) -> None:
        """Stop whatever runs and stop listening, because the window or the dock widget closes."""
        self.is_down = True  # what was put off comes too late
        gc_pause.unfreeze_gc()
        self.let_go()
        events = self.viewer.layers.events
        events.inserted.disconnect(self._on_inserted)
        events.removing.disconnect(self._on_removing)
        events.removed.disconnect(self._on_removed)
        self._no_regions.disconnect()
        for slide in self.slides:
            for layer in slide.theirs:
                layer.events.affine.disconnect(self._on_their_affine)
            slide.disconnect()


def _path_of(source: Any) -> Path | None:
    """Return where something to open lies on the disk; None for what lives in memory."""
    path = source if isinstance(source, str | Path) else getattr(source, "path", None)
    return None if path is None else Path(path).expanduser().resolve()


def _same_slide(one: Slide, other: Slide) -> bool:
    if one is other:
        return True
    return one.source == other.source and one.source.path is not None and one.n_spots == other.n_spots
