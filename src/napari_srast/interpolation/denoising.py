"""Denoised counts: a low-rank reconstruction, averaged over spots that look alike and spots that lie together.

Shape legend: N spots, G genes, F chosen genes, C components.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.geometry.neighbors import expression_neighbors

__all__ = ["Denoiser", "denoise", "mean_of_alike", "mean_of_near"]

_ALIKE = 10  # neighbors in expression
_TOGETHER = 1.5  # pitches: 8 neighbors on squares, 6 on hexagons, none cut off among equals
_LEADING = 10  # components in which likeness is told: distances in more are mostly noise, and slow to search


class Denoiser:
    """Low-rank expression of a slide, worked out once; genes are reconstructed as they are asked for.

    Parameters
    ----------
    counts
        Raw counts, shape (N, G).
    spots
        Spot centers, shape (N, 2).
    pitch
        Distance between neighboring spots, in the same units.
    n_components
        Rank of the reconstruction, C.
    seed
        Seeds the randomized decomposition.
    """

    def __init__(
        self, counts: sparse.csr_matrix, spots: np.ndarray, pitch: float, *, n_components: int = 30, seed: int = 0
    ) -> None:
        self._counts = sparse.csc_matrix(counts, dtype=np.float32)
        total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
        typical = np.median(total[total > 0]) if (total > 0).any() else 1.0
        self._depth = (total / typical).astype(np.float32)
        scaled = sparse.diags_array(np.divide(1, self._depth, out=np.zeros_like(self._depth), where=total > 0)) @ counts
        logs = sparse.csr_matrix(scaled, dtype=np.float32)
        np.log1p(logs.data, out=logs.data)
        scores, self._loadings = _low_rank(logs, n_components, seed)
        nothing = total <= 0
        self._scores = _smooth(scores, np.asarray(spots, dtype=float) / pitch, nothing)

    def fields(self, columns: np.ndarray | None = None) -> np.ndarray:
        """Return denoised counts of some genes.

        Parameters
        ----------
        columns
            Columns of the counts, shape (F,); None for all.

        Returns
        -------
        np.ndarray
            Float32, shape (N, F), at least 0. Each spot keeps its own depth and each gene its total over the slide.
        """
        columns = np.arange(self._counts.shape[1]) if columns is None else np.asarray(columns)
        values = np.expm1(np.maximum(self._scores @ self._loadings[:, columns], 0.0))
        values *= self._depth[:, None]
        observed = np.asarray(self._counts[:, columns].sum(axis=0, dtype=np.float64)).ravel()
        fitted = values.sum(axis=0, dtype=np.float64)
        values *= np.divide(observed, fitted, out=np.zeros_like(fitted), where=fitted > 0).astype(np.float32)
        return values


def denoise(
    counts: sparse.csr_matrix,
    spots: np.ndarray,
    pitch: float,
    columns: np.ndarray | None = None,
    *,
    n_components: int = 30,
    seed: int = 0,
) -> np.ndarray:
    """Return denoised counts of some genes, float32 (N, F); see :class:`Denoiser`, which to keep for several calls."""
    return Denoiser(counts, spots, pitch, n_components=n_components, seed=seed).fields(columns)


def _low_rank(logs: sparse.csr_matrix, n_components: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor (N, G) into scores (N, C) and loadings (C, G)."""
    from sklearn.utils.extmath import randomized_svd

    if min(logs.shape) <= n_components:
        left, singular, right = np.linalg.svd(logs.toarray(), full_matrices=False)
    else:
        left, singular, right = randomized_svd(logs, n_components, n_iter=4, random_state=seed)
    return (left * singular).astype(np.float32), right.astype(np.float32)


def _smooth(scores: np.ndarray, spots: np.ndarray, nothing: np.ndarray) -> np.ndarray:
    """Average scores over neighbors in expression and in space, half each; spots without counts lend nothing."""
    some = np.flatnonzero(~nothing)
    if len(some) == 0:
        return scores
    smooth = scores.copy()
    smooth[some] = (mean_of_alike(scores[some, :_LEADING]) + mean_of_near(spots[some])) @ scores[some] / 2
    return smooth


def mean_of_alike(features: np.ndarray, n_alike: int = _ALIKE) -> sparse.csr_matrix:
    """Return the (N, N) matrix that averages each spot and those most like it in features (N, C)."""
    n_spots = len(features)
    index = expression_neighbors(features, min(n_alike + 1, n_spots))
    return _mean_over(np.repeat(np.arange(n_spots), index.shape[1]), index.ravel(), n_spots)


def mean_of_near(spots: np.ndarray) -> sparse.csr_matrix:
    """Return the (N, N) matrix that averages each spot and its neighbors; places in pitches, (N, 2)."""
    n_spots = len(spots)
    pairs = cKDTree(spots).query_pairs(_TOGETHER, output_type="ndarray")
    i, j, itself = pairs[:, 0], pairs[:, 1], np.arange(n_spots)
    return _mean_over(np.concatenate([i, j, itself]), np.concatenate([j, i, itself]), n_spots)


def _mean_over(row: np.ndarray, column: np.ndarray, n_points: int) -> sparse.csr_matrix:
    """Return the (n, n) matrix that averages over the listed columns of each row."""
    share = (1 / np.bincount(row, minlength=n_points)).astype(np.float32)[row]
    return sparse.csr_matrix((share, (row, column)), shape=(n_points, n_points))
