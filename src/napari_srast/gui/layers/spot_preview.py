"""Color the spots of a slide by measured counts, before anything is computed."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
from napari.layers import Points
from napari.utils.colormaps import ensure_colormap

from napari_srast.core.slide import Slide

__all__ = ["MAX_SPOTS", "SpotPreview", "color_limits", "gene_counts"]

MAX_SPOTS = 200_000
"""Number of spots up to which they are colored; more would take seconds to draw."""
_COLORMAP = "inferno"
_LOW_OPACITY, _HIGH_OPACITY = 0.25, 0.9  # where counts are low, the histology stays readable
_PERCENTILE = 99.0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Outlines:
    """Look of spots that are not colored."""

    face_color: np.ndarray
    border_color: np.ndarray
    border_width: np.ndarray


def color_limits(values: np.ndarray) -> tuple[float, float]:
    """Return the counts of the darkest and of the brightest color; single extreme spots do not count.

    Parameters
    ----------
    values
        Counts of the spots, shape (N,).
    """
    counted = values[values > 0]
    if not len(counted):
        return 0.0, 1.0
    return 0.0, float(max(np.percentile(counted, _PERCENTILE), 1e-12))


class SpotPreview:
    """Colors of one layer of spots.

    Parameters
    ----------
    layer
        The layer; its points are the spots of the slide, in their order.
    """

    def __init__(self, layer: Points) -> None:
        self._reference = weakref.ref(layer)  # previews are kept by layer, and must not keep a closed slide alive
        self._outlines = _Outlines(
            face_color=np.array(layer.face_color),
            border_color=np.array(layer.border_color),
            border_width=np.array(layer.border_width),
        )
        self.is_colored = False

    @property
    def _layer(self) -> Points:
        layer = self._reference()
        assert layer is not None, "a preview is used while its layer is there"
        return layer

    def color(self, values: np.ndarray) -> tuple[float, float]:
        """Color the spots by their counts, shape (N,); return the limits of the colors."""
        limits = color_limits(values)
        share = np.clip((values - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)
        colors = ensure_colormap(_COLORMAP).map(share)
        colors[:, 3] = _LOW_OPACITY + (_HIGH_OPACITY - _LOW_OPACITY) * np.sqrt(share)
        self._layer.face_color = colors
        if not self.is_colored:
            self._layer.border_width = 0.0
        self.is_colored = True
        return limits

    def outline(self) -> None:
        """Show the outlines of the spots again."""
        if self.is_colored:
            self._layer.face_color = self._outlines.face_color
            self._layer.border_color = self._outlines.border_color
            self._layer.border_width = self._outlines.border_width
            self.is_colored = False


def gene_counts(slide: Slide, gene: str | None) -> np.ndarray:
    """Return the counts of a gene in each spot, or of all genes (None), shape (N,)."""
    if gene is None:
        return np.asarray(slide.counts.sum(axis=1, dtype=np.float64)).ravel()
    column = int(slide.gene_indices([gene])[0])
    return np.asarray(slide.counts[:, [column]].todense(), dtype=np.float64).ravel()
