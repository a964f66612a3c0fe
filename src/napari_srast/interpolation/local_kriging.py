"""Local kriging: weights with which the nearest spots of each spot predict its pixels.

Prediction from the nearest few dozen spots bounds the memory, and makes the weights a sparse matrix that all genes
share. On a lattice most spots have the same arrangement of neighbors and pixels, and each distinct arrangement is
solved once.

Shape legend: N spots, Q pixels, P spots that have pixels, M neighbors of a spot, K pixels of a spot, T arrangements.
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

_N_NEAREST = 30
_MAX_TIES = 10  # further spots as far as the last of the nearest: a lattice has shells of up to 12 spots
_TIE = 1e-6  # in pitches
_GRAIN = 1e-5  # in pitches: arrangements that differ by less are equal
_CHUNK_SIZE = 1 << 18  # numbers of one batch of systems, so that it fits into the processor's cache


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
class _Arrangements:
    """Distinct arrangements of neighbors and pixels around a spot, as offsets in pitches; NaN marks padding."""

    neighbors: np.ndarray  # (T, M, 2)
    pixels: np.ndarray  # (T, K, 2)
    of_spot: np.ndarray  # (P,)


class LocalKriging:
    """Kriging of the pixels of a map from the nearest spots of their parents.

    Spots as far as the last of the nearest 30 are all used, so that neither the order of the spots nor the last digit
    of a coordinate has an influence.

    Parameters
    ----------
    layout
        Spots and pixels.
    """

    def __init__(self, layout: SpotPixelMap) -> None:
        self._layout = layout
        self._with_pixels = np.flatnonzero(layout.n_pixels_per_spot)

    @cached_property
    def _neighbors(self) -> tuple[np.ndarray, np.ndarray]:
        """Neighbors of the spots that have pixels (P, M), N for padding, and their offsets in pitches (P, M, 2)."""
        spots, n_spots = self._layout.spots, self._layout.n_spots
        n_nearest = min(_N_NEAREST, n_spots)
        n_candidates = min(_N_NEAREST + _MAX_TIES, n_spots)
        centers = spots[self._with_pixels]
        distance, index = cKDTree(spots).query(centers, k=np.arange(1, n_candidates + 1))
        reach = distance[:, n_nearest - 1 : n_nearest] + _TIE * self._layout.pitch
        index = np.where(distance <= reach, index, n_spots)
        padded_spots = np.vstack([spots, np.full((1, 2), np.nan)])
        offset = (padded_spots[index] - centers[:, None]) / self._layout.pitch
        rounded = np.nan_to_num(np.rint(offset / _GRAIN + 0.3), nan=np.inf)
        order = np.lexsort((rounded[..., 1], rounded[..., 0]), axis=1)  # equal arrangements get an equal order
        return np.take_along_axis(index, order, axis=1), np.take_along_axis(offset, order[..., None], axis=1)

    @cached_property
    def _slots(self) -> tuple[np.ndarray, np.ndarray]:
        """Each pixel's row among the spots that have pixels, and its position among its spot's pixels, (Q,) each."""
        index, mask = self._layout.padded_pixels()
        index, mask = index[self._with_pixels], mask[self._with_pixels]
        row, slot = np.empty((2, self._layout.n_pixels), dtype=np.int64)
        row[index[mask]], slot[index[mask]] = np.nonzero(mask)
        return row, slot

    @cached_property
    def _arrangements(self) -> _Arrangements:
        layout, (_, neighbors) = self._layout, self._neighbors
        row, slot = self._slots
        n_rows = len(self._with_pixels)
        pixels = np.full((n_rows, int(layout.n_pixels_per_spot.max(initial=0)), 2), np.nan)
        pixels[row, slot] = (layout.pixels - layout.spots[layout.parent]) / layout.pitch
        offsets = np.concatenate([neighbors, pixels], axis=1).reshape(n_rows, -1)
        rounded = np.nan_to_num(np.rint(offsets / _GRAIN + 0.3), nan=2**30).astype(np.int32)
        as_bytes = np.ascontiguousarray(rounded).view(np.dtype((np.void, rounded.shape[1] * 4)))[:, 0]
        _, first, of_spot = np.unique(as_bytes, return_index=True, return_inverse=True)
        return _Arrangements(neighbors[first], pixels[first], of_spot)

    @cached_property
    def _pattern(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which neighbors of each pixel's spot are spots (Q, M), and indices and pointer that all weights share."""
        index = self._neighbors[0][self._slots[0]]
        is_neighbor = index < self._layout.n_spots
        pointer = np.concatenate([[0], np.cumsum(is_neighbor.sum(axis=1))]).astype(np.int32)
        return is_neighbor, index[is_neighbor].astype(np.int32), pointer

    def weights(
        self, kernel: Kernel, noise: float, *, linear: bool = False, to_pixels: Kernel | None = None
    ) -> sparse.csr_matrix:
        """Compute the matrix that predicts pixels from spots.

        Parameters
        ----------
        kernel
            Covariance of two spots as a function of their distance in pitches.
        noise
            Variance of the noise relative to ``kernel(0)``, added to the diagonal.
        linear
            Whether to add a free linear trend (universal kriging), which a conditionally definite kernel such as r**3
            needs.
        to_pixels
            Covariance of a pixel and a spot. Default: ``kernel``, that is, spots that measure points.

        Returns
        -------
        scipy.sparse.csr_matrix
            Kriging weights ``k(pixel, spots) (K + noise I)^-1``, float32, shape (Q, N).
        """
        arrangements = self._arrangements
        n_arrangements, n_neighbors = arrangements.neighbors.shape[:2]
        weights = np.empty((n_arrangements, arrangements.pixels.shape[1], n_neighbors), dtype=np.float32)
        per_chunk = max(1, _CHUNK_SIZE // (n_neighbors + 3) ** 2)
        for start in range(0, n_arrangements, per_chunk):
            chunk = slice(start, start + per_chunk)
            neighbors, pixels = arrangements.neighbors[chunk], arrangements.pixels[chunk]
            weights[chunk] = _solve(neighbors, pixels, (kernel, to_pixels or kernel), noise, linear)
        row, slot = self._slots
        is_neighbor, indices, pointer = self._pattern
        data = weights[arrangements.of_spot[row], slot]
        data = data.ravel() if is_neighbor.all() else data[is_neighbor]
        return sparse.csr_matrix((data, indices, pointer), shape=(len(row), self._layout.n_spots))


def _solve(
    neighbors: np.ndarray, pixels: np.ndarray, kernels: tuple[Kernel, Kernel], noise: float, linear: bool
) -> np.ndarray:
    """Solve a batch of kriging systems; returns weights (T, K, M), zero for padding."""
    kernel, to_pixels = kernels
    is_padding = np.isnan(neighbors[..., 0])
    neighbors = np.where(is_padding[..., None], 0.0, neighbors)
    pixels = np.nan_to_num(pixels)
    system = kernel(_distance(neighbors, neighbors))
    system[is_padding[:, :, None] | is_padding[:, None, :]] = 0.0
    n_neighbors = neighbors.shape[1]
    diagonal = np.arange(n_neighbors)
    system[:, diagonal, diagonal] += np.where(is_padding, 1.0, noise)
    right = np.where(is_padding[:, :, None], 0.0, to_pixels(_distance(neighbors, pixels)))
    if linear:
        at_spots = np.concatenate([np.ones_like(neighbors[..., :1]), neighbors], axis=2)
        trend = np.where(is_padding[..., None], 0.0, at_spots)
        at_pixels = np.concatenate([np.ones_like(pixels[..., :1]), pixels], axis=2).transpose(0, 2, 1)
        # Spots on one line leave a slope undetermined; a small diagonal keeps the system regular.
        corner = np.broadcast_to(-1e-9 * np.eye(3), (len(trend), 3, 3))
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
    """Return the distances between points (T, A, 2) and (T, B, 2), shape (T, A, B)."""
    x, y = a[:, :, None, 0] - b[:, None, :, 0], a[:, :, None, 1] - b[:, None, :, 1]
    return np.sqrt(x * x + y * y)  # five times as fast as hypot; a few pitches cannot overflow
