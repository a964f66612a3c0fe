"""Denoised counts: a low-rank reconstruction, averaged over similar spots and over neighboring spots.

Shape legend: N spots, G genes, F selected genes, C components.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.geometry.neighbors import expression_neighbors

__all__ = ["N_SIMILAR", "Denoiser", "denoise", "expression_mean_matrix", "spatial_mean_matrix"]

N_SIMILAR = 10
"""Neighbors in expression that a mean is computed over, besides the spot itself."""
_SPATIAL_REACH = 1.5  # in pitches: 8 neighbors on squares, 6 on hexagons, no cut between equal distances
_N_LEADING = 10  # components that define similarity: distances in more are mostly noise, and slow to search


class Denoiser:
    """Low-rank expression of a slide, computed once; genes are reconstructed on request.

    Parameters
    ----------
    counts
        Raw counts, shape (N, G).
    spots
        Spot centers, shape (N, 2).
    pitch
        Distance between neighboring spots, in the units of ``spots``.
    n_components
        Rank of the reconstruction, C.
    seed
        Seed of the randomized decomposition.
    """

    def __init__(
        self, counts: sparse.csr_matrix, spots: np.ndarray, pitch: float, *, n_components: int = 30, seed: int = 0
    ) -> None:
        self._counts = sparse.csc_matrix(counts, dtype=np.float32)
        total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
        median_total = np.median(total[total > 0]) if (total > 0).any() else 1.0
        self._size_factor = (total / median_total).astype(np.float32)
        inverse = np.divide(1, self._size_factor, out=np.zeros_like(self._size_factor), where=total > 0)
        logs = sparse.csr_matrix(sparse.diags_array(inverse) @ counts, dtype=np.float32)
        np.log1p(logs.data, out=logs.data)
        scores, self._loadings = _low_rank(logs, n_components, seed)
        self._scores = _smooth(scores, np.asarray(spots, dtype=float) / pitch, total <= 0)

    def fields(self, columns: np.ndarray | None = None) -> np.ndarray:
        """Return denoised counts of some genes.

        Parameters
        ----------
        columns
            Genes, as columns of the counts, shape (F,); None for all.

        Returns
        -------
        np.ndarray
            Non-negative, float32, shape (N, F). Each spot keeps its size factor, and each gene its total over the
            slide.
        """
        columns = np.arange(self._counts.shape[1]) if columns is None else np.asarray(columns)
        values = np.expm1(np.maximum(self._scores @ self._loadings[:, columns], 0.0))
        values *= self._size_factor[:, None]
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
    """Return denoised counts of some genes, float32, shape (N, F).

    For several calls on one slide, create a :class:`Denoiser`; it has the same parameters.
    """
    return Denoiser(counts, spots, pitch, n_components=n_components, seed=seed).fields(columns)


def _low_rank(logs: sparse.csr_matrix, n_components: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor a matrix (N, G) into scores (N, C) and loadings (C, G)."""
    from sklearn.utils.extmath import randomized_svd

    if min(logs.shape) <= n_components:
        left, singular, right = np.linalg.svd(logs.toarray(), full_matrices=False)
    else:
        left, singular, right = randomized_svd(logs, n_components, n_iter=4, random_state=seed)
    return (left * singular).astype(np.float32), right.astype(np.float32)


def _smooth(scores: np.ndarray, spots: np.ndarray, is_empty: np.ndarray) -> np.ndarray:
    """Average scores over neighbors in expression and in space with equal weight; spots without counts do not enter."""
    used = np.flatnonzero(~is_empty)
    if len(used) == 0:
        return scores
    smooth = scores.copy()
    mean = expression_mean_matrix(scores[used, :_N_LEADING]) + spatial_mean_matrix(spots[used])
    smooth[used] = mean @ scores[used] / 2
    return smooth


def expression_mean_matrix(features: np.ndarray, similar: np.ndarray | None = None) -> sparse.csr_matrix:
    """Build the (N, N) matrix that averages each spot and the spots with the nearest features.

    Parameters
    ----------
    features
        Features of the spots, shape (N, C).
    similar
        Indices of the spots with the nearest features, shape (N, M), if they were searched before.
    """
    n_spots = len(features)
    index = expression_neighbors(features, min(N_SIMILAR + 1, n_spots)) if similar is None else similar
    return _mean_matrix(np.repeat(np.arange(n_spots), index.shape[1]), index.ravel(), n_spots)


def spatial_mean_matrix(spots: np.ndarray) -> sparse.csr_matrix:
    """Build the (N, N) matrix that averages each spot and its neighbors; ``spots`` are centers in pitches, (N, 2)."""
    n_spots = len(spots)
    pairs = cKDTree(spots).query_pairs(_SPATIAL_REACH, output_type="ndarray")
    i, j, itself = pairs[:, 0], pairs[:, 1], np.arange(n_spots)
    return _mean_matrix(np.concatenate([i, j, itself]), np.concatenate([j, i, itself]), n_spots)


def _mean_matrix(row: np.ndarray, column: np.ndarray, n_points: int) -> sparse.csr_matrix:
    """Build the (n, n) matrix that averages over the listed columns of each row."""
    weight = (1 / np.bincount(row, minlength=n_points)).astype(np.float32)[row]
    return sparse.csr_matrix((weight, (row, column)), shape=(n_points, n_points))
