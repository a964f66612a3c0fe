"""Relate the error of a pixel's rate to that of a spot that was left out, by the geometry of spots and pixels alone.

How well the other spots predict a spot can be measured on any slide; how well all spots predict a pixel cannot. Both
are predictions of a field from its means over disks, and differ in what they predict, and in where the disks are. For a
field with a linear variogram, which has no scale of its own, the variances of both errors are known (area-to-point
ordinary kriging; Kyriakidis, 2004, doi:10.1111/j.1538-4632.2004.tb01135.x), and their ratio converts the measured one.

Shape legend: N spots, Q points, n nearest spots.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from napari_srast.histology.features import disk_offsets

__all__ = ["UnresolvedVariance"]

_N_NEAREST = 8
_MAX_TIES = 8  # further spots, as far as the last of the nearest
_TIE = 1e-6  # pitches
_N_SAMPLE_SPOTS = 1_000  # whose errors are averaged
_DISK_POINTS, _PIXEL_POINTS = 80, 16  # that represent a disk and a pixel
_TABLE_END, _TABLE_SIZE = 8.0, 401  # pitches, entries; beyond, distances are those of the centers
_NUGGET = 1e-6  # keeps the equations solvable for spots at the same coordinates
_MIN_VARIANCE = 1e-3  # relative to that of a left-out spot
_POINTS_PER_BLOCK = 20_000


class UnresolvedVariance:
    """Variance of the error in points, relative to the median variance of spots that are left out.

    Parameters
    ----------
    spots
        All spot centers, shape (N, 2).
    pitch
        Distance between neighboring spots.
    spot_area, pixel_area
        Areas that a spot measures and that a pixel covers, in squared units of ``spots``; disks represent both.
    """

    def __init__(self, spots: np.ndarray, pitch: float, *, spot_area: float, pixel_area: float) -> None:
        self._spots, self._pitch = np.asarray(spots, dtype=np.float64) / pitch, pitch
        self._tree = cKDTree(self._spots)
        disk = disk_offsets(spot_area / pitch**2, _DISK_POINTS)
        pixel = disk_offsets(pixel_area / pitch**2, _PIXEL_POINTS)
        self._distances = np.linspace(0.0, _TABLE_END, _TABLE_SIZE)
        self._between_disks, self._to_disk = self._table(disk, disk), self._table(pixel, disk)
        self._inside_pixel = float(cdist(pixel, pixel).mean())
        self._left_out = self._median_left_out()

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the relative variance of the error at points in units of the spots, shape (Q, 2) to (Q,)."""
        if self._left_out == 0:
            return np.ones(len(points))
        points = np.asarray(points, dtype=np.float64) / self._pitch
        values = np.empty(len(points))
        for start in range(0, len(points), _POINTS_PER_BLOCK):
            block = slice(start, start + _POINTS_PER_BLOCK)
            distance, index = self._tree.query(points[block], k=self._up_to(_N_NEAREST + _MAX_TIES))
            values[block] = self._error(distance, index, self._to_disk) - self._inside_pixel
        return np.maximum(values / self._left_out, _MIN_VARIANCE)

    def _median_left_out(self) -> float:
        """Return the median variance of the error in a spot that is predicted from the others; 0 for one spot."""
        n_spots = len(self._spots)
        if n_spots < 2:
            return 0.0
        sample = np.unique(np.linspace(0, n_spots - 1, min(n_spots, _N_SAMPLE_SPOTS)).astype(np.int64))
        distance, index = self._tree.query(self._spots[sample], k=self._up_to(_N_NEAREST + _MAX_TIES + 1))
        itself = index == sample[:, None]
        itself[~itself.any(axis=1), -1] = True  # spots at the same coordinates may hide it
        shape = len(sample), -1
        error = self._error(distance[~itself].reshape(shape), index[~itself].reshape(shape), self._between_disks)
        return float(np.median(error) - self._between_disks[0])

    def _up_to(self, n_nearest: int) -> np.ndarray:
        return np.arange(1, min(n_nearest, len(self._spots)) + 1)

    def _error(self, distance: np.ndarray, index: np.ndarray, to_disk: np.ndarray) -> np.ndarray:
        """Return the kriging variance plus the mean distance inside the predicted area, for spots (Q, n): (Q,).

        Of spots at the same distance all are used or none, so that rounding does not choose among them.
        """
        n_points, n_near = index.shape
        last = min(_N_NEAREST, n_near) - 1
        used = np.ones((n_points, n_near + 1), dtype=bool)  # the last column is the constraint on the weights
        used[:, :-1] = distance <= distance[:, last : last + 1] + _TIE
        near = self._spots[index]
        apart = np.linalg.norm(near[:, :, None] - near[:, None], axis=-1)
        equations = np.ones((n_points, n_near + 1, n_near + 1))
        equations[:, :-1, :-1] = _NUGGET * np.eye(n_near) - self._look_up(apart, self._between_disks)
        equations[:, -1, -1] = 0.0
        equations = np.where(used[:, :, None] & used[:, None], equations, np.eye(n_near + 1))
        covariance = np.ones((n_points, n_near + 1))
        covariance[:, :-1] = -self._look_up(distance, to_disk)
        covariance *= used
        weights = np.linalg.solve(equations, covariance[:, :, None])[:, :, 0]
        return np.asarray(-(weights * covariance).sum(axis=1))

    def _look_up(self, distance: np.ndarray, table: np.ndarray) -> np.ndarray:
        return np.where(distance < _TABLE_END, np.interp(distance, self._distances, table), distance)

    def _table(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the mean distance of the points of two shapes, by the distance of their centers."""
        step = np.array([1.0, 0.0])
        return np.array([cdist(first + distance * step, second).mean() for distance in self._distances])
