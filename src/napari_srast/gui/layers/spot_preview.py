"""Color the spots of a slide by measured counts, before anything is computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from napari.layers import Image, Points
from napari.utils.colormaps import Colormap

from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled
from napari_srast.gui.layers.spot_image import counts_colormap, set_image
from napari_srast.gui.state.spot_grid import spot_grid

__all__ = ["CountsPicture", "SpotPreview", "color_limits", "counts_picture", "gene_counts"]

_PERCENTILE = 99.0
_BLOCK = 4_000_000  # entries of the counts between two questions whether to stop


@dataclass(frozen=True, kw_only=True, eq=False)
class CountsPicture:
    """Measured counts, ready to be drawn.

    Parameters
    ----------
    limits
        Counts of the darkest and of the brightest color.
    values
        Counts of each spot, shape (N,).
    levels
        Images of the counts, from fine to coarse; None for spots that are drawn as points.
    """

    limits: tuple[float, float]
    values: np.ndarray
    levels: list[np.ndarray] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Outlines:
    """Look of points that are not colored."""

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


def gene_counts(slide: Slide, gene: str | None, should_stop: Callable[[], bool] | None = None) -> np.ndarray:
    """Return the counts of a gene in each spot, or of all genes (None), shape (N,).

    Parameters
    ----------
    slide
        The slide.
    gene
        Name of the gene; None for the sum over all genes.
    should_stop
        Returns whether to stop. None: never.

    Raises
    ------
    Cancelled
        ``should_stop`` has returned True.
    """
    counts = slide.counts
    if gene is None:
        return np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    column = int(slide.gene_indices([gene])[0])
    values = np.zeros(slide.n_spots)
    for start in range(0, counts.nnz, _BLOCK):
        _check(should_stop)
        entries = start + np.flatnonzero(counts.indices[start : start + _BLOCK] == column)
        np.add.at(values, np.searchsorted(counts.indptr, entries, side="right") - 1, counts.data[entries])
    return values


def counts_picture(slide: Slide, gene: str | None, should_stop: Callable[[], bool] | None = None) -> CountsPicture:
    """Prepare the counts of a gene, or of all genes (None), for drawing; see :func:`gene_counts`."""
    values = gene_counts(slide, gene, should_stop)
    _check(should_stop)
    grid = spot_grid(slide)
    levels = None if grid is None else grid.levels(values, should_stop)
    _check(should_stop)
    return CountsPicture(limits=color_limits(values), values=values, levels=levels)


def _check(should_stop: Callable[[], bool] | None) -> None:
    if should_stop is not None and should_stop():
        raise Cancelled


class SpotPreview:
    """Colors of one layer of spots.

    Parameters
    ----------
    layer
        The layer; its points, or its pixels, are the spots of the slide.
    """

    def __init__(self, layer: Points | Image) -> None:
        self._reference = weakref.ref(layer)  # previews are kept by layer, and must not keep a closed slide alive
        self._plain: Colormap | _Outlines
        if isinstance(layer, Image):
            self._plain = layer.colormap
        else:
            self._plain = _Outlines(
                face_color=np.array(layer.face_color),
                border_color=np.array(layer.border_color),
                border_width=np.array(layer.border_width),
            )
        self.is_colored = False

    @property
    def _layer(self) -> Points | Image:
        layer = self._reference()
        assert layer is not None, "a preview is used while its layer is there"
        return layer

    def color(self, picture: CountsPicture) -> None:
        """Color the spots by their counts."""
        layer, (low, high) = self._layer, picture.limits
        if isinstance(layer, Image):
            assert picture.levels is not None
            set_image(layer, picture.levels)
            layer.contrast_limits_range = (low, 2 * high)
            layer.contrast_limits = (low, high)
            if not self.is_colored:
                layer.colormap = counts_colormap()
        else:
            share = np.clip((picture.values - low) / (high - low), 0.0, 1.0)
            colors = counts_colormap().map(share)
            layer.face_color = colors
            layer.border_color = colors  # of spots that are smaller than a few pixels, napari draws hardly more
            if not self.is_colored:
                layer.border_width = 0.0
        self.is_colored = True

    def outline(self) -> None:
        """Show the spots without colors again."""
        if not self.is_colored:
            return
        layer, plain = self._layer, self._plain
        if isinstance(layer, Image):
            layer.colormap = plain
        elif isinstance(plain, _Outlines):
            layer.face_color = plain.face_color
            layer.border_color = plain.border_color
            layer.border_width = plain.border_width
        self.is_colored = False
