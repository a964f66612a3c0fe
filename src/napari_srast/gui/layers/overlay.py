"""Up to six genes of a result, composited over the histology: after, before, side by side, or their uncertainty.

One image layer for each slot, kept when its gene is hidden and refilled when another gene takes the slot: swapping data
costs a quarter of adding a layer. Color, contrast and opacity belong to the layer, so that napari's own controls and
ours are two views of one thing, and the eye in napari's list is the gene's check box. Without Qt, so that it can be
tested on a ``ViewerModel``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, Literal, ParamSpec

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer
from scipy import sparse

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.camera import CameraBookmark
from napari_srast.gui.layers.factory import (
    KEY,
    PALETTE,
    dimmer_extent,
    dimmer_layer,
    gene_layer_kwargs,
    measured_layer,
    place_layers,
    role_of,
    set_visible,
)
from napari_srast.gui.layers.gene_layer import GeneLayer, gene_picture
from napari_srast.gui.layers.measured_spots import (
    GeneStyle,
    side_by_side_bounds,
    side_by_side_layers,
    side_by_side_offset,
    paint_compared,
    pixel_colors,
    pixels_layer,
    spot_colors,
)
from napari_srast.gui.runtime.layer_batches import insert_unchosen, removing
from napari_srast.gui.state.displayed_result import DisplayedResult

__all__ = ["MAX_GENES", "Overlay", "View"]

MAX_GENES = len(PALETTE)
View = Literal["before", "after", "side_by_side", "std"]
P = ParamSpec("P")


def _telling(act: Callable[Concatenate[Overlay, P], None]) -> Callable[Concatenate[Overlay, P], None]:
    """Let what the user or a timer set off tell its error, and go back to what can be shown."""

    @functools.wraps(act)
    def safe(self: Overlay, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            act(self, *args, **kwargs)
        except Exception as error:
            if self._failed is None:
                raise
            self._give_up()
            self._failed(error)

    return safe


class Overlay:
    """The gene layers of one result.

    Parameters
    ----------
    viewer
        The viewer, or its model; touched only from the GUI thread.
    result
        What to show.
    columns
        ``result.counts`` by columns, so that one gene is read at once.
    changed
        Called when what is shown, or how, has changed: also by the eye, the bin or the controls of napari's own list.
    later
        Runs a function a moment later. To add a layer, and to draw it first, each takes a tenth of a second, so the
        window does one of it at a time; by default all are added at once.
    brightness
        Brightness of the histology below the genes, 0 to 1.
    failed
        Takes the error of a picture that cannot be made, such as a full memory: its gene, and what would have followed,
        is not shown then. None raises it.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        result: UpsampleResult,
        columns: sparse.csc_matrix,
        changed: Callable[[], None],
        later: Callable[[Callable[[], None]], None] | None = None,
        brightness: float = 0.3,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self.result = result
        self.view: View = "after"
        self.compared: DisplayedResult | None = None
        self._viewer = viewer
        self._columns = columns
        self._changed = changed
        self._later = later
        self._failed = failed
        self._waiting: list[str] = []
        self._slide = result.slide
        self._brightness = brightness
        self._slots: list[GeneLayer] = []
        self._dimmer: Image | None = None
        self._measured: Layer | None = None
        self._beside: list[Layer] = []
        self._to_add: list[Layer] = []
        self._viewpoint = CameraBookmark(viewer)
        self._painted: tuple[Any, ...] = ()  # what was compared with was painted last, and how
        self._in_charge = 0  # > 0 while a change of a layer is our own doing
        self._out_of_sight = False
        viewer.layers.events.removed.connect(self._on_removed)

    # ---------------------------------------------------------------- genes

    @property
    def shown(self) -> list[GeneStyle]:
        """The genes on show and how, in the order in which they were given their colors."""
        return [slot.paint for slot in self._slots if slot.shown]

    @property
    def genes(self) -> list[str]:
        """The genes on show and those that are about to be."""
        return [*(s.gene for s in self._slots if s.shown), *self._waiting]

    def show(self, genes: Sequence[str]) -> None:
        """Show exactly these genes, at most :data:`MAX_GENES`; a gene on show keeps its color."""
        genes = list(dict.fromkeys(genes))
        if len(genes) > MAX_GENES:
            raise ValueError(f"{len(genes)} genes, but at most {MAX_GENES} can be told apart")
        self._show(genes)

    @_telling
    def _show(self, genes: Sequence[str]) -> None:
        for slot in self._slots:
            slot.shown = slot.gene in genes
        present = {slot.gene for slot in self._slots}
        self._waiting = [gene for gene in genes if gene not in present]
        self._refresh()
        if self._waiting and self._later is not None and self._needs_layer:
            self._changed()
            self._later(self._show_next)
        else:
            self._show_next()

    @_telling
    def _show_next(self) -> None:
        """Show the next gene that waits, add at most one layer for it, and go on until none does."""
        while self._waiting:
            if self._dimmer is None:
                self._dimmer = dimmer_layer(self._slide, self.result, self._dimming)
                self._add(self._dimmer)
            elif self._take_slot(self._waiting[0]):
                del self._waiting[0]
                self._refresh()
            if self._waiting and self._later is not None:
                self._later(self._show_next)
                break
        self._changed()

    @property
    def _needs_layer(self) -> bool:
        return self._dimmer is None or all(slot.shown for slot in self._slots)

    def replace(self, result: UpsampleResult, columns: sparse.csc_matrix) -> None:
        """Take on another result of the same slide and show none of it yet; the layers stay, to be filled anew."""
        self.view = "after"
        self.compare_with(None)
        self.result, self._columns = result, columns
        self._waiting, self._painted = [], ()
        for slot in self._slots:
            slot.empty()
            slot.layer.metadata[KEY] = gene_layer_kwargs(result)["metadata"][KEY]
        if self._dimmer is not None:
            self._dimmer.metadata[KEY]["to_intrinsic"] = dimmer_extent(self._slide, result)
        self._remove_beside()
        self._refresh()
        place_layers(self._own_layers(), self._slide)

    # ----------------------------------------------------------------- view

    @_telling
    def set_view(self, view: View) -> None:
        """Switch between measured spots, upsampled pixels, both side by side, and the standard deviation."""
        refill = "std" in (view, self.view) and view != self.view
        self.view = view
        if refill:
            self._refill()
        if view != "side_by_side":
            self._remove_beside()  # hidden, it would still count when napari fits the view
        elif not self._beside:
            other = None if self.compared is None else self.compared.result
            self._beside = self._to_add = side_by_side_layers(self._slide, self.result, self._dimming, other)
            self._viewpoint.show(*side_by_side_bounds(self._slide, self.result))
            self._add_next()
        self._refresh()

    @_telling
    def compare_with(self, other: DisplayedResult | None) -> None:
        """Compare with another result on the same pixels, or (None) with the measured counts: before, and beside."""
        if other is self.compared:
            return
        self.compared = other
        self._remove_beside()
        if self._measured is not None:
            self._viewer.layers.remove(self._measured)
        self.set_view(self.view)
        self._changed()

    @_telling
    def _add_next(self) -> None:
        """Add the layers of the second picture, one at a time."""
        while self._to_add:
            layer, *self._to_add = self._to_add
            self._add(layer)
            self._refresh()
            if self._to_add and self._later is not None:
                self._later(self._add_next)
                return

    def set_brightness(self, brightness: float) -> None:
        """Set the brightness of the histology below the genes, 0 (black) to 1 (as it is)."""
        self._brightness = brightness
        for layer in (self._dimmer, *self._beside):
            if layer is not None and layer.name in ("SRast dimmer", "SRast side-by-side dimmer"):
                layer.opacity = self._dimming

    def paint(
        self,
        gene: str,
        *,
        color: str | None = None,
        limits: tuple[float, float] | None = None,
        opacity: float | None = None,
    ) -> None:
        """Change how a gene on show is painted; what is left out stays."""
        slot = next((s for s in self._slots if s.gene == gene), None)
        if slot is not None:
            with self._taking_charge():
                slot.set(color=color, limits=limits, opacity=opacity, strength=self._strength)
            self._on_paint()

    def hide(self) -> None:
        """Go out of sight while another slide is worked on; everything is kept."""
        self._out_of_sight = True
        self._refresh()

    @_telling
    def reveal(self) -> None:
        """Come back as it was."""
        self._out_of_sight = False
        self._refresh()

    def shift_at(self, world: np.ndarray) -> np.ndarray:
        """Return how far a world position (x, y) lies from what it shows: not zero in the picture beside."""
        if self.view != "side_by_side" or not self._beside:
            return np.zeros(2)
        shift = side_by_side_offset(self._slide, self.result)
        raster = self.result.raster
        to_pixels = np.linalg.inv(self._slide.to_cs @ raster.affine)
        place = apply_affine(to_pixels, (world - shift)[None])[0]
        inside = (place >= 0).all() and (place < raster.shape[::-1]).all()
        return shift if inside else np.zeros(2)

    def place(self, slide: Slide) -> None:
        """Follow the slide into another coordinate system."""
        self._slide = slide
        self._viewpoint.forget()  # it was in the other coordinate system
        place_layers(self._own_layers(), slide)
        self._remove_beside()
        if self.view == "side_by_side":
            self.set_view("side_by_side")

    # --------------------------------------------------------------- leaving

    def remove(self) -> None:
        """Take every layer of the result out of the viewer."""
        self.disconnect()
        self._take_out([*self._own_layers(), *self._beside])
        self._slots, self._waiting, self._dimmer, self._measured = [], [], None, None
        self._beside, self._to_add, self._painted = [], [], ()

    def disconnect(self) -> None:
        """Stop listening to the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def _remove_beside(self) -> None:
        gone, self._beside, self._to_add = self._beside, [], []
        self._take_out(gone)
        self._viewpoint.go_back()

    def _remove_torn_beside(self) -> None:
        layers = list(self._viewer.layers)
        if any(layer not in layers and layer not in self._to_add for layer in self._beside):
            self._remove_beside()

    def _take_out(self, gone: Sequence[Layer]) -> None:
        here = [layer for layer in gone if layer in self._viewer.layers]
        if here:
            with removing(self._viewer.layers):
                for layer in here:
                    self._viewer.layers.remove(layer)

    # ---------------------------------------------------------------- layers

    @property
    def _dimming(self) -> float:
        return 1.0 if self._slide.image is None else 1.0 - self._brightness

    @property
    def _strength(self) -> float:
        """Opacity that all genes share: the more are added up, the less of each, or all end in white."""
        return float(max(len(self.genes), 1) ** -0.5)

    def _own_layers(self) -> list[Layer]:
        return [layer for layer in (self._dimmer, self._measured, *(s.layer for s in self._slots)) if layer is not None]

    def _take_slot(self, gene: str) -> bool:
        """Give a gene a slot; where there is none, only add one's layer, hidden: to draw it takes as long again."""
        ready = next((slot for slot in self._slots if slot.gene == gene), None)
        free = next((slot for slot in self._slots if not slot.shown), None)
        if ready is not None:
            ready.shown = True
        elif free is not None:
            free.gene, free.shown, free.opacity = gene, True, 1.0
            self._fill(free)
        else:
            self._add_slot(gene)
        return ready is not None or free is not None

    def _add_slot(self, gene: str) -> None:
        used = {slot.color for slot in self._slots}
        color = next((c for c in PALETTE if c not in used), PALETTE[0])
        slot = GeneLayer.make(gene, color, gene_picture(self.result, self._columns, gene, self.view), self.result)
        self._slots.append(slot)
        place_layers([slot.layer], self._slide)
        slot.layer.events.visible.connect(self._on_eye)
        for event in (slot.layer.events.contrast_limits, slot.layer.events.colormap, slot.layer.events.opacity):
            event.connect(self._on_paint)
        self._add(slot.layer)

    def _fill(self, slot: GeneLayer) -> None:
        """Paint a slot's gene; where that fails it goes empty, for it holds another image."""
        try:
            with self._taking_charge():
                slot.fill(gene_picture(self.result, self._columns, slot.gene, self.view))
        except Exception:
            slot.empty()
            raise

    def _refill(self) -> None:
        """Paint another kind of image; slots that cannot have theirs go empty, for they hold the kind before."""
        for place, slot in enumerate(self._slots):
            if not slot.shown:
                slot.empty()
                continue
            try:
                self._fill(slot)
            except Exception:
                for other in self._slots[place:]:
                    other.empty()
                raise

    def _give_up(self) -> None:
        """Show what there is, after a picture could not be made."""
        self._waiting, self._painted = [], ()
        self.view = "std" if self.view == "std" else "after"
        self._remove_beside()
        self._forget_gone()
        self._refresh()
        self._changed()

    def _add(self, layer: Layer) -> None:
        """Add a layer below the region, which must stay in reach."""
        layers = self._viewer.layers
        regions = [i for i, other in enumerate(layers) if role_of(other) == "region"]
        with self._taking_charge():
            insert_unchosen(layers, regions[0] if regions else len(layers), layer)

    def _refresh(self) -> None:
        """Let every layer say what the state is."""
        seen = bool(self.shown) and not self._out_of_sight
        before, beside = seen and self.view == "before", seen and self.view == "side_by_side"
        with self._taking_charge():
            if before or beside:
                self._paint_measured()
            visible: dict[Layer, bool] = dict.fromkeys(self._beside, beside)
            visible |= {slot.layer: slot.shown and seen and not before for slot in self._slots}
            if self._measured is not None:
                visible[self._measured] = before
            if self._dimmer is not None:
                visible[self._dimmer] = seen
            set_visible(self._viewer.layers, visible)
            for slot in self._slots:
                if slot.layer.opacity != (opacity := slot.opacity * self._strength):
                    slot.layer.opacity = opacity

    def _paint_measured(self) -> None:
        """Color what is compared with: measured counts, spread evenly over the spots' pixels, or another result."""
        if self.view == "side_by_side":
            if self._beside:
                self._color(self._beside[-1])
            return
        if self._measured is None:
            other, slide = self.compared, self._slide
            self._measured = measured_layer(self.result.slide) if other is None else pixels_layer(other.result, slide)
            place_layers([self._measured], slide)
            self._add(self._measured)
        self._color(self._measured)

    def _color(self, layer: Layer) -> None:
        """Color spots or pixels, unless the layer has these colors already: blinking must be quick."""
        other, how = self.compared, (layer, self.result, *self.shown, self._strength)
        if how == self._painted:
            return
        if other is None:
            colors = spot_colors(self.result, self.shown, self._strength)
        else:
            colors = pixel_colors(other.result, other.columns, self.shown, self._strength)
        paint_compared(layer, colors)
        self._painted = how

    # --------------------------------------------------- what the user does in napari's own list and controls

    @contextlib.contextmanager
    def _taking_charge(self) -> Iterator[None]:
        self._in_charge += 1
        try:
            yield
        finally:
            self._in_charge -= 1

    @_telling
    def _on_eye(self, event: object = None) -> None:
        """Take the eye of a gene layer for its check box."""
        if self._in_charge or self._out_of_sight or self.view == "before":
            return
        for slot in self._slots:
            slot.shown = bool(slot.gene) and bool(slot.layer.visible)
        self._refresh()
        self._changed()

    @_telling
    def _on_paint(self, event: object = None) -> None:
        """Take over color, contrast and opacity that were set in napari's own controls."""
        if self._in_charge:
            return
        for slot in self._slots:
            slot.read(self._strength)
        if self.view in ("before", "side_by_side"):
            with self._taking_charge():
                self._paint_measured()
        self._changed()

    def _forget_gone(self) -> None:
        """Forget layers that are not in the viewer."""
        layers = list(self._viewer.layers)
        self._slots = [slot for slot in self._slots if slot.layer in layers]
        if self._dimmer not in layers:
            self._dimmer = None
        if self._measured not in layers:
            self._measured = None

    def _on_removed(self, event: object) -> None:
        self._forget_gone()
        layers = list(self._viewer.layers)
        if any(layer not in layers and layer not in self._to_add for layer in self._beside):
            # Not while napari still goes through the layers that it removes: it would look for ours among them.
            if self._later is None:
                self._remove_beside()
            else:
                self._later(self._remove_torn_beside)
        self._refresh()
        self._changed()
