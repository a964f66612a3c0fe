"""Gaussian process of each gene: width and noise by marginal likelihood on a shared grid.

Model: ``log1p(counts) - mean ~ N(0, s (K_w + v I))`` with the Matern 3/2 kernel ``K_w`` of width w (in pitches), noise
variance v, and a scale s that is profiled out. All genes share the eigenvectors of ``K_w``, so the whole grid costs one
eigendecomposition for each width. Shape legend: N spots, F fields, n spots of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from napari_srast.interpolation.local_kriging import matern32

__all__ = ["NOISES", "WIDTHS", "FittedProcess", "GaussianProcessGrid"]

WIDTHS = (1.0, 1.7, 3.0, 5.0, 9.0, 16.0)
"""Widths of the grid, in pitches."""
NOISES = (0.05, 0.15, 0.5, 1.5, 5.0, 20.0)
"""Noise variances of the grid, relative to the variance of the signal."""

_MAX_SPOTS = 400  # up to this number of spots the likelihood uses the whole slide
_PATCH_SIZE = 200


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
    """

    def __init__(self, spots: np.ndarray, pitch: float) -> None:
        self._spots = spots / pitch

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
    def _spectra(self) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """Eigenvalues and eigenvectors for each width and patch."""
        distances = [cdist(self._spots[patch], self._spots[patch]) for patch in self._patches]
        return [
            # NumPy's eigh, because SciPy's holds the global interpreter lock and would freeze a window.
            [(values, vectors) for values, vectors in map(np.linalg.eigh, map(matern32(width), distances))]
            for width in WIDTHS
        ]

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
        score = np.empty((len(WIDTHS), len(NOISES), centered.shape[1]))
        values = [centered[patch].astype(np.float64) for patch in self._patches]
        for w, spectra in enumerate(self._spectra):
            power = [(vectors.T @ y) ** 2 for (_, vectors), y in zip(spectra, values, strict=True)]
            for v, noise in enumerate(NOISES):
                variances = [np.maximum(eigen, 0.0) + noise for eigen, _ in spectra]
                scale = sum((1 / s) @ p for s, p in zip(variances, power, strict=True)) / n_observed
                log_det = sum(np.log(s).sum() for s in variances)
                score[w, v] = -0.5 * (n_observed * np.log(np.maximum(scale, 1e-30)) + log_det)
        flat = score.reshape(len(WIDTHS) * len(NOISES), -1)
        return np.where(np.ptp(centered, axis=0) > 0, np.argmax(flat, axis=0), 0)
