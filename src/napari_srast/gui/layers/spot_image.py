"""Spots as an image: bins with one pixel each, and spots that are too many for points."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap, ensure_colormap

from napari_srast.gui.state.spot_grid import SpotGrid

__all__ = ["blank_colors", "counts_colormap", "image_data", "number_colormap", "plain_colormap", "set_image"]

_COLORMAP = "inferno"
_LOW_OPACITY, _HIGH_OPACITY = 0.25, 0.9  # where counts are low, the histology stays readable
_TRANSPARENT = [0.0, 0.0, 0.0, 0.0]


@functools.cache
def counts_colormap() -> Colormap:
    """Return the colormap of measured counts; it is more opaque where they are high, and NaN is transparent."""
    colors = np.array(ensure_colormap(_COLORMAP).colors)
    level = np.linspace(0.0, 1.0, len(colors))
    colors[:, 3] = _LOW_OPACITY + (_HIGH_OPACITY - _LOW_OPACITY) * np.sqrt(level)
    return Colormap(colors, name="SRast counts", nan_color=_TRANSPARENT)


@functools.cache
def number_colormap() -> Colormap:
    """Return an opaque colormap for numbers that are no counts of a gene; NaN is transparent."""
    return Colormap(ensure_colormap("viridis").colors, name="SRast numbers", nan_color=_TRANSPARENT)


def plain_colormap(opacity: float) -> Colormap:
    """Return white of an opacity from 0 to 1 for every value; NaN is transparent."""
    return Colormap([[1.0, 1.0, 1.0, opacity]] * 2, name="SRast spots", nan_color=_TRANSPARENT)


def blank_colors(grid: SpotGrid) -> list[np.ndarray]:
    """Return transparent images for the colors of spots, one of each level."""
    return [np.zeros((grid.shape[0] >> k, grid.shape[1] >> k, 4), dtype=np.float32) for k in range(grid.n_levels)]


def image_data(levels: list[np.ndarray]) -> dict[str, Any]:
    """Return the options of an image layer for the levels of a grid: its data, and whether they are several."""
    is_multiscale = len(levels) > 1
    return {"data": levels if is_multiscale else levels[0], "multiscale": is_multiscale}


def set_image(layer: Image, levels: list[np.ndarray]) -> None:
    """Replace the images of all levels of a layer."""
    layer.data = levels if layer.multiscale else levels[0]
