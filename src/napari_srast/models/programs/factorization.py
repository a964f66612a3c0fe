"""Programs: a few non-negative fields that summarize all genes, so that every gene of a slide costs seconds.

A Poisson factorization n_ig ~ sum_p h_ip w_pg (Lee & Seung, 1999, KL updates) attributes a spot's counts of a gene to
programs, a_igp = h_ip w_pg / sum. The flow splits the programs; a gene then takes r_ig = sum_p a_igp r_ip, a convex
mixture of points on the simplex and hence on it.

Shape legend: N spots, G genes, P programs, Q pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from napari_srast._utils.sparse import csr_tensor

__all__ = ["Programs", "fit_activities", "fit_programs", "program_panel"]

Spots = np.ndarray | slice
_BLOCK = 1 << 18  # non-zero entries that are worked on at once
_ROUNDS = 60  # programs are a means to maps: to stop here is meant, and no fault to warn of
_ROWS = 5_000  # spots that are factorized at once; beyond, the programs come from so many of them


@dataclass(frozen=True, kw_only=True, eq=False)
class Programs:
    """A non-negative factorization of a slide's counts.

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

    def fields(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Return the counts that each program accounts for in each spot, shape (N, P); rows sum to the spot's total."""
        counts = counts.tocsr()
        activity, loading = self.activity.astype(np.float32), np.ascontiguousarray(self.loading.T, dtype=np.float32)
        fields = np.zeros((counts.shape[0], self.n_programs))
        for rows in _row_blocks(counts):
            block = counts[rows]
            # Counts of genes that no program holds are shared evenly.
            share = _shares(block, activity[rows], loading)
            fields[rows] = activity[rows] * (share @ loading)
            lost = np.asarray(block.sum(axis=1), dtype=np.float64).ravel() - fields[rows].sum(axis=1)
            fields[rows] = np.maximum(fields[rows] + lost[:, None] / self.n_programs, 0.0)
        return fields


def fit_programs(
    counts: sparse.csr_matrix, denoised: Callable[[Spots], np.ndarray], *, n_programs: int = 24, seed: int = 0
) -> Programs:
    """Factorize a slide's counts.

    Parameters
    ----------
    counts
        Shape (N, G).
    denoised
        Returns denoised counts of the :func:`program_panel` in some spots, shape (n, n_panel): activities are learned
        from them, since noise in single counts would otherwise become programs of its own.
    n_programs, seed
        Size and seed.
    """
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scale = np.maximum(totals, 1.0)

    def frequency(spots: Spots) -> np.ndarray:
        return denoised(spots) / scale[spots, None]

    n_spots = len(totals)
    learned = np.linspace(0, n_spots - 1, min(n_spots, _ROWS)).astype(int)
    first = frequency(learned)
    level = np.maximum(np.sqrt(first.mean(axis=0)), 1e-12)
    rank = int(min(n_programs, *first.shape))
    solver = NMF(n_components=rank, init="nndsvda", max_iter=_ROUNDS, tol=1e-3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        activity = solver.fit_transform((first / level).astype(np.float32)).astype(np.float64)
        if n_spots > _ROWS:
            blocks = [slice(start, start + _ROWS) for start in range(0, n_spots, _ROWS)]
            activity = np.concatenate([solver.transform((frequency(b) / level).astype(np.float32)) for b in blocks])
    activity = activity.astype(np.float64) + 1e-6
    activity *= (scale / activity.sum(axis=1))[:, None]
    return Programs(activity=activity, loading=_loadings(counts.tocsc(), activity))


def program_panel(counts: sparse.csr_matrix, n_panel: int = 1500) -> np.ndarray:
    """Choose the genes that programs are learned from: the most variable beyond Poisson noise."""
    mean = np.asarray(counts.mean(axis=0)).ravel()
    square = np.asarray(counts.power(2).mean(axis=0)).ravel()
    excess = np.where(mean > 0, (square - mean**2) / np.sqrt(np.maximum(mean, 1e-12)), 0)
    return np.sort(np.argsort(-excess, kind="stable")[: min(n_panel, int((mean > 0).sum()) or 1)])


def fit_activities(counts: sparse.csr_matrix, loading: np.ndarray, n_iterations: int = 15) -> np.ndarray:
    """Fit activities h >= 0 (N, P) of spots to fixed loadings (P, G) by KL updates."""
    counts, loading = counts.tocsr(), np.ascontiguousarray(loading.T, dtype=np.float32)
    total = loading.sum(axis=0, dtype=np.float64)
    sums = np.asarray(counts.sum(axis=1)).ravel()
    activity = np.tile(sums[:, None] / max(total.sum(), 1e-12), (1, loading.shape[1]))
    for rows in _row_blocks(counts):
        block, h = counts[rows], activity[rows].astype(np.float32)
        for _ in range(n_iterations):
            h *= (_shares(block, h, loading) @ loading) / np.maximum(total, 1e-12).astype(np.float32)
        activity[rows] = h
    return activity


def _loadings(counts: sparse.csc_matrix, activity: np.ndarray, n_iterations: int = 12) -> np.ndarray:
    """Fit loadings w >= 0 (P, G) of all genes to fixed activities (N, P) by KL updates."""
    return fit_activities(counts.T, activity.T, n_iterations).T


def _shares(counts: sparse.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> sparse.csr_matrix:
    """Return counts over what is expected at their entries, sum_p rows_ip columns_jp; 0 where nothing is."""
    pattern = csr_tensor(counts.astype(np.float32, copy=False))
    products = torch.sparse.sampled_addmm(pattern, torch.from_numpy(rows), torch.from_numpy(columns).T, beta=0.0)
    expected = products.values().numpy()
    ratio = np.divide(counts.data, expected, out=np.zeros(len(expected), dtype=np.float32), where=expected > 1e-30)
    return sparse.csr_matrix((ratio, counts.indices, counts.indptr), shape=counts.shape)


def _row_blocks(counts: sparse.csr_matrix) -> list[slice]:
    """Cut rows into blocks of a bounded number of entries."""
    n_rows = counts.shape[0]
    step = max(1, int(n_rows * _BLOCK / max(counts.nnz, 1)))
    return [slice(start, start + step) for start in range(0, n_rows, step)]
