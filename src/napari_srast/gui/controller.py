"""The state of the dock widget, and all that it does to the viewer; no controls.

Phases: EMPTY -> OPENING -> READY <-> RUNNING or EXPORTING. Whatever runs is a job with its own tag (the :class:`Job`
itself): letting go of the job is what makes a late result harmless. Every method runs in the GUI thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer
from psygnal import Signal
from scipy import sparse

from napari_srast.errors import RegionError, SrastError
from napari_srast.gui import opening, workers
from napari_srast.gui.layers import KEY, place_layers, role_of, slide_layer_data, slide_title, world_extent
from napari_srast.gui.opening import Opened, Shown
from napari_srast.gui.overlay import Overlay, first_genes
from napari_srast.gui.regions import RegionLayer, Tool
from napari_srast.gui.trust import Trust, measure_trust
from napari_srast.slide import Progress, Region, Slide, UpsampleResult, UpsampleSettings

__all__ = ["Controller", "Finished", "Phase"]


class Phase(Enum):
    """What the window is busy with."""

    EMPTY = "empty"
    OPENING = "opening"
    READY = "ready"
    RUNNING = "running"
    EXPORTING = "exporting"


@dataclass(frozen=True, eq=False)
class Finished:
    """A result with what was worked out in its thread: its counts by columns, and its checks."""

    result: UpsampleResult
    columns: sparse.csc_matrix
    trust: Trust


class Controller:
    """Opens slides, keeps the region, runs jobs and lays results over the histology.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    start
        What runs jobs; by default napari's threads.
    later
        What runs a function once the window has drawn itself; by default at once.
    """

    phase_changed = Signal()
    slide_changed = Signal()
    coordinate_system_changed = Signal()
    region_changed = Signal()
    layers_changed = Signal()
    progressed = Signal(Progress)
    result_changed = Signal()
    shown_changed = Signal()
    said = Signal(str)
    failed = Signal(str)

    def __init__(
        self,
        viewer: ViewerModel,
        *,
        start: Callable[..., workers.Job] = workers.start,
        later: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.viewer = viewer
        self.opened: Opened | None = None
        self.finished: Finished | None = None
        self.overlay: Overlay | None = None
        self.phase = Phase.EMPTY
        self._start = start
        self._later = later
        self._job: workers.Job | None = None
        self._slide_layers: list[Layer] = []
        self._followed: list[Layer] = []
        self._adopting = False
        self.regions = RegionLayer(viewer, self.region_changed.emit)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)

    # ---------------------------------------------------------------- slide

    @property
    def slide(self) -> Slide | None:
        """The slide on show, in its chosen coordinate system."""
        return None if self.opened is None else self.opened.slide

    def open(self, source: Any, **elements: str | None) -> None:
        """Read a slide in a worker and show it; ``elements`` name the chosen spots, table, image and system."""
        self._open(lambda: opening.load(source, **elements), "opening the slide")

    def open_sample(self) -> None:
        """Make and show the built-in synthetic slide."""
        self._open(opening.load_sample, "making the sample slide")

    def use_shown(self, shown: Shown) -> None:
        """Take over a slide that napari-spatialdata shows, without showing it twice."""
        self._open(
            lambda: opening.load(shown.sdata, coordinate_system=shown.coordinate_system), "reading the slide", shown
        )

    def _open(self, load: Callable[[], Opened], doing: str, shown: Shown | None = None) -> None:
        def done(opened: Opened) -> None:
            self._set_phase(Phase.READY)
            self.show(opened, shown)

        self._begin(Phase.OPENING, _once(load), done, doing)
        self.said.emit(f"{doing[0].upper()}{doing[1:]} …")

    def show(self, opened: Opened, shown: Shown | None = None) -> None:
        """Show a slide in place of the one before; ``shown`` holds layers of it that are there already."""
        self._let_go()
        self._remove_slide()
        self.opened = opened
        slide = opened.slide
        theirs = () if shown is None else shown.layers
        present = {layer.metadata.get("name") for layer in theirs}
        roles = {"histology": slide.source.image, "spots": slide.source.spots}
        ours = [layer for layer in self.viewer.layers if _slide_of(layer) is slide]
        if not ours:
            for data, meta, kind in slide_layer_data(slide):
                if theirs and roles[meta["metadata"][KEY]["role"]] in present:
                    continue
                ours.append(Layer.create(data, meta, kind))
            self._adopting = True
            try:
                for layer in ours:
                    self.viewer.add_layer(layer)
            finally:
                self._adopting = False
        self._slide_layers = ours
        self._follow(list(theirs))
        self._label_canvas("Synthetic slide" if slide.source.synthetic else "")
        self.viewer.reset_view()
        self._set_phase(Phase.READY)
        self.slide_changed.emit()
        self.region_changed.emit()
        notices = " ".join(slide.notices)
        self.said.emit(notices or f"{slide_title(slide)} is open. Draw a region, or run the whole slide.")

    def set_coordinate_system(self, name: str) -> None:
        """Show slide, region and result in another coordinate system of the slide."""
        if self.opened is None or name == self.opened.slide.coordinate_system:
            return
        old = self.opened.slide
        new = dataclasses.replace(old, coordinate_system=name)
        self.opened = dataclasses.replace(self.opened, slide=new)
        place_layers(self._slide_layers, new)
        self.regions.move(new.to_cs @ np.linalg.inv(old.to_cs))
        if self.overlay is not None:
            self.overlay.place(new)
        self.viewer.reset_view()
        self.coordinate_system_changed.emit()

    def _on_inserted(self, event: Any) -> None:
        """Adopt slides that the sample menu adds as plain layers; their spots come last."""
        self.layers_changed.emit()
        layer = event.value
        slide = _slide_of(layer)
        if self._adopting or slide is None or slide is self.slide or role_of(layer) != "spots":
            return
        self.show(Opened(slide=slide, source=None))

    def _on_removed(self, event: Any) -> None:
        self.layers_changed.emit()

    def _follow(self, layers: list[Layer]) -> None:
        """Follow napari-spatialdata's coordinate system: its switch moves only its own layers."""
        for layer in self._followed:
            layer.events.affine.disconnect(self._on_their_affine)
        self._followed = layers
        for layer in layers:
            layer.events.affine.connect(self._on_their_affine)

    def _on_their_affine(self, event: Any) -> None:
        if self.slide is None or not self._followed:
            return
        name = self._followed[0].metadata.get("_current_cs")
        if name in self.slide.transforms:
            self.set_coordinate_system(name)

    def _remove_slide(self) -> None:
        self._follow([])
        self._drop_result()
        self.regions.remove()
        for layer in self._slide_layers:
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self._slide_layers = []
        self.opened = None

    def _label_canvas(self, text: str) -> None:
        label = self.viewer.canvas.overlays.text
        label.text = text
        label.position = "top_left"
        label.visible = bool(text)

    # --------------------------------------------------------------- region

    def draw(self, tool: Tool) -> None:
        """Draw or edit shapes of the region."""
        if self.slide is not None:
            self.regions.draw(tool, self._line_width())

    def add_polygon(self, polygon: np.ndarray) -> None:
        """Add an (n, 2) polygon, (x, y) in the chosen coordinate system, to the region."""
        self.regions.add(polygon, self._line_width())

    def _line_width(self) -> float:
        if self.slide is None:
            return 1.0
        low, high = world_extent(self.slide)
        return float((high - low).max()) / 250 or 1.0

    def region(self) -> Region | None:
        """Return the drawn region, None for none; see :meth:`RegionLayer.region` for its errors."""
        return None if self.slide is None else self.regions.region(self.slide.coordinate_system)

    def n_spots_inside(self) -> int | None:
        """Return the number of spots in the region; None where nothing was drawn.

        Raises
        ------
        RegionError
            The shapes enclose no area.
        """
        region = self.region()
        if region is None or self.slide is None:
            return None
        try:
            return int(region.spots(self.slide).sum())
        except RegionError:
            return 0

    # ------------------------------------------------------------------ run

    def obstacle(self) -> str | None:
        """Return why nothing can be started now, or None."""
        return {
            Phase.EMPTY: "Open a slide first.",
            Phase.OPENING: "Wait until the slide is open.",
            Phase.READY: None,
            Phase.RUNNING: "A run is going on; wait for it, or cancel it.",
            Phase.EXPORTING: "Wait until the result is saved.",
        }[self.phase]

    def run(self, genes: Sequence[str] | None, settings: UpsampleSettings) -> None:
        """Upsample genes (None for all) of the region (or of the whole slide) in a worker, and show the result."""
        from napari_srast.pipeline import upsample_steps

        slide = self.slide
        if slide is None:
            return
        try:
            region = self.region()
            if region is not None:
                region.spots(slide)
        except SrastError as error:
            self.failed.emit(str(error))
            return

        def steps(should_stop: Callable[[], bool]) -> Generator[Progress, None, Finished]:
            result = yield from upsample_steps(slide, region, genes, settings, should_stop=should_stop)
            yield Progress("checks", 0, 1, 1.0)
            return Finished(result, result.counts.tocsc(), measure_trust(result))

        self._begin(Phase.RUNNING, steps, self._land, "upsampling")
        self.said.emit("Running …")

    def cancel(self) -> None:
        """Let go of what runs; its thread ends at its next check, and nothing of it lands."""
        if self.phase is Phase.RUNNING:
            self._let_go()
            self._set_phase(Phase.READY)
            self.said.emit("Cancelled. Nothing was changed.")

    def shutdown(self) -> None:
        """Stop whatever runs and stop listening, because the window or the dock widget closes."""
        self._let_go()
        self._follow([])
        events = self.viewer.layers.events
        events.inserted.disconnect(self._on_inserted)
        events.removed.disconnect(self._on_removed)
        self.regions.disconnect()
        if self.overlay is not None:
            self.overlay.disconnect()

    def _land(self, finished: Finished) -> None:
        self.finished = finished
        result = finished.result
        if self.overlay is None:
            self.overlay = Overlay(self.viewer, result, finished.columns, self.shown_changed.emit, self._later)
            if self.slide is not None:
                self.overlay.place(self.slide)
        else:
            self.overlay.replace(result, finished.columns)
        for layer in self._slide_layers:
            if role_of(layer) == "spots":
                layer.visible = False  # rings over pixels hide both
        self._set_phase(Phase.READY)
        self.result_changed.emit()
        self.show_genes(first_genes(result))
        self.said.emit(f"Done: {result.n_pixels:,} pixels, {len(result.genes):,} genes.")

    def show_genes(self, genes: Sequence[str]) -> None:
        """Show exactly these genes of the result."""
        if self.overlay is not None:
            self.overlay.show(genes)

    def _drop_result(self) -> None:
        if self.overlay is not None:
            self.overlay.remove()
        if self.finished is not None:
            self.overlay, self.finished = None, None
            self.result_changed.emit()

    # --------------------------------------------------------------- export

    def export(self, path: Path | None, *, into_slide: bool = False) -> None:
        """Save the result in a worker, to ``path`` or into the slide's own store."""
        if self.finished is None:
            return
        result = self.finished.result

        def save() -> Path:
            from napari_srast.io.results import write_result

            target = Path(str(result.slide.source.path)) if path is None else path
            return write_result(result, target, into_slide=into_slide)

        def done(written: Path) -> None:
            self._set_phase(Phase.READY)
            self.said.emit(f"Saved to {written}")

        self._begin(Phase.EXPORTING, _once(save), done, "saving the result")
        self.said.emit("Saving …")

    # ----------------------------------------------------------------- jobs

    def _begin(self, phase: Phase, steps: workers.Steps, done: Callable[[Any], None], doing: str) -> None:
        self._let_go()

        def fail(error: Exception) -> None:
            self._set_phase(Phase.READY if self.opened is not None else Phase.EMPTY)
            self.failed.emit(workers.explain(error, doing))

        self._set_phase(phase)
        self._job = self._start(steps, on_step=self.progressed.emit, on_done=done, on_error=fail)

    def _let_go(self) -> None:
        if self._job is not None:
            self._job.abandon()
            self._job = None

    def _set_phase(self, phase: Phase) -> None:
        if phase is not self.phase:
            self.phase = phase
            self.phase_changed.emit()


def _once(function: Callable[[], Any]) -> workers.Steps:
    """Turn a plain function into a job of a single step."""

    def steps(should_stop: Callable[[], bool]) -> Generator[Any, None, Any]:
        yield from ()
        return function()

    return steps


def _slide_of(layer: Layer) -> Slide | None:
    mark = layer.metadata.get(KEY)
    return mark.get("slide") if isinstance(mark, dict) else None
