"""Local kernel systems: each spot's nearest spots, and the weights with which they predict the spot's pixels.

Predicting from the nearest few dozen spots bounds the memory and makes the weights a sparse matrix that all genes
share. On a lattice most spots see the very same arrangement, so each distinct arrangement is solved only once.

Shape legend: N spots, Q pixels, P spots that own pixels, M neighbors of a spot, K pixels of a spot, T arrangements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["Kernel", "LocalKriging", "cubic", "matern32"]

Kernel = Callable[[np.ndarray], np.ndarray]

_NEAREST = 30
_SPARE = 10  # room for spots that are exactly as far as the last of the nearest: a lattice has shells of up to 12
_TIE = 1e-6  # in pitches
_GRAIN = 1e-5  # in pitches: arrangements that differ by less are one
_CHUNK = 1 << 18  # numbers of one batch of systems, so that it stays in the cache


def matern32(width: float) -> Kernel:
    """Return the Matern 3/2 covariance of a distance r in pitches, ``(1 + a r) exp(-a r)``, ``a = sqrt(3) / width``."""

    def kernel(distance: np.ndarray) -> np.ndarray:
        scaled = np.sqrt(3.0) / width * distance
        return (1 + scaled) * np.exp(-scaled)

    return kernel


def cubic(distance: np.ndarray) -> np.ndarray:
    """Return the polyharmonic kernel ``r**3``, the scattered-data form of the cubic spline."""
    return distance**3


@dataclass(frozen=True, eq=False)
class _Arrangement:
    """Distinct arrangements of neighbors and pixels around a spot, in pitches; NaN marks places not taken."""

    neighbors: np.ndarray  # (T, M, 2)
    pixels: np.ndarray  # (T, K, 2)
    of_owner: np.ndarray  # (P,)


class LocalKriging:
    """The nearest spots of every spot that owns pixels.

    Spots as far as the last of the nearest 30 are all kept, so that the order of the spots and the last digit of a
    coordinate decide nothing.
    """

    def __init__(self, layout: SpotPixelMap) -> None:
        self._layout = layout
        self._owners = np.flatnonzero(layout.n_pixels_of_spot)

    @cached_property
    def _neighbors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return neighbor indices, (P, M), N where there is none, and their offsets in pitches, (P, M, 2)."""
        spots, n_spots = self._layout.spots, self._layout.n_spots
        nearest = min(_NEAREST, n_spots)
        at_most = min(_NEAREST + _SPARE, n_spots)
        distance, index = cKDTree(spots).query(spots[self._owners], k=np.arange(1, at_most + 1))
        reach = distance[:, nearest - 1 : nearest] + _TIE * self._layout.pitch
        index = np.where(distance <= reach, index, n_spots)
        places = np.vstack([spots, np.full((1, 2), np.nan)])
        offset = (places[index] - spots[self._owners][:, None]) / self._layout.pitch
        grain = np.nan_to_num(np.rint(offset / _GRAIN + 0.3), nan=np.inf)
        order = np.lexsort((grain[..., 1], grain[..., 0]), axis=1)  # the same order for the same arrangement
        return np.take_along_axis(index, order, axis=1), np.take_along_axis(offset, order[..., None], axis=1)

    @cached_property
    def _slots(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each pixel's row among the spots that own pixels and its position among its spot's pixels, (Q,) each."""
        index, mask = self._layout.padded_pixels()
        index, mask = index[self._owners], mask[self._owners]
        row, slot = np.empty((2, self._layout.n_pixels), dtype=np.int64)
        row[index[mask]], slot[index[mask]] = np.nonzero(mask)
        return row, slot

    @cached_property
    def _arrangements(self) -> _Arrangement:
        layout, (_, neighbors) = self._layout, self._neighbors
        owner, slot = self._slots
        pixels = np.full((len(self._owners), int(layout.n_pixels_of_spot.max(initial=0)), 2), np.nan)
        pixels[owner, slot] = (layout.pixels - layout.spots[layout.parent]) / layout.pitch
        everything = np.concatenate([neighbors, pixels], axis=1).reshape(len(self._owners), -1)
        grain = np.nan_to_num(np.rint(everything / _GRAIN + 0.3), nan=2**30).astype(np.int32)
        rows = np.ascontiguousarray(grain).view(np.dtype((np.void, grain.shape[1] * 4)))[:, 0]
        _, first, of_owner = np.unique(rows, return_index=True, return_inverse=True)
        return _Arrangement(neighbors[first], pixels[first], of_owner)

    def weights(self, kernel: Kernel, noise: float, *, linear: bool = False) -> sparse.csr_matrix:
        """Return the matrix that predicts pixels from spots.

        Parameters
        ----------
        kernel
            Covariance of a distance in pitches.
        noise
            Variance of the noise in units of ``kernel(0)``, added to the diagonal.
        linear
            Add a free linear trend (universal kriging), which a conditionally definite kernel such as r**3 needs.

        Returns
        -------
        sparse.csr_matrix
            Float32, shape (Q, N): kriging weights ``k(pixel, spots) (K + noise I)^-1``.
        """
        found = self._arrangements
        n_arrangements, n_neighbors = found.neighbors.shape[:2]
        weights = np.empty((n_arrangements, found.pixels.shape[1], n_neighbors), dtype=np.float32)
        at_once = max(1, _CHUNK // (n_neighbors + 3) ** 2)
        for start in range(0, n_arrangements, at_once):
            chunk = slice(start, start + at_once)
            weights[chunk] = _solve(found.neighbors[chunk], found.pixels[chunk], kernel, noise, linear)
        owner, slot = self._slots
        index = self._neighbors[0][owner]
        taken = index < self._layout.n_spots
        pointer = np.concatenate([[0], np.cumsum(taken.sum(axis=1))])
        data = weights[found.of_owner[owner], slot][taken]
        return sparse.csr_matrix(
            (data, index[taken].astype(np.int32), pointer), shape=(len(owner), self._layout.n_spots)
        )


def _solve(neighbors: np.ndarray, pixels: np.ndarray, kernel: Kernel, noise: float, linear: bool) -> np.ndarray:
    """Solve a batch of kriging systems; returns weights (T, K, M), zero for places not taken."""
    absent = np.isnan(neighbors[..., 0])
    neighbors = np.where(absent[..., None], 0.0, neighbors)
    pixels = np.nan_to_num(pixels)
    system = kernel(_distance(neighbors, neighbors))
    system[absent[:, :, None] | absent[:, None, :]] = 0.0
    n_neighbors = neighbors.shape[1]
    diagonal = np.arange(n_neighbors)
    system[:, diagonal, diagonal] += np.where(absent, 1.0, noise)
    right = np.where(absent[:, :, None], 0.0, kernel(_distance(neighbors, pixels)))
    if linear:
        trend = np.where(absent[..., None], 0.0, np.concatenate([np.ones_like(neighbors[..., :1]), neighbors], axis=2))
        at_pixels = np.concatenate([np.ones_like(pixels[..., :1]), pixels], axis=2).transpose(0, 2, 1)
        corner = np.broadcast_to(-1e-9 * np.eye(3), (len(trend), 3, 3))  # spots on one line leave a slope open
        system = np.concatenate(
            [
                np.concatenate([system, trend], axis=2),
                np.concatenate([trend.transpose(0, 2, 1), corner], axis=2),
            ],
            axis=1,
        )
        right = np.concatenate([right, at_pixels], axis=1)
    return np.linalg.solve(system, right)[:, :n_neighbors].transpose(0, 2, 1)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    across, along = a[:, :, None, 0] - b[:, None, :, 0], a[:, :, None, 1] - b[:, None, :, 1]
    return np.sqrt(across * across + along * along)  # five times as fast as hypot, whose care a few pitches do not need
