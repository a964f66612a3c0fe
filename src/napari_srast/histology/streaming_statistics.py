"""Stream an image of any size onto a coarse grid over the spots: mean and mean square of every channel in each cell.

Mean and standard deviation at any coarser scale follow from these two moments without reading the image again.

Shape legend: C channels of the file, M channels of the grid, y rows, x columns.
"""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_srast.core.slide import SlideImage
from napari_srast.errors import InputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.histology.stains import StainModel, density_and_masks, fit_stain_model, to_stain_channels

__all__ = ["ImageStatistics", "image_digest", "image_window", "level_for", "stream_image_statistics"]

CELLS_PER_PITCH = 24.0
PIXELS_PER_CELL = 2.0  # image pixels along the side of a cell, if the image is fine enough
MARGIN = 2.0  # pitches around the spots, for trial shifts
_STRIP_VALUES = 1 << 24  # image values in memory at a time
_SAMPLE_SIDE = 1024  # pixels along the side of the sample for the stain model


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageStatistics:
    """Hold the channels of an image on a coarse grid.

    Parameters
    ----------
    mean, square
        Mean and mean square over each cell, float32, shape (M, y, x).
    names
        Channel names, length M.
    to_grid
        Affine from the spots' own frame to grid coordinates, shape (3, 3); the center of cell [0, 0] is at (0.5, 0.5).
    cell_size
        Side of a cell, in units of the spots' own frame.
    stain_model
        Conversion of pixel values to channels.
    """

    mean: np.ndarray
    square: np.ndarray
    names: tuple[str, ...]
    to_grid: np.ndarray
    cell_size: float
    stain_model: StainModel


