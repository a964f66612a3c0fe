"""What a layer of spots shows, as points or as an image, spot by spot."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Points

from napari_srast.core.slide import Slide
from napari_srast.gui.layers.factory import KEY
from napari_srast.gui.state.spot_grid import SpotGrid, spot_grid

__all__ = ["spot_colors", "spot_positions"]


def _grid(layer: Any, slide: Slide) -> SpotGrid:
    grid = layer.metadata[KEY].get("grid") or spot_grid(slide)
    assert grid is not None
    return grid


def spot_colors(layer: Any, slide: Slide) -> np.ndarray:
    """Return the color of each spot of a layer, shape (n, 4)."""
    if isinstance(layer, Points):
        return layer.face_color
    grid = _grid(layer, slide)
    image = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    values = image[grid.row, grid.col]
    if layer.rgb:
        return values
    low, high = layer.contrast_limits
    return layer.colormap.map(np.clip((values - low) / (high - low), 0, 1))


def spot_positions(layer: Any, slide: Slide) -> np.ndarray:
    """Return the position of each spot of a layer, (x, y) in world coordinates, shape (n, 2)."""
    grid = None if isinstance(layer, Points) else _grid(layer, slide)
    points = layer.data if grid is None else np.column_stack([grid.row, grid.col])
    return np.array([layer.data_to_world(point) for point in points])[:, ::-1]
