"""Streams an image of any size onto a small grid over the spots: mean and mean square of every channel in each cell.

From these two moments the mean and the spread at any coarser scale follow without another look at the image.
Shape legend: M channels, y rows, x columns of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_srast.core.slide import SlideImage
from napari_srast.errors import InputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.histology.stains import StainModel, choose_stain_model, derived, read_channels

__all__ = ["ImageStatistics", "image_window", "level_for", "stream_image_statistics"]

CELLS_PER_PITCH = 24.0
FINE_PER_CELL = 2.0  # image pixels that a cell should have along its side, where the image is fine enough
MARGIN = 2.0  # pitches around the spots: trial shifts look there
_STRIP_VALUES = 1 << 24  # values of the image in memory at once
_SAMPLE_SIDE = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageStatistics:
    """Channels of an image on a coarse grid.

    Parameters
    ----------
    mean, square
        Mean and mean square over each cell, float32 (M, y, x).
    names
        Names of the channels, length M.
    to_grid
        (3, 3) affine from the spots' own frame to grid coordinates; the center of cell [0, 0] lies at (0.5, 0.5).
    cell
        Side of a cell, in units of the spots' frame.
    reading
        How the image was read.
    """

    mean: np.ndarray
    square: np.ndarray
    names: tuple[str, ...]
    to_grid: np.ndarray
    cell: float
    reading: StainModel


def stream_image_statistics(image: SlideImage, spots: np.ndarray, pitch: float) -> ImageStatistics:
    """Read the part of an image around the spots, strip by strip.

    Parameters
    ----------
    image
        Multiscale and lazy; the coarsest level that is still fine enough is read.
    spots
        Spot centers in the spots' own frame, shape (N, 2).
    pitch
        Distance between neighboring spots.

    Raises
    ------
    InputError
        The image does not reach under the spots.
    """
    level, pixel = level_for(image, pitch / CELLS_PER_PITCH / FINE_PER_CELL)
    stored, to_intrinsic = image.levels[level], image.to_intrinsic[level]
    x0, y0, x1, y1 = image_window(stored.shape, spots, to_intrinsic, MARGIN * pitch / pixel, image.name)
    # Where the file has no coarser level, pixels are first averaged to what one would have.
    first_step = max(1, int(pitch / CELLS_PER_PITCH / FINE_PER_CELL / pixel))
    cells = max(1, round(pitch / CELLS_PER_PITCH / pixel / first_step))
    reduce = min(first_step * cells, y1 - y0, x1 - x0)
    cells = max(1, reduce // first_step)
    first_step = reduce // cells
    reduce = first_step * cells
    n_rows, n_cols = (y1 - y0) // reduce, (x1 - x0) // reduce

    step = max(1, int(max(y1 - y0, x1 - x0) / _SAMPLE_SIDE))
    reading = choose_stain_model(_read(stored, slice(y0, y1, step), slice(x0, x1, step)), image.channels)
    names = (*reading.names, "gradient", "nuclei", "tissue")
    mean = np.empty((len(names), n_rows, n_cols), dtype=np.float32)
    square = np.empty_like(mean)
    rows_at_once = max(1, _STRIP_VALUES // max(stored.shape[0] * (x1 - x0) * reduce, 1))
    for start in range(0, n_rows, rows_at_once):
        stop = min(start + rows_at_once, n_rows)
        # One row more on either side, so that gradients know nothing of strips.
        above, below = int(start > 0), int(stop < n_rows)
        rows = slice(y0 + start * reduce - above * first_step, y0 + stop * reduce + below * first_step)
        strip = _averaged(_read(stored, rows, slice(x0, x0 + n_cols * reduce)), first_step)
        channels = _channels(strip, reading)[:, above : strip.shape[1] - below]
        blocks = channels.reshape(len(names), stop - start, cells, n_cols, cells)
        mean[:, start:stop] = blocks.mean(axis=(2, 4))
        square[:, start:stop] = np.square(blocks).mean(axis=(2, 4))

    to_level = np.linalg.inv(to_intrinsic)
    shrink = np.diag([1 / reduce, 1 / reduce, 1.0])
    shrink[:2, 2] = -x0 / reduce, -y0 / reduce
    return ImageStatistics(
        mean=mean,
        square=square,
        names=names,
        to_grid=shrink @ to_level,
        cell=pixel * reduce,
        reading=reading,
    )


def level_for(image: SlideImage, side: float) -> tuple[int, float]:
    """Return the coarsest level whose pixels are no larger than ``side``, else the finest, and its pixels' side."""
    pixel = [float(np.sqrt(abs(np.linalg.det(affine[:2, :2])))) for affine in image.to_intrinsic]
    fine_enough = [i for i, of_level in enumerate(pixel) if of_level <= side * 1.01]
    level = max(fine_enough, key=lambda i: pixel[i]) if fine_enough else int(np.argmin(pixel))
    return level, pixel[level]


def image_window(
    shape: tuple[int, ...], spots: np.ndarray, to_intrinsic: np.ndarray, margin: float, name: str
) -> tuple[int, int, int, int]:
    """Return the columns and rows (x0, y0, x1, y1) of an image of shape (c, y, x) around spots (N, 2).

    Raises
    ------
    InputError
        The image does not reach under the spots.
    """
    places = apply_affine(np.linalg.inv(to_intrinsic), spots)
    size = np.array([shape[2], shape[1]])
    inside = np.all((places >= 0) & (places <= size), axis=1)
    low = np.clip(np.floor(places.min(axis=0) - margin), 0, size).astype(int)
    high = np.clip(np.ceil(places.max(axis=0) + margin), 0, size).astype(int)
    if not inside.any() or np.any(high <= low):
        raise InputError(
            f"The image '{name}' does not lie under the spots; check its transformation, or leave it out with "
            "--image none."
        )
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _read(stored: Any, rows: slice, columns: slice) -> np.ndarray:
    """Read a part of a (c, y, x) array, numpy or dask."""
    return np.asarray(stored[:, rows, columns])


def _averaged(pixels: np.ndarray, size: int) -> np.ndarray:
    """Average squares of pixels, shape (C, y / size, x / size)."""
    if size == 1:
        return pixels
    n_channels, n_rows, n_cols = pixels.shape
    blocks = pixels.reshape(n_channels, n_rows // size, size, n_cols // size, size)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def _channels(pixels: np.ndarray, reading: StainModel) -> np.ndarray:
    """Return stains, gradient, nuclei and tissue of a strip, float32 (M, y, x)."""
    stains = read_channels(pixels, reading)
    density, masks = derived(stains, reading)
    down = np.gradient(density, axis=0) if density.shape[0] > 1 else np.zeros_like(density)
    across = np.gradient(density, axis=1) if density.shape[1] > 1 else np.zeros_like(density)
    return np.concatenate([stains, np.hypot(down, across)[None], masks]).astype(np.float32)
