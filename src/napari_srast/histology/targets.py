"""Compute what is regressed on the image: log totals of the spots, and leading components of their composition.

Shape legend: N spots, G genes, F fields, P components.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

__all__ = ["composition_components", "log_totals"]

_SPOTS_PER_COMPONENT = 12
_MAX_COMPONENTS = 10


def log_totals(counts: sparse.csr_matrix) -> np.ndarray:
    """Compute the centered log total counts of the spots; empty spots get the smallest positive total.

    Parameters
    ----------
    counts
        Raw counts, shape (N, G).

    Returns
    -------
    np.ndarray
        Shape (N,).
    """
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    smallest = total[total > 0].min() if (total > 0).any() else 1.0
    logs = np.log(np.maximum(total, smallest))
    return np.asarray(logs - logs.mean())


def composition_components(counts: sparse.csr_matrix, *, seed: int = 0) -> np.ndarray:
    """Compute the leading principal components of depth-normalized log counts, each scaled to variance 1.

    Parameters
    ----------
    counts
        Raw counts, shape (N, G).
    seed
        Seed of the iterative solver for large matrices.

    Returns
    -------
    np.ndarray
        Shape (N, P), with one component per twelve spots and at most ten; P = 0 for fewer spots or no counts.
    """
    from sklearn.decomposition import PCA

    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    n_spots = len(total)
    n_components = min(_MAX_COMPONENTS, n_spots // _SPOTS_PER_COMPONENT, counts.shape[1] - 1)
    if n_components < 1 or not (total > 0).any():
        return np.zeros((n_spots, 0))
    median_total = np.median(total[total > 0])
    scale = np.divide(median_total, total, out=np.zeros_like(total), where=total > 0)
    logs = sparse.csr_matrix(sparse.diags_array(scale) @ counts, dtype=np.float64)
    np.log1p(logs.data, out=logs.data)
    if min(logs.shape) > 4 * n_components:
        scores = PCA(n_components, svd_solver="arpack", random_state=seed).fit_transform(logs)
    else:
        scores = PCA(n_components, svd_solver="full").fit_transform(logs.toarray())
    deviation = scores.std(axis=0)
    valid = deviation > 1e-9 * max(deviation.max(), 1e-30)
    return np.asarray(scores[:, valid] / deviation[valid])
