"""Up to six genes of a result, composited over the histology: after, before, or their uncertainty.

One image layer for each slot, kept when its gene is hidden and refilled when another gene takes the slot: swapping data
costs a quarter of adding a layer. Without Qt, so that it can be tested on a ``ViewerModel``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer, Points
from scipy import sparse

from napari_srast.gui.layers import (
    KEY,
    PALETTE,
    dimmer_extent,
    dimmer_layer,
    gene_colormap,
    gene_layer_kwargs,
    measured_layer,
    place_layers,
    role_of,
)
from napari_srast.slide import Slide, UpsampleResult

__all__ = ["MAX_GENES", "Overlay", "Shown", "View", "first_genes"]

MAX_GENES = len(PALETTE)
View = Literal["before", "after", "std"]
_HIGH = 99.5  # percentile of the pixels that have any counts: a few bright ones must not darken the rest
_LOW = 20.0  # percentile of all pixels: a gene that is everywhere must not wash the others out


@dataclass(frozen=True)
class Shown:
    """One gene on show: its colour, and the counts per pixel at which the colour begins and is full."""

    gene: str
    color: str
    limits: tuple[float, float]


@dataclass(eq=False)
class _Slot:
    gene: str
    color: str
    layer: Image
    limits: tuple[float, float]
    shown: bool = True


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
        Called when genes came on show, or the user removed a layer in napari's own list.
    later
        Runs a function a moment later. Adding a layer takes a third of a second, so the window draws itself between
        two; by default all are added at once.
    brightness
        Brightness of the histology below the genes, 0 to 1.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        result: UpsampleResult,
        columns: sparse.csc_matrix,
        changed: Callable[[], None],
        later: Callable[[Callable[[], None]], None] | None = None,
        brightness: float = 0.3,
    ) -> None:
        self.result = result
        self.view: View = "after"
        self._viewer = viewer
        self._columns = columns
        self._changed = changed
        self._later = later
        self._waiting: list[str] = []
        self._slide = result.slide
        self._brightness = brightness
        self._slots: list[_Slot] = []
        self._dimmer: Image | None = None
        self._measured: Points | None = None
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def shown(self) -> list[Shown]:
        """The genes on show, in the order in which they were given their colours."""
        return [Shown(s.gene, s.color, s.limits) for s in self._slots if s.shown]

    @property
    def genes(self) -> list[str]:
        """The genes on show and those that are about to be."""
        return [*(s.gene for s in self._slots if s.shown), *self._waiting]

    def show(self, genes: Sequence[str]) -> None:
        """Show exactly these genes, at most :data:`MAX_GENES`; a gene on show keeps its colour."""
        genes = list(dict.fromkeys(genes))
        if len(genes) > MAX_GENES:
            raise ValueError(f"{len(genes)} genes, but at most {MAX_GENES} can be told apart")
        for slot in self._slots:
            slot.shown = slot.gene in genes
        present = {slot.gene for slot in self._slots}
        self._waiting = [gene for gene in genes if gene not in present]
        self._refresh()
        self._show_next()

    def _show_next(self) -> None:
        """Show the next gene that waits, and go on until none does."""
        while self._waiting:
            self._take_slot(self._waiting.pop(0))
            self._refresh()
            if self._waiting and self._later is not None:
                self._later(self._show_next)
                break
        self._changed()

    def replace(self, result: UpsampleResult, columns: sparse.csc_matrix) -> None:
        """Take on another result of the same slide and show none of it yet; the layers stay, to be filled anew."""
        self.result, self._columns, self.view = result, columns, "after"
        self._waiting = []
        for slot in self._slots:
            self._empty(slot)
            slot.layer.metadata[KEY] = gene_layer_kwargs(result)["metadata"][KEY]
        if self._dimmer is not None:
            self._dimmer.metadata[KEY]["to_intrinsic"] = dimmer_extent(self._slide, result)
        self._refresh()
        place_layers(self._own_layers(), self._slide)

    def set_view(self, view: View) -> None:
        """Switch between the measured spots, the upsampled pixels and their standard deviation."""
        refill = "std" in (view, self.view) and view != self.view
        self.view = view
        if refill:
            for slot in self._slots:
                if slot.shown:
                    self._fill(slot)
                else:
                    self._empty(slot)  # it holds the other kind of image
        self._refresh()

    def set_brightness(self, brightness: float) -> None:
        """Set the brightness of the histology below the genes, 0 (black) to 1 (as it is)."""
        self._brightness = brightness
        if self._dimmer is not None:
            self._dimmer.opacity = self._dimming

    def place(self, slide: Slide) -> None:
        """Follow the slide into another coordinate system."""
        self._slide = slide
        place_layers(self._own_layers(), slide)

    def remove(self) -> None:
        """Take every layer of the result out of the viewer."""
        self.disconnect()
        for layer in self._own_layers():
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._slots, self._waiting, self._dimmer, self._measured = [], [], None, None

    def disconnect(self) -> None:
        """Stop listening to the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    @property
    def _dimming(self) -> float:
        return 1.0 if self._slide.image is None else 1.0 - self._brightness

    @property
    def _strength(self) -> float:
        """Opacity of each gene: the more are added up, the less of each, or all end in white."""
        return float(max(len(self.shown), 1) ** -0.5)

    def _own_layers(self) -> list[Layer]:
        return [layer for layer in (self._dimmer, self._measured, *(s.layer for s in self._slots)) if layer is not None]

    def _take_slot(self, gene: str) -> None:
        if self._dimmer is None:
            self._dimmer = dimmer_layer(self._slide, self.result, self._dimming)
            self._add(self._dimmer)
        free = next((slot for slot in self._slots if not slot.shown), None)
        if free is not None:
            free.gene, free.shown = gene, True
            self._fill(free)
            return
        used = {slot.color for slot in self._slots}
        color = next(c for c in PALETTE if c not in used)
        image, limits = self._image(gene)
        layer = Image(
            image,
            name=gene,
            colormap=gene_colormap(color),
            contrast_limits=limits,
            **gene_layer_kwargs(self.result),
        )
        self._slots.append(_Slot(gene, color, layer, limits))
        place_layers([layer], self._slide)
        self._add(layer)

    def _add(self, layer: Layer) -> None:
        """Add a layer below the region, which must stay in reach."""
        layers = self._viewer.layers
        active = layers.selection.active
        regions = [i for i, other in enumerate(layers) if role_of(other) == "region"]
        layers.insert(regions[0] if regions else len(layers), layer)
        layers.selection.active = active

    def _empty(self, slot: _Slot) -> None:
        """Free a slot whose image is of no use any more; its name goes, too, or the gene's next layer gets a number."""
        slot.shown, slot.gene = False, ""
        slot.layer.name = "SRast unused"

    def _fill(self, slot: _Slot) -> None:
        image, slot.limits = self._image(slot.gene)
        slot.layer.data = image
        slot.layer.name = slot.gene
        slot.layer.contrast_limits_range = slot.limits
        slot.layer.contrast_limits = slot.limits

    def _image(self, gene: str) -> tuple[np.ndarray, tuple[float, float]]:
        if self.view == "std":
            image = self.result.gene_image(gene, "std")
            values = image[np.isfinite(image)]
        else:
            values = self._columns[:, [self.result.gene_column(gene)]].toarray()[:, 0]
            image = self.result.raster.paint(values)
        positive = values[values > 0]
        if not positive.size:
            return image, (0.0, 1.0)
        low, high = float(np.percentile(values, _LOW)), float(np.percentile(positive, _HIGH))
        return image, (low if low < high else 0.0, high)

    def _refresh(self) -> None:
        before = self.view == "before" and bool(self.shown)
        if before:
            self._paint_spots()
        if self._measured is not None:
            self._measured.visible = before
        for slot in self._slots:
            slot.layer.visible = slot.shown and self.view != "before"
            slot.layer.opacity = self._strength
        if self._dimmer is not None:
            self._dimmer.visible = bool(self.shown)

    def _paint_spots(self) -> None:
        """Colour the spots by their measured counts, spread evenly over their pixels: the scale of the images."""
        if self._measured is None:
            self._measured = measured_layer(self.result.slide)
            place_layers([self._measured], self._slide)
            self._add(self._measured)
        per_spot = self.result.raster.counts_per_spot
        inside = per_spot > 0
        colors = np.zeros((len(per_spot), 4))
        colors[inside, 3] = 1.0
        columns = self.result.slide.gene_indices([s.gene for s in self.shown])
        counts = self.result.slide.counts[:, columns].toarray()[inside] / per_spot[inside, None]
        for shown, values in zip(self.shown, counts.T, strict=True):
            rgb = np.array([int(shown.color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
            low, high = shown.limits
            colors[inside, :3] += np.clip((values - low) / (high - low), 0, 1)[:, None] * rgb * self._strength
        self._measured.face_color = np.minimum(colors, 1)

    def _on_removed(self, event: object) -> None:
        layers = list(self._viewer.layers)
        self._slots = [slot for slot in self._slots if slot.layer in layers]
        if self._dimmer not in layers:
            self._dimmer = None
        if self._measured not in layers:
            self._measured = None
        self._changed()


def first_genes(result: UpsampleResult) -> list[str]:
    """Return what to show first: all genes if they are few, else the three whose maps gain the most in all.

    Skill is per count, and is highest by chance in genes with a handful of counts.
    """
    genes = [str(g) for g in result.genes]
    if len(genes) <= MAX_GENES:
        return genes
    gained = np.nan_to_num(result.skill, nan=0.0) * np.asarray(result.counts.sum(axis=0)).ravel()
    order = np.argsort(-gained, kind="stable")
    return [genes[i] for i in order[:3]]
