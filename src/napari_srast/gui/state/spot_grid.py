"""Which pixel of an image shows which spot.

napari draws tens of thousands of points slowly, and an image of as many pixels at once. Bins are therefore shown with
one pixel for each bin, and very many other spots in levels from fine to coarse: in the finest, each spot has the pixels
that it covers; in the others, a pixel shows the mean of the spots whose centers are in it, so that no spot is left out
at any zoom.

Shape legend: N spots, C channels.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.lattice_frame import lattice_frame

__all__ = ["MAX_POINTS", "SpotGrid", "spot_grid"]

MAX_POINTS = 50_000
"""Number of spots up to which those that are not bins are drawn as points."""
_LATTICE_SPOTS = 2000  # in the middle of the slide, from which its lattice is detected
_MAX_SHIFT = 0.25  # of a bin from its node, in pitches
_BIN_SIZES = (0.9, 1.1)  # sides of bins, in pitches; smaller squares have gaps between them, which pixels would hide
_MAX_SIDE = 4096  # pixels
_MAX_PIXELS_PER_SPOT = 100  # of an image with one pixel for each bin: a slide may have few bins far apart
_PIXELS_PER_DIAMETER = 4.0
_REACH = 2  # pixels that a spot covers on each side of the one with its center
_COARSEST = 1024  # side of an image that needs no coarser level


@dataclass(frozen=True, eq=False)
class SpotGrid:
    """Images that show one value, or one color, for each spot.

    Parameters
    ----------
    shape
        Rows and columns of the finest level; multiples of ``2 ** (n_levels - 1)``.
    to_intrinsic
        (3, 3) affine, (x, y) order, from the pixel coordinates of the finest level to the intrinsic frame.
    row, col
        Pixel of the finest level that contains the center of each spot, shape (N,).
    owner
        Spot that each pixel of the finest level shows, -1 for none, of shape ``shape``. None: each pixel shows the mean
        of the spots in it.
    n_levels
        Number of levels; each has half the rows and columns of the one before.
    is_unique
        Whether no two spots have their centers in one pixel of the finest level.
    """

    shape: tuple[int, int]
    to_intrinsic: np.ndarray
    row: np.ndarray
    col: np.ndarray
    owner: np.ndarray | None = None
    n_levels: int = 1
    is_unique: bool = False

    def levels(self, values: np.ndarray, should_stop: Callable[[], bool] | None = None) -> list[np.ndarray]:
        """Return the image of values, shape (N,), or of colors, shape (N, C), at each level, in float32.

        Parameters
        ----------
        values
            One value or color per spot.
        should_stop
            Returns whether to stop; the levels so far are returned then. None: never.

        Returns
        -------
        list of np.ndarray
            From fine to coarse, each of shape (rows, columns) or (rows, columns, C); pixels without a spot are NaN, or
            transparent black for colors.
        """
        values = np.asarray(values, dtype=np.float32)
        images = [self._finest(values)]
        for level in range(1, self.n_levels):
            if should_stop is not None and should_stop():
                break
            images.append(self._means(values, level))
        return images

    def select(self, spots: np.ndarray) -> SpotGrid:
        """Return the grid of some spots only, given by their indices, without the rows and columns around them."""
        step = 2 ** (self.n_levels - 1)
        low = np.array([self.row[spots].min(), self.col[spots].min()]) // step * step
        high = -(-(np.array([self.row[spots].max(), self.col[spots].max()]) + 1) // step) * step
        owner = None
        if self.owner is not None:
            index = np.full(len(self.row) + 1, -1, dtype=np.int32)  # the last entry stands for no spot
            index[spots] = np.arange(len(spots))
            margin = max(step, _REACH)  # both are powers of two, so the levels still divide the shape
            low, high = np.maximum(low - margin, 0), np.minimum(high + margin, self.shape)
            owner = index[self.owner[low[0] : high[0], low[1] : high[1]]]
        shift = np.eye(3)
        shift[:2, 2] = low[::-1]
        return SpotGrid(
            (int(high[0] - low[0]), int(high[1] - low[1])),
            self.to_intrinsic @ shift,
            self.row[spots] - low[0],
            self.col[spots] - low[1],
            owner,
            self.n_levels,
            self.is_unique,
        )

    def _pixel(self, level: int) -> np.ndarray:
        """Return the flat index of the pixel of each spot at a level, shape (N,)."""
        return (self.row >> level).astype(np.int64) * (self.shape[1] >> level) + (self.col >> level)

    def _finest(self, values: np.ndarray) -> np.ndarray:
        if self.owner is not None:
            empty = np.full((1, *values.shape[1:]), np.nan if values.ndim == 1 else 0.0, dtype=np.float32)
            return np.concatenate([values, empty])[self.owner]
        if not self.is_unique:
            return self._means(values, 0)
        image = np.full((self.shape[0] * self.shape[1], *values.shape[1:]), np.nan, dtype=np.float32)
        if values.ndim > 1:
            image[:] = 0.0
        image[self._pixel(0)] = values
        return image.reshape(*self.shape, *values.shape[1:])

    def _means(self, values: np.ndarray, level: int) -> np.ndarray:
        rows, cols = self.shape[0] >> level, self.shape[1] >> level
        pixel = self._pixel(level)
        n_spots = np.bincount(pixel, minlength=rows * cols)
        channels = values[:, None] if values.ndim == 1 else values
        means = np.empty((rows * cols, channels.shape[1]), dtype=np.float32)
        for channel in range(channels.shape[1]):
            total = np.bincount(pixel, weights=channels[:, channel], minlength=rows * cols)
            means[:, channel] = total / np.maximum(n_spots, 1)
        means[n_spots == 0] = np.nan if values.ndim == 1 else 0.0
        return means.reshape(rows, cols, *values.shape[1:])


_grids: dict[tuple[object, ...], SpotGrid | None] = {}  # by the array of the centers, as long as it exists


def spot_grid(slide: Slide) -> SpotGrid | None:
    """Return the grid that shows the spots of a slide; None if they are drawn as points.

    Bins always have a grid, and other spots if there are more than :data:`MAX_POINTS`. The grid of a slide is made
    once, in the background thread that reads the slide.
    """
    is_square = slide.spot_shape == "square"
    if slide.n_spots < 2 or not (is_square or slide.n_spots > MAX_POINTS):
        return None
    key = (id(slide.centers), slide.spot_diameter, slide.spot_shape)
    if key not in _grids:
        grid = _bin_grid(slide)
        if grid is None and slide.n_spots > MAX_POINTS:
            grid = _scattered_grid(slide)
        _grids[key] = grid
        weakref.finalize(slide.centers, _grids.pop, key, None)
    return _grids[key]


def _bin_grid(slide: Slide) -> SpotGrid | None:
    """Return a grid with one pixel for each bin of a square lattice; None if the spots are not on one."""
    centers = slide.centers
    middle = np.median(centers, axis=0)
    n_sample = min(_LATTICE_SPOTS, len(centers))
    sample = np.argpartition(((centers - middle) ** 2).sum(axis=1), n_sample - 1)[:n_sample]
    if len(np.unique(centers[sample], axis=0)) < 2:
        return None
    lattice = detect_lattice(centers[sample], slide.spot_diameter)
    if lattice.kind != "square" or not np.isfinite(lattice.misfit):
        return None
    if slide.n_spots <= MAX_POINTS:
        size = 0.0 if not slide.spot_diameter else slide.spot_diameter / lattice.pitch
        if not _BIN_SIZES[0] <= size <= _BIN_SIZES[1]:
            return None
    frame = lattice_frame(centers, lattice)
    shift = np.abs(frame.to_positions(frame.nodes) - centers).max()
    col, row = (frame.nodes - frame.nodes.min(axis=0)).T
    shape = (int(row.max()) + 1, int(col.max()) + 1)
    is_sparse = shape[0] * shape[1] > _MAX_PIXELS_PER_SPOT * len(centers)
    if shift > _MAX_SHIFT * lattice.pitch or is_sparse or len(np.unique(row * shape[1] + col)) < len(centers):
        return None
    origin = frame.to_positions(frame.nodes.min(axis=0) - 0.5)
    matrix = np.eye(3)
    matrix[:2, 0], matrix[:2, 1], matrix[:2, 2] = frame.basis[0], frame.basis[1], origin
    return _with_levels(SpotGrid(shape, matrix, row, col, is_unique=True))


def _scattered_grid(slide: Slide) -> SpotGrid:
    """Return a grid whose finest pixels are a fraction of a spot, or larger on slides of a very large extent."""
    low, high = slide.centers.min(axis=0), slide.centers.max(axis=0)
    span = np.maximum(high - low, 1e-12)
    size = slide.spot_diameter or float(np.sqrt(np.prod(np.maximum(span, span.max() / 100)) / slide.n_spots))
    side = max(size / _PIXELS_PER_DIAMETER, float(span.max() + size) / (_MAX_SIDE - 1))
    low = low - size / 2
    cols, rows = (int(n) for n in np.floor((high + size / 2 - low) / side) + 1)
    matrix = np.array([[side, 0.0, low[0]], [0.0, side, low[1]], [0.0, 0.0, 1.0]])
    position = apply_affine(np.linalg.inv(matrix), slide.centers)
    col, row = np.floor(position).astype(np.int64).T
    grid = _with_levels(SpotGrid((rows, cols), matrix, row, col))
    radius = size / side / 2
    if radius < 1:  # several spots may share a pixel
        return grid
    owner = _owners(grid.shape, position, radius, is_square=slide.spot_shape == "square")
    return dataclasses.replace(grid, owner=owner)


def _owners(shape: tuple[int, int], position: np.ndarray, radius: float, *, is_square: bool) -> np.ndarray:
    """Return the spot that covers the center of each pixel, the nearest one of several, and -1 for none."""
    reach = int(np.ceil(radius))
    first = np.floor(position).astype(np.int64)
    pixels, spots, distances = [], [], []
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            col, row = first[:, 0] + right, first[:, 1] + down
            away = np.abs(np.column_stack([col, row]) + 0.5 - position)
            distance = away.max(axis=1) if is_square else np.sqrt((away**2).sum(axis=1))
            covered = np.flatnonzero(
                (distance <= radius) & (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
            )
            pixels.append(row[covered] * shape[1] + col[covered])
            spots.append(covered.astype(np.int32))
            distances.append(distance[covered].astype(np.float32))
    farthest_first = np.argsort(-np.concatenate(distances), kind="stable")
    owner = np.full(shape[0] * shape[1], -1, dtype=np.int32)
    owner[np.concatenate(pixels)[farthest_first]] = np.concatenate(spots)[farthest_first]
    return owner.reshape(shape)


def _with_levels(grid: SpotGrid) -> SpotGrid:
    """Return a grid with as many levels as its size needs, and rows and columns that they divide evenly."""
    n_levels = 1
    while max(grid.shape) >> (n_levels - 1) > _COARSEST:
        n_levels += 1
    step = 2 ** (n_levels - 1)
    rows, cols = (-(-n // step) * step for n in grid.shape)
    return dataclasses.replace(grid, shape=(rows, cols), n_levels=n_levels)
