"""Programs: a few non-negative fields that summarise all genes, so that every gene of a slide costs seconds.

A Poisson factorisation n_ig ~ sum_p h_ip w_pg (Lee & Seung, 1999, KL updates) attributes a spot's counts of a gene to
programs, a_igp = h_ip w_pg / sum. The flow splits the programs; a gene then takes r_ig = sum_p a_igp r_ip, a convex
mixture of points on the simplex and hence on it.

Shape legend: N spots, G genes, P programs, Q pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.decomposition import NMF

__all__ = ["Programs", "fit_programs"]

_BLOCK = 2_000_000  # non-zero entries that are worked on at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Programs:
    """A non-negative factorisation of a slide's counts.

    Parameters
    ----------
    activity
        h, shape (N, P).
    loading
        w, shape (P, G).
    """

    activity: np.ndarray
    loading: np.ndarray

    @property
    def n_programs(self) -> int:
        """Number of programs, P."""
        return self.activity.shape[1]

    def share(self, spot: np.ndarray, gene: np.ndarray) -> np.ndarray:
        """Return a, the share of each program in paired spots and genes (n,), shape (n, P), rows summing to 1."""
        joint = self.activity[spot] * self.loading[:, gene].T
        total = joint.sum(axis=1, keepdims=True)
        return np.where(total > 0, joint / np.where(total > 0, total, 1), 1.0 / self.n_programs)

    def fields(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Return the counts that each program accounts for in each spot, shape (N, P); rows sum to the spot's total."""
        entries = counts.tocoo()
        fields = np.zeros((counts.shape[0], self.n_programs))
        for start in range(0, entries.nnz, _BLOCK):
            part = slice(start, start + _BLOCK)
            weighted = self.share(entries.row[part], entries.col[part]) * entries.data[part, None]
            np.add.at(fields, entries.row[part], weighted)
        return fields


def fit_programs(
    counts: sparse.csr_matrix, smooth: np.ndarray, *, n_programs: int = 24, n_panel: int = 1500, seed: int = 0
) -> Programs:
    """Factorise a slide's counts.

    Parameters
    ----------
    counts
        Shape (N, G).
    smooth
        Denoised counts of the panel that activities are learned from, shape (N, n_panel'): noise in single counts would
        otherwise become programs of its own.
    n_programs, n_panel, seed
        Size and seed.
    """
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scale = np.maximum(totals, 1.0)
    rank = int(min(n_programs, *smooth.shape))
    frequency = smooth / scale[:, None]
    frequency = frequency / np.maximum(np.sqrt(frequency.mean(axis=0)), 1e-12)
    solver = NMF(n_components=rank, init="nndsvda", max_iter=120, tol=1e-3, random_state=seed)
    activity = solver.fit_transform(frequency).astype(np.float64) + 1e-6
    activity *= (scale / activity.sum(axis=1))[:, None]
    return Programs(activity=activity, loading=_loadings(counts.tocsc(), activity))


def program_panel(counts: sparse.csr_matrix, n_panel: int = 1500) -> np.ndarray:
    """Choose the genes that programs are learned from: the most variable beyond Poisson noise."""
    mean = np.asarray(counts.mean(axis=0)).ravel()
    square = np.asarray(counts.multiply(counts).mean(axis=0)).ravel()
    excess = np.where(mean > 0, (square - mean**2) / np.sqrt(np.maximum(mean, 1e-12)), 0)
    return np.sort(np.argsort(-excess, kind="stable")[: min(n_panel, int((mean > 0).sum()) or 1)])


def _loadings(counts: sparse.csc_matrix, activity: np.ndarray, n_iterations: int = 12) -> np.ndarray:
    """Fit w >= 0 of all genes to fixed activities by KL updates, over blocks of the non-zero entries."""
    n_genes, total = counts.shape[1], activity.sum(axis=0)
    loading = np.empty((activity.shape[1], n_genes))
    step = max(1, int(n_genes * _BLOCK / max(counts.nnz, 1)))
    for start in range(0, n_genes, step):
        block = counts[:, start : start + step].tocoo()
        n_columns = block.shape[1]
        sums = np.bincount(block.col, weights=block.data, minlength=n_columns)
        w = np.tile(sums / max(total.sum(), 1e-12), (activity.shape[1], 1))
        h = activity[block.row]
        for _ in range(n_iterations):
            expected = np.einsum("np,pn->n", h, w[:, block.col])
            ratio = sparse.csr_matrix(
                (block.data / np.maximum(expected, 1e-12), (block.row, block.col)), shape=block.shape
            )
            w *= (ratio.T @ activity).T / np.maximum(total, 1e-12)[:, None]
        loading[:, start : start + step] = w
    return loading
