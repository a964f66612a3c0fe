"""Read the pixel under the cursor: its values of the displayed genes, its spot, and the counts of that spot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.components import ViewerModel

from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.gene_values import ValueView, unit_of

__all__ = ["CursorReadout", "GeneReadout", "PixelReadout", "read_pixel"]


@dataclass(frozen=True)
class GeneReadout:
    """Value of one gene in a pixel.

    Parameters
    ----------
    gene
        Name of the gene.
    value
        Value of the pixel.
    measured
        Measured count of the spot.
    unit
        The unit of ``value``, with the quantity; "" for counts, which are a part of the spot's.
    """

    gene: str
    value: float
    measured: float
    unit: str = ""

    @property
    def text(self) -> str:
        """The values as text."""
        if not self.unit:
            return f"{self.gene} {self.value:.3g} of the spot's {self.measured:,.0f}"
        return f"{self.gene} {self.value:.3g} ({self.unit}), spot {self.measured:,.0f}"


@dataclass(frozen=True)
class PixelReadout:
    """Values of one pixel.

    Parameters
    ----------
    spot
        Name of the pixel's parent spot; None if there is no pixel.
    genes
        Values of the displayed genes.
    """

    spot: str | None = None
    genes: tuple[GeneReadout, ...] = ()

    @property
    def text(self) -> str:
        """The values in one line."""
        if self.spot is None:
            return ""
        values = "; ".join(gene.text for gene in self.genes)
        return f"Spot {self.spot}: {values}" if values else f"Spot {self.spot}"


def read_pixel(displayed: DisplayedResult, genes: list[str], point: np.ndarray, view: ValueView) -> PixelReadout:
    """Return the values at a point (x, y) in intrinsic coordinates."""
    result, values = displayed.result, displayed.values
    pixel = int(result.raster.locate(point[None])[0])
    if pixel < 0:
        return PixelReadout()
    spot = int(result.raster.parent[pixel])
    readouts = []
    for gene in genes:
        quantity, measured = values.quantity(gene, view), float(result.slide.counts[spot, values.slide_column(gene)])
        unit = "" if (quantity, view.scale) == ("counts", "as_is") else unit_of(quantity, view.scale)
        readouts.append(GeneReadout(gene, values.of_pixel(pixel, gene, view), measured, unit))
    return PixelReadout(str(result.slide.spot_ids[spot]), tuple(readouts))


class CursorReadout:
    """Reads the displayed result while the cursor moves over the canvas.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    current
        Returns the current slide, the displayed result and its overlay, or None.
    changed
        Receives the values whenever they change.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        current: Callable[[], tuple[Slide, DisplayedResult, Overlay] | None],
        changed: Callable[[PixelReadout], None],
    ) -> None:
        self._viewer = viewer
        self._current = current
        self._changed = changed
        self._last = PixelReadout()
        self._callback = self._on_move
        viewer.mouse_move_callbacks.append(self._callback)

    def disconnect(self) -> None:
        """Disconnect from the events of the viewer."""
        if self._callback in self._viewer.mouse_move_callbacks:
            self._viewer.mouse_move_callbacks.remove(self._callback)

    def _on_move(self, viewer: ViewerModel, event: Any) -> None:
        readout = self._read()
        if readout != self._last:
            self._last = readout
            self._changed(readout)

    def _read(self) -> PixelReadout:
        current = self._current()
        if current is None:
            return PixelReadout()
        slide, displayed, overlay = current
        world = np.asarray(self._viewer.cursor.position, dtype=float)[-2:][::-1]
        offset = overlay.offset_at(world)
        if overlay.compared is not None and (offset.any() or overlay.view == "before"):
            displayed = overlay.compared
        point = apply_affine(np.linalg.inv(slide.to_cs), (world - offset)[None])[0]
        return read_pixel(displayed, [style.gene for style in overlay.shown], point, overlay.value_view)
