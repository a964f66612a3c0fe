"""Build multiscale images and labels, so that viewers read a coarse level of a large image first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import dask.array as da
    from spatialdata.transformations import BaseTransformation
    from xarray import DataArray, DataTree

__all__ = ["MAX_FLAT_SIDE", "coarser_images", "coarser_labels", "join_levels"]

MAX_FLAT_SIDE = 2048
"""Longest side in pixels of an image without levels."""
_MIN_LEVEL_SIDE = 1024  # levels are halved as long as the longer side exceeds this


def coarser_images(image: da.Array) -> list[da.Array]:
    """Return the coarser levels of an image as means over 2 x 2 pixels each; none if the image is small.

    Parameters
    ----------
    image
        Lazy image, shape (c, y, x), with chunks of whole channels.
    """
    import dask.array as da

    levels: list[da.Array] = []
    level = image
    while _is_halved(image.shape, level.shape):
        rows, cols = (-(-side // 2) for side in level.shape[1:])
        level = da.map_blocks(_halve, level, chunks=(level.chunks[0], (rows,), (cols,)), dtype=level.dtype)
        levels.append(level)
    return levels


def coarser_labels(labels: np.ndarray) -> list[np.ndarray]:
    """Return the coarser levels of labels: every second row and column of the level before; none if they are small.

    Parameters
    ----------
    labels
        Labels, shape (y, x).
    """
    levels: list[np.ndarray] = []
    level = labels
    while _is_halved(labels.shape, level.shape):
        level = level[::2, ::2]
        levels.append(level)
    return levels


def join_levels(
    levels: Sequence[DataArray], transformations: Mapping[str, BaseTransformation], model: Any
) -> DataArray | DataTree:
    """Return levels as one element; a single level is returned as it is.

    Parameters
    ----------
    levels
        The levels, from the finest to the coarsest.
    transformations
        Transformations of the finest level, by coordinate system.
    model
        Model of SpatialData that validates the element.
    """
    if len(levels) == 1:
        return levels[0]
    from spatialdata.transformations import set_transformation
    from xarray import Dataset, DataTree

    tree = DataTree.from_dict({f"scale{i}": Dataset({"image": level}) for i, level in enumerate(levels)})
    set_transformation(tree, dict(transformations), set_all=True)
    model.validate(tree)
    return tree


def _is_halved(full: Sequence[int], level: Sequence[int]) -> bool:
    return max(full[-2:]) > MAX_FLAT_SIDE and max(level[-2:]) > _MIN_LEVEL_SIDE


def _halve(block: np.ndarray) -> np.ndarray:
    """Return means over 2 x 2 pixels; beyond an edge of odd length, pixels are 0 like all outside the spots."""
    channels, rows, cols = block.shape
    if rows % 2 or cols % 2:
        block = np.pad(block, ((0, 0), (0, rows % 2), (0, cols % 2)))
    quarters = block.reshape(channels, -(-rows // 2), 2, -(-cols // 2), 2)
    means: np.ndarray = quarters.mean(axis=(2, 4), dtype=block.dtype)
    return means
