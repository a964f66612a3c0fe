"""What lies under the pointer: the genes on show, the spot that the pixel belongs to, and what was measured there."""

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

__all__ = ["CursorReadout", "PixelReadout", "read_at"]


@dataclass(frozen=True)
class PixelReadout:
    """What is known of one place.

    Parameters
    ----------
    spot
        Name of the pixel's spot; None where no pixel lies.
    genes
        For each gene on show: its name, the pixel's count, and the count that was measured in the whole spot.
    """

    spot: str | None = None
    genes: tuple[tuple[str, float, float], ...] = ()

    @property
    def text(self) -> str:
        """The reading in one line."""
        if self.spot is None:
            return ""
        values = "; ".join(f"{gene} {pixel:.3g} of the spot's {measured:,.0f}" for gene, pixel, measured in self.genes)
        return f"Spot {self.spot}: {values}" if values else f"Spot {self.spot}"


def read_at(finished: DisplayedResult, genes: list[str], point: np.ndarray) -> PixelReadout:
    """Read a result at a point (x, y) in the spots' own frame."""
    result = finished.result
    pixel = int(result.raster.locate(point[None])[0])
    if pixel < 0:
        return PixelReadout()
    spot = int(result.raster.parent[pixel])
    values = [
        (gene, float(finished.columns[pixel, result.gene_column(gene)]), column)
        for gene, column in zip(genes, result.slide.gene_indices(genes) if genes else (), strict=True)
    ]
    return PixelReadout(
        str(result.slide.spot_ids[spot]),
        tuple((gene, value, float(result.slide.counts[spot, column])) for gene, value, column in values),
    )


class CursorReadout:
    """Reads the result on show wherever the pointer moves over the canvas.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    current
        Returns slide, result and layers that are on show, or None.
    pointed
        Takes the reading whenever it changes.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        current: Callable[[], tuple[Slide, DisplayedResult, Overlay] | None],
        pointed: Callable[[PixelReadout], None],
    ) -> None:
        self._viewer = viewer
        self._current = current
        self._pointed = pointed
        self._last = PixelReadout()
        self._callback = self._on_move
        viewer.mouse_move_callbacks.append(self._callback)

    def disconnect(self) -> None:
        """Stop listening to the viewer."""
        if self._callback in self._viewer.mouse_move_callbacks:
            self._viewer.mouse_move_callbacks.remove(self._callback)

    def _on_move(self, viewer: ViewerModel, event: Any) -> None:
        reading = self._read()
        if reading != self._last:
            self._last = reading
            self._pointed(reading)

    def _read(self) -> PixelReadout:
        current = self._current()
        if current is None:
            return PixelReadout()
        slide, finished, overlay = current
        world = np.asarray(self._viewer.cursor.position, dtype=float)[-2:][::-1]
        shift = overlay.offset_at(world)
        if overlay.compared is not None and (shift.any() or overlay.view == "before"):
            finished = overlay.compared
        point = apply_affine(np.linalg.inv(slide.to_cs), (world - shift)[None])[0]
        return read_at(finished, [paint.gene for paint in overlay.shown], point)
