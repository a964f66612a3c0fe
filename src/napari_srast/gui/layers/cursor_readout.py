"""Read the pixel under the cursor: its counts of the displayed genes, its spot, and the counts of that spot."""

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

__all__ = ["CursorReadout", "PixelReadout", "read_pixel"]


@dataclass(frozen=True)
class PixelReadout:
    """Values of one pixel.

    Parameters
    ----------
    spot
        Name of the pixel's parent spot; None if there is no pixel.
    genes
        For each displayed gene: its name, the count of the pixel, and the measured count of the spot.
    """

    spot: str | None = None
    genes: tuple[tuple[str, float, float], ...] = ()

    @property
    def text(self) -> str:
        """The values in one line."""
        if self.spot is None:
            return ""
        values = "; ".join(f"{gene} {pixel:.3g} of the spot's {measured:,.0f}" for gene, pixel, measured in self.genes)
        return f"Spot {self.spot}: {values}" if values else f"Spot {self.spot}"


def read_pixel(displayed: DisplayedResult, genes: list[str], point: np.ndarray) -> PixelReadout:
    """Return the values at a point (x, y) in intrinsic coordinates."""
    result = displayed.result
    pixel = int(result.raster.locate(point[None])[0])
    if pixel < 0:
        return PixelReadout()
    spot = int(result.raster.parent[pixel])
    values = [
        (gene, float(displayed.columns[pixel, result.gene_column(gene)]), column)
        for gene, column in zip(genes, result.slide.gene_indices(genes) if genes else (), strict=True)
    ]
    return PixelReadout(
        str(result.slide.spot_ids[spot]),
        tuple((gene, value, float(result.slide.counts[spot, column])) for gene, value, column in values),
    )


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
        return read_pixel(displayed, [style.gene for style in overlay.shown], point)
