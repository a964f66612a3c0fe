"""Gaussian process of each gene: width and noise by marginal likelihood on a shared grid.

Model: ``log1p(counts) - mean ~ N(0, s (K_w + v I))`` with the Matern 3/2 kernel ``K_w`` of width w (in pitches), noise
variance v, and a scale s that is profiled out. All genes share the eigenvectors of ``K_w``, so the whole grid costs one
eigendecomposition for each width. Shape legend: N spots, F fields, n spots of a patch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from napari_srast._utils.threads import is_single_threaded
from napari_srast.interpolation.local_kriging import Kernel, matern32

__all__ = ["NOISES", "WIDTHS", "CovarianceGrid", "FittedProcess", "GaussianProcessGrid"]

WIDTHS = (1.0, 1.7, 3.0, 5.0, 9.0, 16.0)
"""Widths of the grid, in pitches."""
NOISES = (0.05, 0.15, 0.5, 1.5, 5.0, 20.0)
"""Noise variances of the grid, relative to the variance of the signal."""

_DISK_POINTS = 7  # that average a covariance over a disk
_TABLE_END, _TABLE_SIZE = 6.0, 3001  # pitches, entries: beyond, a disk is a point
_MAX_SPOTS = 400  # up to this number of spots the likelihood uses the whole slide
_PATCH_SIZE = 200
_MAX_SPECTRA = 6  # in memory, of at most 8 MB each

_Spectra: TypeAlias = list[list[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class CovarianceGrid:
    """Widths, noises and covariances that the process of each field is selected from.

    A spot measures the mean of a field over its disk, so the covariance of two spots, and that of a pixel and a spot,
    is the Matern 3/2 covariance averaged over the disks (area-to-point kriging; Kyriakidis, 2004,
    doi:10.1111/j.1538-4632.2004.tb01135.x). Disks are isotropic, so the averages depend on the distance only.

    Parameters
    ----------
    widths
        Widths of the kernel, in pitches.
    noises
        Noise variances, relative to the variance of the signal.
    diameter
        Diameter of the disk that a spot measures, in pitches; 0 for a point.
    """

    widths: tuple[float, ...] = WIDTHS
    noises: tuple[float, ...] = NOISES
    diameter: float = 0.0

    def parameters(self, point: int) -> tuple[float, float]:
        """Return width and noise of a flat index of the grid."""
        return self.widths[point // len(self.noises)], self.noises[point % len(self.noises)]

    def between_spots(self, width: float) -> Kernel:
        """Return the covariance of two spots as a function of their distance in pitches."""
        return self._averaged(width, of_pixels=False)

    def to_pixels(self, width: float) -> Kernel:
        """Return the covariance of a point and a spot as a function of their distance in pitches."""
        return self._averaged(width, of_pixels=True)

    def _averaged(self, width: float, *, of_pixels: bool) -> Kernel:
        kernel = matern32(width)
        if self.diameter == 0:
            return kernel
        distance = np.linspace(0, _TABLE_END, _TABLE_SIZE)
        table = _disk_average(width, self.diameter, of_pixels)

        def averaged(distances: np.ndarray) -> np.ndarray:
            return np.where(distances < _TABLE_END, np.interp(distances, distance, table), kernel(distances))

        return averaged


@lru_cache(maxsize=64)
def _disk_average(width: float, diameter: float, of_pixels: bool) -> np.ndarray:
    """Return the covariance, averaged over the disk of a spot, or over those of two, at distances of a table."""
    kernel, disk = matern32(width), _disk_points(diameter)
    offsets = disk if of_pixels else (disk[:, None] - disk[None]).reshape(-1, 2)
    distance = np.linspace(0, _TABLE_END, _TABLE_SIZE)
    turned = np.concatenate([offsets, -offsets, offsets[:, ::-1], -offsets[:, ::-1]])  # few points are not round
    table = np.mean([kernel(np.hypot(distance + x, y)) for x, y in turned], axis=0)
    table.flags.writeable = False  # all threads share it
    return np.asarray(table)


def _disk_points(diameter: float) -> np.ndarray:
    """Return points spread evenly over a disk, shape (M, 2): a sunflower."""
    index = np.arange(_DISK_POINTS) + 0.5
    radius, angle = diameter / 2 * np.sqrt(index / _DISK_POINTS), np.pi * (3 - np.sqrt(5)) * index
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedProcess:
    """Fitted Gaussian processes of some fields: all that a tile of a slide needs from the rest of it.

    Parameters
    ----------
    point
        Flat index of each field's (width, noise) on the grid, shape (F,).
    mean
        Mean of each field's log1p counts, float32, shape (F,).
    """

    point: np.ndarray
    mean: np.ndarray

    def __getitem__(self, fields: slice | np.ndarray) -> FittedProcess:
        """Return the processes of some fields."""
        return FittedProcess(point=self.point[fields], mean=self.mean[fields])

    @classmethod
    def join(cls, parts: Sequence[FittedProcess]) -> FittedProcess:
        """Concatenate the processes of several blocks of fields."""
        return cls(point=np.concatenate([p.point for p in parts]), mean=np.concatenate([p.mean for p in parts]))


class _SpectraMemory:
    """The last spectra: a run needs those of the same spots several times, and so does the next run of the slide.

    Only spectra that were computed on one thread are kept, because other ones may differ in the last bits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spectra: OrderedDict[tuple[object, ...], _Spectra] = OrderedDict()

    def get(self, patches: Sequence[np.ndarray], grid: CovarianceGrid) -> _Spectra:
        """Return the spectra of patches of spots, in pitches."""
        if not is_single_threaded():
            return _compute_spectra(patches, grid)
        key = (grid.widths, grid.diameter, *(patch.tobytes() for patch in patches))
        with self._lock:
            known = self._spectra.get(key)
        if known is None:
            known = _compute_spectra(patches, grid)
        with self._lock:
            self._spectra[key] = known
            self._spectra.move_to_end(key)
            while len(self._spectra) > _MAX_SPECTRA:
                self._spectra.popitem(last=False)
        return known


