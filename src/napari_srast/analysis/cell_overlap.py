"""Exact areas that polygons, or the runs of a label image, share with the pixels of a raster.

All geometry is in pixel coordinates of the raster (column, row), in which a pixel is a square of side 1. Shape legend:
C cells, Q pixels, n pieces.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from scipy import sparse

from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.raster import Raster

__all__ = ["Overlap", "overlap_of_polygons", "overlap_of_runs"]

_PAIRS_AT_ONCE = 1_000_000
_CELLS_AT_ONCE = 10_000
_ALIGNED = 1e-9  # pixels: rectangles turned by less are treated as parallel to the raster
_SMALLEST = 1e-9  # pixels: areas below are rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlap:
    """Areas that cells share with pixels.

    Parameters
    ----------
    shares
        Fraction of the area of each pixel that belongs to each cell, float64 CSR, shape (C, Q). The fractions of a
        pixel sum to at most 1: an area that several cells cover is divided equally among them.
    area
        Area of each cell in pixels, inside and outside the raster, shape (C,).
    centroid
        Centroid of each cell in pixel coordinates (column, row), shape (C, 2).
    n_overlapping
        Number of cells that share area with another cell.
    """

    shares: sparse.csr_matrix
    area: np.ndarray
    centroid: np.ndarray
    n_overlapping: int = 0


def overlap_of_polygons(raster: Raster, polygons: np.ndarray, monitor: RunMonitor = NO_MONITOR) -> Overlap:
    """Return the areas that polygons share with pixels.

    Parameters
    ----------
    raster
        The pixels.
    polygons
        Valid polygons or multipolygons in the intrinsic frame, shape (C,).
    monitor
        Asked for cancellation between steps.
    """
    to_pixels = np.linalg.inv(raster.affine)
    moved = shapely.transform(polygons, lambda points: apply_affine(to_pixels, points))
    entries = list(_polygon_areas(raster, moved, np.arange(len(moved)), monitor))
    shares = _matrix(raster, entries, len(moved))
    pairs = _overlapping_pairs(moved, monitor)
    if len(pairs):
        shares = _divide_common_areas(raster, moved, shares, pairs, monitor)
    centroid = shapely.get_coordinates(shapely.centroid(moved))
    return Overlap(
        shares=_bounded(shares), area=shapely.area(moved), centroid=centroid, n_overlapping=len(np.unique(pairs))
    )


def overlap_of_runs(
    raster: Raster, runs: np.ndarray, owner: np.ndarray, to_intrinsic: np.ndarray, monitor: RunMonitor = NO_MONITOR
) -> Overlap:
    """Return the areas that cells of a label image share with pixels.

    Parameters
    ----------
    raster
        The pixels.
    runs
        Row, first column and column after the last of each run of equal labels, shape (n, 3).
    owner
        Index of the cell of each run, shape (n,); every cell has a run.
    to_intrinsic
        Transformation from pixel coordinates of the label image (column, row) to the intrinsic frame, shape (3, 3).
    monitor
        Asked for cancellation between steps.
    """
    to_pixels = np.linalg.inv(raster.affine) @ to_intrinsic
    row, start, stop = np.asarray(runs, dtype=float).T
    n_cells = int(owner.max()) + 1
    area = np.bincount(owner, stop - start, n_cells)
    middle = [np.bincount(owner, (stop - start) * place, n_cells) / area for place in ((start + stop) / 2, row + 0.5)]
    corners = np.stack(
        [
            apply_affine(to_pixels, np.column_stack(xy))
            for xy in ((start, row), (stop, row), (stop, row + 1), (start, row + 1))
        ],
        axis=1,
    )
    low, high = corners.min(axis=1), corners.max(axis=1)
    sides = np.sort(np.abs(np.diff(corners, axis=1, append=corners[:, :1])), axis=2)
    if sides[:, :, 0].max() < _ALIGNED:
        entries = list(_rectangle_areas(raster, low, high, owner, monitor))
    else:
        entries = list(_polygon_areas(raster, np.asarray(shapely.polygons(corners)), owner, monitor))
    return Overlap(
        shares=_bounded(_matrix(raster, entries, n_cells)),
        area=area * abs(float(np.linalg.det(to_pixels[:2, :2]))),
        centroid=apply_affine(to_pixels, np.column_stack(middle)),
    )


_Entries = tuple[np.ndarray, np.ndarray, np.ndarray]  # cell, pixel, area


def _candidates(
    raster: Raster, low: np.ndarray, high: np.ndarray, monitor: RunMonitor
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield piece, column, row and index of the pixels in the bounding boxes of pieces, some pairs at a time."""
    limit = np.array(raster.shape[::-1])
    first = np.clip(np.floor(low), 0, limit).astype(np.int64)
    last = np.clip(np.ceil(high), 0, limit).astype(np.int64)
    size = np.maximum(last - first, 0)
    total = np.cumsum(size.prod(axis=1))
    start = 0
    while start < len(low):
        monitor.check_canceled()
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + _PAIRS_AT_ONCE, side="right")))
        number = size[start:stop].prod(axis=1)
        piece = np.repeat(np.arange(start, stop), number)
        place = np.arange(len(piece)) - np.repeat(np.cumsum(number) - number, number)
        width = size[piece, 0]
        col, row = first[piece, 0] + place % np.maximum(width, 1), first[piece, 1] + place // np.maximum(width, 1)
        pixel = raster.index_image[row, col]
        used = pixel >= 0
        yield piece[used], col[used], row[used], pixel[used]
        start = stop


