"""The state of the dock widget, and all that it does to the viewer; no controls.

Every method runs in the GUI thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from psygnal import Signal

from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import RegionError, SrastError
from napari_srast.gui.controllers.comparison import counterpart, image_difference, settings_on
from napari_srast.gui.controllers.slides import SlideManager
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.export.write import export_steps
from napari_srast.gui.layers.cursor_readout import CursorReadout, PixelReadout
from napari_srast.gui.layers.factory import world_extent
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.layers.regions import Tool, load_geojson, save_geojson
from napari_srast.gui.runtime import background
from napari_srast.gui.runtime.error_report import ErrorContext
from napari_srast.gui.state import slide_loading
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.run_request import RunRequest
from napari_srast.gui.state.slide_session import SlideSession

__all__ = ["Controller"]


class Controller(SlideManager):
    """Keeps regions, runs them one after the other, and lays results over the histology.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    options
        Passed on to :class:`SlideManager`.
    """

    queue_changed = Signal()
    landed = Signal()
    recalled = Signal(UpsampleResult)
    pointed = Signal(PixelReadout)
    favorites_changed = Signal()

    def __init__(self, viewer: ViewerModel, **options: Any) -> None:
        super().__init__(viewer, **options)
        self.waiting: list[RunRequest] = []
        self._running: RunRequest | None = None
        self._hover = CursorReadout(viewer, self._on_show, self.pointed.emit)
        self.phase_changed.connect(self._on_rest)

    # ------------------------------------------------------------------ region

    def draw(self, tool: Tool) -> None:
        """Draw or edit shapes of the region."""
        if self.slide is not None:
            self.regions.draw(tool, self.line_width())

    def add_polygon(self, polygon: np.ndarray) -> None:
        """Add an (n, 2) polygon, (x, y) in the chosen coordinate system, to the region."""
        self.regions.add(polygon, self.line_width())

    def set_region(self, region: Region) -> None:
        """Draw a region in place of what is drawn."""
        if self.slide is not None:
            self.regions.set(region, self.slide, self.line_width())

    def line_width(self) -> float:
        """Return the width of the region's outline, in world units."""
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

    def write_geojson(self, path: Path) -> None:
        """Write the region as GeoJSON, in the chosen coordinate system."""
        self._try(lambda region: save_geojson(region, path), f"Saved the region to {path}")

    def read_geojson(self, path: Path) -> None:
        """Draw the region of a GeoJSON file, taken to be in the chosen coordinate system."""
        if self.slide is None:
            return
        try:
            self.set_region(load_geojson(path, self.slide.coordinate_system))
        except SrastError as error:
            self.failed.emit(str(error))

    def save_region(self) -> None:
        """Add the region to the slide's own store."""
        from napari_srast.io.regions import write_region

        slide = self.slide
        if slide is not None:
            self._try(lambda region: write_region(region, slide), "Saved the region with the slide")

    def saved_regions(self) -> dict[str, Region]:
        """Return the regions in the slide's own store, by name."""
        from napari_srast.io.regions import read_regions

        if self.slide is None or self.slide.source.path is None:
            return {}
        try:
            return read_regions(self.slide.source.path)
        except SrastError as error:
            self.failed.emit(str(error))
            return {}

    def _try(self, write: Callable[[Region], object], told: str) -> None:
        """Write the region, if there is one, and tell how it went."""
        try:
            region = self.region()
            if region is not None:
                name = write(region)
                self.said.emit(f"{told}{f' as {name}' if name else ''}.")
        except SrastError as error:
            self.failed.emit(str(error))

    # -------------------------------------------------------------------- runs

    def run(self, genes: Sequence[str] | None, settings: UpsampleSettings) -> None:
        """Upsample genes (None for all) of the region, or of the whole slide, at once or after the run that goes on."""
        if self.current is None:
            return
        try:
            task = RunRequest.of(self.current, self.region(), genes, settings)
        except SrastError as error:
            self.failed.emit(str(error))
            return
        self._queue(task)

    def run_counterpart(self) -> None:
        """Run the result on show again without the histology, or with it, and compare the two."""
        current, finished = self.current, self.finished
        slide = None if current is None else counterpart(current)
        if current is None or finished is None or slide is None:
            return
        result = finished.result
        genes = [str(gene) for gene in result.genes]
        self._queue(
            RunRequest(
                owner=current,
                slide=slide,
                region=result.region,
                genes=genes,
                settings=settings_on(slide, result),
                against=finished,
            )
        )

    def _queue(self, task: RunRequest) -> None:
        self.waiting.append(task)
        if self.phase is AppState.READY:
            self.regions.rest()  # from here on a drawing tool is for the next region
            self._run_next()
        else:
            self.said.emit("It waits its turn. Draw the next region meanwhile.")
        self.queue_changed.emit()

    def _on_rest(self) -> None:
        """Go on with what waits once something else than a run has ended."""
        if self.phase is AppState.READY and self.waiting and self._later is not None:
            self._later(self._run_waiting)

    def _run_waiting(self) -> None:
        if self.phase is AppState.READY and not self.is_working and not self.is_down:
            self._run_next()

    def _run_next(self) -> None:
        self._running = None
        if not self.waiting:
            return
        task = self.waiting.pop(0)

        def done(finished: DisplayedResult) -> None:
            self._keep_aside()  # until its layers are drawn, too
            self.set_phase(AppState.READY)
            self._land(task, finished)
            self._run_next()

        self._running = task
        self._keep_aside()
        steps = background.aside(task.steps)
        self.begin(AppState.RUNNING, steps, done, "upsampling", failed=self._run_next, circumstances=task.circumstances)
        self.said.emit(f"Running: {task.title} …")
        self.queue_changed.emit()

    def cancel(self) -> None:
        """Let go of what runs and of what waits; the thread ends at its next check, and nothing of it lands."""
        if self.busy() is None:
            return
        was, dropped = self.phase, len(self.waiting)
        self.waiting.clear()
        self._running = None
        self.let_go()
        self.set_phase(self.resting_phase())
        self.queue_changed.emit()
        also = f" {dropped} waiting {'region was' if dropped == 1 else 'regions were'} dropped." if dropped else ""
        what = "Nothing was changed." if was is not AppState.EXPORTING else "Nothing was left on the disk."
        self.said.emit(f"Cancelled. {what}{also}")

    def _close(self, slide: SlideSession) -> None:
        """Close a slide, and stop or drop its runs: nobody would see what comes of them."""
        of_it = self.phase is AppState.RUNNING and self._running is not None and self._running.owner is slide
        self.waiting = [task for task in self.waiting if task.owner is not slide]
        if of_it:
            self.let_go()
        super()._close(slide)
        self.queue_changed.emit()
        if of_it:
            self.said.emit(f"{slide.title} was closed, so its run was stopped.")
            self._run_next()

    def _land(self, task: RunRequest, finished: DisplayedResult) -> None:
        result = finished.result
        if task.against is not None and task.against is task.owner.finished:
            task.owner.results.append(finished)
            self.said.emit(f"Done: {task.title} {image_difference(task.against.result, result)}, beside it.")
            self._compare(task.owner, finished)
            self.result_changed.emit()
            return
        try:
            task.owner.land(finished)
        except Exception:
            self.result_changed.emit()  # it is kept, and can be chosen once there is memory
            raise
        self.said.emit(f"Done: {task.title}, {result.n_pixels:,} pixels, {len(result.genes):,} genes.")
        if task.owner is self.current:
            self._tell_of_landing(task.owner)
        elif task.owner.overlay is not None:
            task.owner.overlay.hide()
            task.owner.show_first_genes()

    def _tell_of_landing(self, owner: SlideSession) -> None:
        self.result_changed.emit()
        owner.show_first_genes()
        if not owner.regions.is_drawing:  # the next region: it is left in peace
            owner.regions.rest()
            self.landed.emit()

    # ----------------------------------------------------------------- results

    def compare_with(self, other: DisplayedResult | None) -> None:
        """Compare the result on show with another one on its pixels, or (None) with the measured counts."""
        if self.current is not None:
            self._compare(self.current, other)

    def _compare(self, owner: SlideSession, other: DisplayedResult | None) -> None:
        overlay = owner.overlay
        if overlay is not None:
            overlay.compare_with(other)
            if other is not None and owner is self.current and overlay.view not in ("before", "beside"):
                overlay.set_view("beside")
                self.shown_changed.emit()

    def choose_result(self, finished: DisplayedResult) -> None:
        """Show one of the slide's results."""
        if self.current is not None and finished is not self.current.finished:
            self.current.choose_result(finished)
            self.result_changed.emit()
            self.current.show_first_genes()

    def drop_result(self) -> None:
        """Close the result on show."""
        if self.current is not None:
            self.current.drop_result()
            self.result_changed.emit()
            self.current.show_first_genes()

    def open_run(self, run: str) -> None:
        """Show a result that is saved in the slide's own store."""
        current, busy = self.current, self.busy()
        if current is None or busy is not None:
            if busy is not None:
                self.failed.emit(busy)
            return
        slide = current.slide

        def done(finished: DisplayedResult) -> None:
            self.set_phase(AppState.READY)
            self.land_saved(current, finished)

        self.begin(
            AppState.OPENING, background.once(lambda: slide_loading.load_run(slide, run)), done, "opening the result"
        )
        self.said.emit("Opening the result …")

    def land_saved(self, owner: SlideSession, finished: DisplayedResult) -> None:
        """Show a result that was read, with its settings."""
        try:
            owner.land(finished.on(owner.slide))
        except SrastError as error:
            self.failed.emit(str(error))
            return
        self.said.emit(f"Opened the result {finished.result.run} with its settings.")
        self._tell_of_landing(owner)
        self.recall()

    def recall(self) -> None:
        """Set region, genes and settings to those of the result on show."""
        if self.finished is not None:
            result = self.finished.result
            self.regions.clear()
            if result.region is not None:
                self.set_region(result.region)
            settings = result.settings if self.slide is None else settings_on(self.slide, result)
            self.recalled.emit(dataclasses.replace(result, settings=settings))

    def show_genes(self, genes: Sequence[str]) -> None:
        """Show exactly these genes of the result."""
        if self.overlay is not None:
            self.overlay.show(genes)

    def toggle_favorite(self, gene: str) -> None:
        """Make a gene a favorite of the user, or no longer."""
        self.remembered.set_favorite(gene, gene not in self.remembered.genes)
        self.favorites_changed.emit()

    def export(self, path: Path | None, *, into_slide: bool = False) -> None:
        """Save the result in a worker, to ``path`` or into the slide's own store."""
        owner, busy = self.current, self.busy()
        if owner is None or self.finished is None or busy is not None:
            if busy is not None:
                self.failed.emit(busy)
            return
        result = self.finished.result
        target = Path(str(result.slide.source.path)) if path is None else path

        def done(written: Path) -> None:
            self.set_phase(self.resting_phase())  # the slide may have been closed meanwhile
            self.said.emit(f"Saved to {written}")
            if into_slide:
                owner.add_run(result.run)
                self.result_changed.emit()

        steps = export_steps(result, target, into_slide=into_slide)
        circumstances = ErrorContext(slide=result.slide, settings=result.settings, n_genes=len(result.genes))
        self.begin(AppState.EXPORTING, steps, done, "saving the result", circumstances=circumstances)
        self.said.emit("Saving …")

    def _on_show(self) -> tuple[Slide, DisplayedResult, Overlay] | None:
        if self.slide is None or self.finished is None or self.overlay is None:
            return None
        return self.slide, self.finished, self.overlay

    # ------------------------------------------------------------------ window

    def shutdown(self) -> None:
        """Stop whatever runs and stop listening, because the window or the dock widget closes."""
        self.waiting.clear()
        self._hover.disconnect()
        super().shutdown()
