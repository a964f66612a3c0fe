"""Which pixel of an image shows which cell.

napari draws tens of thousands of polygons slowly, and a label image of a whole slide has billions of pixels. Cells are
therefore drawn once, as numbers in an image of limited size, and every coloring of them is a lookup in it.

Shape legend: C cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from napari_srast.core.cells import CellLabels, CellPolygons, Cells
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.geometry.affine import apply_affine

__all__ = ["CellRaster", "draw_cells"]

_MAX_PIXELS = 24_000_000
_PIXELS_PER_DIAMETER = 16.0  # of the median cell: finer edges would not be visible
_CHECK_EVERY = 1000  # polygons


@dataclass(frozen=True, eq=False)
class CellRaster:
    """An image of cell numbers.

    Parameters
    ----------
    numbers
        Number of the cell that each pixel shows, in the order of the cells from 1; 0 outside, int32, shape (rows,
        columns).
    to_intrinsic
        (3, 3) affine, (x, y) order, from its pixel coordinates to the intrinsic frame.
    """

    numbers: np.ndarray
    to_intrinsic: np.ndarray

    def at(self, point: np.ndarray) -> int | None:
        """Return the index of the cell at a point (x, y) of the intrinsic frame; None outside cells."""
        column, row = np.floor(apply_affine(np.linalg.inv(self.to_intrinsic), point[None])[0]).astype(int)
        if not (0 <= row < self.numbers.shape[0] and 0 <= column < self.numbers.shape[1]):
            return None
        number = int(self.numbers[row, column])
        return number - 1 if number else None

    def outlines(self) -> np.ndarray:
        """Return ``numbers`` in the outermost pixels of each cell, and 0 in its inner pixels."""
        padded = np.pad(self.numbers, 1)
        inner = np.ones(self.numbers.shape, dtype=bool)
        for shift in ((0, 1), (2, 1), (1, 0), (1, 2)):
            rows, columns = (slice(one, one + size) for one, size in zip(shift, self.numbers.shape, strict=True))
            inner &= padded[rows, columns] == self.numbers
        return np.where(inner, 0, self.numbers)


def draw_cells(cells: Cells, monitor: RunMonitor = NO_MONITOR) -> CellRaster:
    """Draw cells as numbers.

    Parameters
    ----------
    cells
        The cells; at least one.
    monitor
        Asked for cancellation between cells.
    """
    return _draw_labels(cells) if isinstance(cells, CellLabels) else _draw_polygons(cells, monitor)


def _draw_labels(cells: CellLabels) -> CellRaster:
    """Take every k-th row and column of the label image, such that the result is small enough."""
    top, left = int(cells.row.min()), int(cells.start.min())
    height, width = int(cells.row.max()) + 1 - top, int(cells.stop.max()) - left
    step = max(1, int(np.ceil(np.sqrt(height * width / _MAX_PIXELS))))
    middle = step // 2
    numbers = np.zeros((-(-height // step), -(-width // step)), dtype=np.int32)
    taken = np.flatnonzero((cells.row - top) % step == middle)
    first, last = (-(-(edge[taken] - left - middle) // step) for edge in (cells.start, cells.stop))
    first = np.maximum(first, 0)
    lengths = np.maximum(last - first, 0)
    begin = (cells.row[taken] - top) // step * numbers.shape[1] + first
    offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    numbers.reshape(-1)[np.repeat(begin, lengths) + offsets] = np.repeat(cells.owner[taken] + 1, lengths)
    to_labels = np.array([[step, 0.0, left], [0.0, step, top], [0.0, 0.0, 1.0]])
    return CellRaster(numbers, cells.to_intrinsic @ to_labels)


def _draw_polygons(cells: CellPolygons, monitor: RunMonitor) -> CellRaster:
    """Draw polygons from the largest to the smallest, so that none hides another one."""
    low_x, low_y, high_x, high_y = (float(value) for value in shapely.total_bounds(cells.polygons))
    width, height = high_x - low_x, high_y - low_y
    diameter = 2 * float(np.sqrt(np.median(shapely.area(cells.polygons)) / np.pi))
    side = max(diameter / _PIXELS_PER_DIAMETER, float(np.sqrt(width * height / _MAX_PIXELS)))
    side = max(side, width / _MAX_PIXELS, height / _MAX_PIXELS)
    numbers = np.zeros((max(1, int(np.ceil(height / side))), max(1, int(np.ceil(width / side)))), dtype=np.int32)
    to_pixels = np.array([[1 / side, 0.0, -low_x / side], [0.0, 1 / side, -low_y / side], [0.0, 0.0, 1.0]])
    parts, owner = shapely.get_parts(cells.polygons, return_index=True)
    parts = shapely.transform(parts, lambda points: apply_affine(to_pixels, points) - 0.5)  # 0 is the center of a pixel
    for i, part in enumerate(np.argsort(-shapely.area(parts), kind="stable")):
        if i % _CHECK_EVERY == 0:
            monitor.check_canceled()
        numbers[_pixels_inside(parts[part], numbers.shape)] = owner[part] + 1
    return CellRaster(numbers, np.linalg.inv(to_pixels))


def _pixels_inside(polygon: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pixels whose centers are in a polygon, or else of one at a point of it."""
    from skimage import draw  # here, because it takes a moment

    x, y = shapely.get_coordinates(polygon.exterior).T
    rows, columns = draw.polygon(y, x, shape)
    if polygon.interiors:
        inside = shapely.contains_xy(polygon, columns, rows)
        rows, columns = rows[inside], columns[inside]
    if len(rows) == 0:
        point = polygon.representative_point()
        rows, columns = (
            np.array([np.clip(round(value), 0, size - 1)])
            for value, size in zip((point.y, point.x), shape, strict=True)
        )
    return rows, columns