def _rectangle_areas(
    raster: Raster, low: np.ndarray, high: np.ndarray, owner: np.ndarray, monitor: RunMonitor
) -> Iterator[_Entries]:
    for piece, col, row, pixel in _candidates(raster, low, high, monitor):
        width = np.minimum(high[piece, 0], col + 1) - np.maximum(low[piece, 0], col)
        height = np.minimum(high[piece, 1], row + 1) - np.maximum(low[piece, 1], row)
        yield owner[piece], pixel, np.maximum(width, 0) * np.maximum(height, 0)


def _polygon_areas(raster: Raster, polygons: np.ndarray, owner: np.ndarray, monitor: RunMonitor) -> Iterator[_Entries]:
    shapely.prepare(polygons)
    bounds = shapely.bounds(polygons)
    for piece, col, row, pixel in _candidates(raster, bounds[:, :2], bounds[:, 2:], monitor):
        boxes = shapely.box(col, row, col + 1, row + 1)
        area = shapely.contains_properly(polygons[piece], boxes).astype(float)
        cut = np.flatnonzero((area == 0) & shapely.intersects(polygons[piece], boxes))
        area[cut] = shapely.area(shapely.intersection(polygons[piece[cut]], boxes[cut]))
        yield owner[piece], pixel, area


def _matrix(raster: Raster, entries: list[_Entries], n_cells: int) -> sparse.csr_matrix:
    cell, pixel, area = (np.concatenate([one[i] for one in entries]) for i in range(3)) if entries else ([], [], [])
    matrix = sparse.csr_matrix((area, (cell, pixel)), shape=(n_cells, raster.n_pixels), dtype=np.float64)
    matrix.sum_duplicates()
    matrix.data[matrix.data < _SMALLEST] = 0
    matrix.eliminate_zeros()
    return matrix


def _bounded(shares: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return shares whose sums over the cells of a pixel are at most 1, where rounding exceeds it."""
    total = np.asarray(shares.sum(axis=0)).ravel()
    scaled = sparse.csr_matrix(shares @ sparse.diags_array(1 / np.maximum(total, 1)))
    scaled.sort_indices()
    return scaled


def _overlapping_pairs(polygons: np.ndarray, monitor: RunMonitor) -> np.ndarray:
    """Return the pairs of polygons that share area, as indices i < j, shape (n, 2)."""
    tree = shapely.STRtree(polygons)
    found = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(polygons), _CELLS_AT_ONCE):
        monitor.check_canceled()
        left, right = tree.query(polygons[start : start + _CELLS_AT_ONCE], predicate="intersects")
        pairs = np.column_stack([left + start, right])
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        common = shapely.area(shapely.intersection(polygons[pairs[:, 0]], polygons[pairs[:, 1]]))
        found.append(pairs[common > _SMALLEST])
    return np.concatenate(found)


def _divide_common_areas(
    raster: Raster, polygons: np.ndarray, shares: sparse.csr_matrix, pairs: np.ndarray, monitor: RunMonitor
) -> sparse.csr_matrix:
    """Divide every area that several polygons cover equally among them, in the pixels where that happens."""
    both = shares[pairs[:, 0]].multiply(shares[pairs[:, 1]])
    pixels = np.unique(both.nonzero()[1])
    entries = shares.tocoo()
    kept = ~np.isin(entries.col, pixels)
    cells_of: dict[int, list[int]] = defaultdict(list)
    for owner, place in zip(entries.row[~kept], entries.col[~kept], strict=True):
        cells_of[int(place)].append(int(owner))
    found: list[tuple[int, int, float]] = []
    for one, cells in cells_of.items():
        monitor.check_canceled()
        col, row = int(raster.col[one]), int(raster.row[one])
        pieces = shapely.buffer(shapely.intersection(polygons[cells], shapely.box(col, row, col + 1, row + 1)), 0)
        outlines = shapely.unary_union(shapely.boundary(pieces))
        faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(outlines)))
        inside = shapely.contains(pieces[:, None], shapely.point_on_surface(faces)[None, :])
        portion = inside * (shapely.area(faces) / np.maximum(inside.sum(axis=0), 1))
        found += [(owner, one, float(area)) for owner, area in zip(cells, portion.sum(axis=1), strict=True)]
    divided = np.array(found).reshape(-1, 3)
    cell, pixel = divided[:, 0].astype(np.int64), divided[:, 1].astype(np.int64)
    rest = (entries.row[kept], entries.col[kept], entries.data[kept])
    return _matrix(raster, [rest, (cell, pixel, divided[:, 2])], shares.shape[0])