def stream_image_statistics(image: SlideImage, spots: np.ndarray, pitch: float) -> ImageStatistics:
    """Compute the channel statistics of the part of an image around the spots, strip by strip.

    Parameters
    ----------
    image
        Multiscale, possibly lazy image; the coarsest level that is fine enough is read.
    spots
        Spot centers in the spots' own frame, shape (N, 2).
    pitch
        Distance between neighboring spots.

    Raises
    ------
    InputError
        The image does not cover any spot.
    """
    level, pixel = level_for(image, pitch / CELLS_PER_PITCH / PIXELS_PER_CELL)
    stored, to_intrinsic = image.levels[level], image.to_intrinsic[level]
    x0, y0, x1, y1 = image_window(stored.shape, spots, to_intrinsic, MARGIN * pitch / pixel, image.name)
    # If the file has no level of this resolution, pixels are first averaged to it.
    first_step = max(1, int(pitch / CELLS_PER_PITCH / PIXELS_PER_CELL / pixel))
    cells = max(1, round(pitch / CELLS_PER_PITCH / pixel / first_step))
    reduce = min(first_step * cells, y1 - y0, x1 - x0)
    cells = max(1, reduce // first_step)
    first_step = reduce // cells
    reduce = first_step * cells
    n_rows, n_cols = (y1 - y0) // reduce, (x1 - x0) // reduce

    step = max(1, int(max(y1 - y0, x1 - x0) / _SAMPLE_SIDE))
    stain_model = fit_stain_model(_read(stored, slice(y0, y1, step), slice(x0, x1, step)), image.channels)
    names = (*stain_model.names, "gradient", "nuclei", "tissue")
    mean = np.empty((len(names), n_rows, n_cols), dtype=np.float32)
    square = np.empty_like(mean)
    rows_at_once = max(1, _STRIP_VALUES // max(stored.shape[0] * (x1 - x0) * reduce, 1))
    for start in range(0, n_rows, rows_at_once):
        stop = min(start + rows_at_once, n_rows)
        # One extra row on either side, so that gradients do not depend on the strips.
        above, below = int(start > 0), int(stop < n_rows)
        rows = slice(y0 + start * reduce - above * first_step, y0 + stop * reduce + below * first_step)
        strip = _average_blocks(_read(stored, rows, slice(x0, x0 + n_cols * reduce)), first_step)
        channels = _channels(strip, stain_model)[:, above : strip.shape[1] - below]
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
        cell_size=pixel * reduce,
        stain_model=stain_model,
    )


_digests: weakref.WeakKeyDictionary[SlideImage, dict[bytes, str]] = weakref.WeakKeyDictionary()


def image_digest(image: SlideImage, spots: np.ndarray, pitch: float) -> str:
    """Return a hash of all that :func:`stream_image_statistics` reads of an image, which has the same parameters.

    The name of the image plays no role. The hash is computed once, as long as the image exists.

    Raises
    ------
    InputError
        The image does not cover any spot.
    """
    known = _digests.setdefault(image, {})
    key = np.append(spots.ravel(), pitch).astype(np.float64).tobytes()
    if key not in known:
        level, pixel = level_for(image, pitch / CELLS_PER_PITCH / PIXELS_PER_CELL)
        stored, to_intrinsic = image.levels[level], image.to_intrinsic[level]
        x0, y0, x1, y1 = image_window(stored.shape, spots, to_intrinsic, MARGIN * pitch / pixel, image.name)
        described = (stored.shape, stored.dtype, to_intrinsic.tolist(), image.channels, x0, y0, x1, y1)
        digest = hashlib.blake2b(repr(described).encode(), digest_size=16)
        rows_at_once = max(1, _STRIP_VALUES // max(stored.shape[0] * (x1 - x0), 1))
        for start in range(y0, y1, rows_at_once):
            strip = _read(stored, slice(start, min(start + rows_at_once, y1)), slice(x0, x1))
            digest.update(np.ascontiguousarray(strip).data)
        known[key] = digest.hexdigest()
    return known[key]


def level_for(image: SlideImage, side: float) -> tuple[int, float]:
    """Choose the coarsest level of an image whose pixels are small enough.

    Parameters
    ----------
    image
        Multiscale image.
    side
        Largest side of a pixel, in units of the spots' own frame.

    Returns
    -------
    level
        Index of the level; the finest if none is fine enough.
    pixel_size
        Side of its pixels.
    """
    pixel = [float(np.sqrt(abs(np.linalg.det(affine[:2, :2])))) for affine in image.to_intrinsic]
    fine_enough = [i for i, size in enumerate(pixel) if size <= side * 1.01]
    level = max(fine_enough, key=lambda i: pixel[i]) if fine_enough else int(np.argmin(pixel))
    return level, pixel[level]


def image_window(
    shape: tuple[int, ...], spots: np.ndarray, to_intrinsic: np.ndarray, margin: float, name: str
) -> tuple[int, int, int, int]:
    """Compute the window of an image around the spots.

    Parameters
    ----------
    shape
        Shape (c, y, x) of the image level.
    spots
        Spot centers in the spots' own frame, shape (N, 2).
    to_intrinsic
        Affine from pixels of the level to the spots' own frame, shape (3, 3).
    margin
        Margin around the spots in pixels.
    name
        Name of the image, for the error message.

    Returns
    -------
    tuple of int
        First column, first row, end column and end row (x0, y0, x1, y1).

    Raises
    ------
    InputError
        The image does not cover any spot.
    """
    points = apply_affine(np.linalg.inv(to_intrinsic), spots)
    size = np.array([shape[2], shape[1]])
    inside = np.all((points >= 0) & (points <= size), axis=1)
    low = np.clip(np.floor(points.min(axis=0) - margin), 0, size).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + margin), 0, size).astype(int)
    if not inside.any() or np.any(high <= low):
        raise InputError(
            f"The image '{name}' does not cover the spots; check its transformation, or exclude it with --image none."
        )
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _read(stored: Any, rows: slice, columns: slice) -> np.ndarray:
    """Read a window of a (c, y, x) array, NumPy or Dask."""
    window = stored[:, rows, columns]
    if not hasattr(window, "compute"):
        return np.asarray(window)
    from dask.threaded import get

    # The name of a scheduler, or none, would import Dask's distributed one first, which takes a fifth of a second.
    return np.asarray(window.compute(scheduler=get))


def _average_blocks(pixels: np.ndarray, size: int) -> np.ndarray:
    """Average blocks of ``size`` x ``size`` pixels, shape (C, y / size, x / size)."""
    if size == 1:
        return pixels
    n_channels, n_rows, n_cols = pixels.shape
    blocks = pixels.reshape(n_channels, n_rows // size, size, n_cols // size, size)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def _channels(pixels: np.ndarray, stain_model: StainModel) -> np.ndarray:
    """Compute stains, gradient, nuclei and tissue of a strip, float32, shape (M, y, x)."""
    stains = to_stain_channels(pixels, stain_model)
    density, masks = density_and_masks(stains, stain_model)
    down = np.gradient(density, axis=0) if density.shape[0] > 1 else np.zeros_like(density)
    across = np.gradient(density, axis=1) if density.shape[1] > 1 else np.zeros_like(density)
    return np.concatenate([stains, np.hypot(down, across)[None], masks]).astype(np.float32)
