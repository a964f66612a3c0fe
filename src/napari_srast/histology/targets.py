"""What the image is asked to tell: the log totals of the spots, and the leading components of their composition.

Shape legend: N spots, G genes, F fields, P components.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

__all__ = ["composition", "loadings", "log_totals"]

_SPOTS_EACH = 12  # a component for so many spots,
_AT_MOST = 10
_PRIOR_COUNTS = 20.0  # a gene needs about so many before it leaves the mean


def log_totals(counts: sparse.csr_matrix) -> np.ndarray:
    """Return the centerd logarithm of all counts of each spot, shape (N,); empty spots count as the poorest."""
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    least = total[total > 0].min() if (total > 0).any() else 1.0
    logs = np.log(np.maximum(total, least))
    return np.asarray(logs - logs.mean())


def composition(counts: sparse.csr_matrix, *, seed: int = 0) -> np.ndarray:
    """Return the leading principal components of depth-normalized log counts, each of variance 1, shape (N, P)."""
    from sklearn.decomposition import PCA

    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    n_spots = len(total)
    n_components = min(_AT_MOST, n_spots // _SPOTS_EACH, counts.shape[1] - 1)
    if n_components < 1 or not (total > 0).any():
        return np.zeros((n_spots, 0))
    typical = np.median(total[total > 0])
    scale = np.divide(typical, total, out=np.zeros_like(total), where=total > 0)
    logs = sparse.csr_matrix(sparse.diags_array(scale) @ counts, dtype=np.float64)
    np.log1p(logs.data, out=logs.data)
    if min(logs.shape) > 4 * n_components:
        scores = PCA(n_components, svd_solver="arpack", random_state=seed).fit_transform(logs)
    else:
        scores = PCA(n_components, svd_solver="full").fit_transform(logs.toarray())
    spread = scores.std(axis=0)
    return np.asarray(scores[:, spread > 1e-9 * max(spread.max(), 1e-30)] / spread[spread > 1e-9 * spread.max()])


def loadings(components: np.ndarray, fields: sparse.csr_matrix | np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return by how much the logarithm of each field's share changes with each component, shape (P, F).

    One step of Fisher scoring of a Poisson regression from the model that every field keeps its share of the totals,
    with a Gaussian prior worth 20 counts: fields of few counts stay at their share. Each field by itself.

    Parameters
    ----------
    components
        Shape (N, P).
    fields
        Counts or intensities, sparse or not, shape (N, F).
    totals
        All counts of the spots, shape (N,).
    """
    every = max(float(totals.sum()), 1e-12)
    expected_share = np.asarray(fields.sum(axis=0), dtype=np.float64).ravel() / every
    weight = totals / every
    centerd = components - weight @ components
    variance = weight @ centerd**2
    score = np.asarray((fields.T @ centerd).T)  # what the totals explain drops out: they are their own weights
    information = variance[:, None] * (every * expected_share + _PRIOR_COUNTS)
    return np.asarray(score / np.maximum(information, 1e-12))