_known_spectra = _SpectraMemory()


def _compute_spectra(patches: Sequence[np.ndarray], grid: CovarianceGrid) -> _Spectra:
    distances = [cdist(patch, patch) for patch in patches]
    return [
        # NumPy's eigh, because SciPy's holds the global interpreter lock and would freeze a window.
        [(values, vectors) for values, vectors in map(np.linalg.eigh, map(grid.between_spots(width), distances))]
        for width in grid.widths
    ]


class GaussianProcessGrid:
    """Selects width and noise of each field by marginal likelihood.

    Above 400 spots the likelihood uses three compact patches of 200 spots: one at the center of the slide, and two at a
    third and two thirds of the way to the border (by rank of the distance). The patches depend neither on the order of
    the spots nor on a seed.

    Parameters
    ----------
    spots
        Spot centers, shape (N, 2).
    pitch
        Distance between neighboring spots, in the units of ``spots``.
    grid
        The widths, noises and covariances. Default: spots that measure points.
    """

    def __init__(self, spots: np.ndarray, pitch: float, grid: CovarianceGrid | None = None) -> None:
        self._spots = spots / pitch
        self._grid = grid or CovarianceGrid()

    @cached_property
    def _patches(self) -> list[np.ndarray]:
        n_spots = len(self._spots)
        if n_spots <= _MAX_SPOTS:
            return [np.arange(n_spots)]
        from_center = np.hypot(*(self._spots - self._spots.mean(axis=0)).T)
        order = np.lexsort((self._spots[:, 1], self._spots[:, 0], np.round(from_center, 6)))
        middles = self._spots[order[[0, n_spots // 3, 2 * n_spots // 3]]]
        _, members = cKDTree(self._spots).query(middles, k=_PATCH_SIZE)
        return [np.sort(patch) for patch in members]

    @cached_property
    def _spectra(self) -> _Spectra:
        """Eigenvalues and eigenvectors for each width and patch."""
        return _known_spectra.get([self._spots[patch] for patch in self._patches], self._grid)

    def fit(self, fields: np.ndarray) -> FittedProcess:
        """Fit the process of each field of counts or intensities (N, F)."""
        logs = np.log1p(np.asarray(fields, dtype=np.float32))
        mean = logs.mean(axis=0, dtype=np.float64).astype(np.float32)
        return FittedProcess(point=self.select(logs - mean), mean=mean)

    def select(self, centered: np.ndarray) -> np.ndarray:
        """Return the flat grid index (F,) of the most likely (width, noise) of each centered field (N, F).

        The index of a constant field is 0.
        """
        n_observed = sum(len(patch) for patch in self._patches)
        noises = self._grid.noises
        score = np.empty((len(self._grid.widths), len(noises), centered.shape[1]))
        values = [centered[patch].astype(np.float64) for patch in self._patches]
        for w, spectra in enumerate(self._spectra):
            power = [(vectors.T @ y) ** 2 for (_, vectors), y in zip(spectra, values, strict=True)]
            for v, noise in enumerate(noises):
                variances = [np.maximum(eigen, 0.0) + noise for eigen, _ in spectra]
                scale = sum((1 / s) @ p for s, p in zip(variances, power, strict=True)) / n_observed
                log_det = sum(np.log(s).sum() for s in variances)
                score[w, v] = -0.5 * (n_observed * np.log(np.maximum(scale, 1e-30)) + log_det)
        flat = score.reshape(-1, score.shape[2])
        return np.where(np.ptp(centered, axis=0) > 0, np.argmax(flat, axis=0), 0)

    def noise_variances(self, centered: np.ndarray, point: np.ndarray) -> np.ndarray:
        """Return the noise variance of centered fields (N, F) at their points of the grid (F,), shape (F,)."""
        n_observed = sum(len(patch) for patch in self._patches)
        variance = np.zeros(centered.shape[1])
        for index in np.unique(point):
            of_point = point == index
            _, noise = self._grid.parameters(int(index))
            for patch, (eigen, vectors) in zip(
                self._patches, self._spectra[int(index) // len(self._grid.noises)], strict=True
            ):
                power = (vectors.T @ centered[patch][:, of_point].astype(np.float64)) ** 2
                variance[of_point] += noise / n_observed * ((1 / (np.maximum(eigen, 0.0) + noise)) @ power)
        return variance
