"""Factorize counts into gene programs: a few non-negative fields that summarize all genes of a large panel.

The Poisson factorization ``n_ig ~ sum_p h_ip w_pg`` (KL updates of Lee & Seung, 1999, doi:10.1038/44565) attributes the
counts of gene g in spot i to programs, ``a_igp = h_ip w_pg / sum_p h_ip w_pg``. The flow splits the programs over the
pixels. A gene then gets the ratios ``r_ig = sum_p a_igp r_ip``, a convex combination of points on the simplex, which is
on the simplex too. Programs are this project's choice (docs/method.md).

Shape legend: N spots, n some of them, G genes, P programs.
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

from napari_srast._utils.row_blocks import MAX_WHOLE_ROWS, add_up, row_blocks, spread_sample
from napari_srast._utils.sparse import csr_tensor
from napari_srast._utils.threads import map_on_cores
from napari_srast.core.limits import N_PROGRAMS

__all__ = ["ProgramFactorization", "fit_activities", "fit_programs", "select_variable_genes"]

SpotSelection = np.ndarray | slice

_BLOCK_ENTRIES = 1 << 18  # non-zero entries per block
_MAX_ITERATIONS = 60  # an approximate factorization suffices, so stopping early is intended and not warned about
_MAX_TRANSPOSED = 4_000_000  # non-zero entries of a block of genes
_LATE_ITERATIONS = 3  # over all spots of a large slide, after those over a sample
_MIN_START = 0.05  # of a gene's loadings, divided equally among the programs
_MAX_SPOTS = 5_000  # spots per factorization; larger slides are factorized on a sample of this size
_SPOTS_PER_BLOCK = 2_000  # of a large slide, whose activities are then fitted in blocks


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramFactorization:
    """Hold a non-negative factorization of a slide's counts.

    Parameters
    ----------
    activity
        Activity ``h`` of each program in each spot, shape (N, P).
    loading
        Loading ``w`` of each gene on each program, shape (P, G).
    """

    activity: np.ndarray
    loading: np.ndarray

    @property
    def n_programs(self) -> int:
        """Number of programs, P."""
        return self.activity.shape[1]

    def attribute_counts(self, counts: sparse.csr_matrix) -> np.ndarray:
        """Attribute the counts of each spot to programs, ``sum_g n_ig a_igp``.

        Parameters
        ----------
        counts
            Raw counts, shape (N, G). Counts of genes that no program explains are divided equally among the programs.

        Returns
        -------
        np.ndarray
            Shape (N, P); rows sum to the spot's total counts.
        """
        counts = counts.tocsr()
        activity, loading = self.activity.astype(np.float32), np.ascontiguousarray(self.loading.T, dtype=np.float32)
        attributed = np.zeros((counts.shape[0], self.n_programs))
        for rows in _row_blocks(counts):
            block = counts[rows]
            ratio = _observed_over_expected(block, activity[rows], loading)
            attributed[rows] = activity[rows] * (ratio @ loading)
            rest = np.asarray(block.sum(axis=1), dtype=np.float64).ravel() - attributed[rows].sum(axis=1)
            attributed[rows] = np.maximum(attributed[rows] + rest[:, None] / self.n_programs, 0.0)
        return attributed


def fit_programs(
    counts: sparse.csr_matrix,
    denoised: Callable[[SpotSelection], np.ndarray],
    *,
    n_programs: int = N_PROGRAMS,
    seed: int = 0,
) -> ProgramFactorization:
    """Fit the programs of a slide.

    Parameters
    ----------
    counts
        Raw counts, shape (N, G).
    denoised
        Function that returns the denoised counts of :func:`select_variable_genes` in some spots, shape
        (n, number of these genes). Activities are fitted to denoised counts, because noise in raw counts would form
        programs.
    n_programs
        Number of programs P; fewer if the slide has fewer spots or genes.
    seed
        Seed of the factorization.
    """
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scale = np.maximum(totals, 1.0)

    def frequency(spots: SpotSelection) -> np.ndarray:
        return denoised(spots) / scale[spots, None]

    n_spots = len(totals)
    sample = np.linspace(0, n_spots - 1, min(n_spots, _MAX_SPOTS)).astype(int)
    sampled = frequency(sample)
    level = np.maximum(np.sqrt(sampled.mean(axis=0)), 1e-12)
    rank = int(min(n_programs, *sampled.shape))
    solver = NMF(n_components=rank, init="nndsvda", max_iter=_MAX_ITERATIONS, tol=1e-3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        activity = solver.fit_transform((sampled / level).astype(np.float32)).astype(np.float64)
        if n_spots > _MAX_SPOTS:
            step = _MAX_SPOTS if n_spots <= MAX_WHOLE_ROWS else _SPOTS_PER_BLOCK
            blocks = [slice(start, start + step) for start in range(0, n_spots, step)]
            parts = map_on_cores(lambda rows: solver.transform((frequency(rows) / level).astype(np.float32)), blocks)
            activity = np.concatenate(parts)
    activity = activity.astype(np.float64) + 1e-6
    activity *= (scale / activity.sum(axis=1))[:, None]
    return ProgramFactorization(activity=activity, loading=_fit_loadings(counts, activity))


def select_variable_genes(counts: sparse.csr_matrix, n_panel: int = 1500) -> np.ndarray:
    """Select the genes whose variance exceeds Poisson noise most.

    Parameters
    ----------
    counts
        Raw counts, shape (N, G).
    n_panel
        Maximum number of genes.

    Returns
    -------
    np.ndarray
        Sorted column indices.
    """
    blocks = row_blocks(counts.shape[0], counts.nnz)
    if len(blocks) == 1:
        mean = np.asarray(counts.mean(axis=0)).ravel()
        square = np.asarray(counts.power(2).mean(axis=0)).ravel()
    else:
        mean = np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel() / counts.shape[0]
        square = add_up(_sum_of_squares(counts[rows]) for rows in blocks) / counts.shape[0]
    excess = np.where(mean > 0, (square - mean**2) / np.sqrt(np.maximum(mean, 1e-12)), 0)
    return np.sort(np.argsort(-excess, kind="stable")[: min(n_panel, int((mean > 0).sum()) or 1)])


def fit_activities(
    counts: sparse.csr_matrix, loading: np.ndarray, n_iterations: int = 15, *, start: np.ndarray | None = None
) -> np.ndarray:
    """Fit activities of spots to fixed loadings by KL updates ``h <- h * ((n / (h w)) w^T) / sum_g w``.

    Parameters
    ----------
    counts
        Raw counts, shape (N, G).
    loading
        Loadings w, at least 0, shape (P, G).
    n_iterations
        Number of updates.
    start
        Activities to start from, above 0, shape (N, P). Default: the same for all programs.

    Returns
    -------
    np.ndarray
        Activities h, at least 0, shape (N, P).
    """
    counts, loading = counts.tocsr(), np.ascontiguousarray(loading.T, dtype=np.float32)
    total = loading.sum(axis=0, dtype=np.float64)
    sums = np.asarray(counts.sum(axis=1)).ravel()
    activity = (
        np.tile(sums[:, None] / max(total.sum(), 1e-12), (1, loading.shape[1])) if start is None else start.copy()
    )
    for rows in _row_blocks(counts):
        block, h = counts[rows], activity[rows].astype(np.float32)
        for _ in range(n_iterations):
            h *= (_observed_over_expected(block, h, loading) @ loading) / np.maximum(total, 1e-12).astype(np.float32)
        activity[rows] = h
    return activity


def _sum_of_squares(counts: sparse.csr_matrix) -> np.ndarray:
    return np.asarray(counts.power(2).sum(axis=0, dtype=np.float64)).ravel()


def _fit_loadings(counts: sparse.csr_matrix, activity: np.ndarray, n_iterations: int = 12) -> np.ndarray:
    """Fit loadings (P, G) of all genes to fixed activities (N, P) by KL updates.

    On a large slide the updates start from the loadings in a sample of the spots, and take blocks of genes.
    """
    n_spots, n_genes = counts.shape
    if n_spots <= MAX_WHOLE_ROWS:
        return fit_activities(counts.tocsc().T, activity.T, n_iterations).T
    sample = spread_sample(n_spots)
    start = fit_activities(counts[sample].tocsc().T, activity[sample].T, n_iterations)
    # A gene that the sample lacks in a program may have counts of it elsewhere, and an update cannot leave 0.
    start += _MIN_START * start.sum(axis=1, keepdims=True) / start.shape[1] + 1e-12
    size = max(1, int(n_genes * _MAX_TRANSPOSED / max(counts.nnz, 1)))
    blocks = [slice(first, min(first + size, n_genes)) for first in range(0, n_genes, size)]

    def update(genes: slice) -> np.ndarray:
        return fit_activities(counts[:, genes].tocsc().T, activity.T, _LATE_ITERATIONS, start=start[genes])

    return np.concatenate(map_on_cores(update, blocks)).T


def _observed_over_expected(counts: sparse.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> sparse.csr_matrix:
    """Return counts divided by ``sum_p rows_ip columns_jp`` at the entries of ``counts``; 0 where that is 0."""
    pattern = csr_tensor(counts.astype(np.float32, copy=False))
    products = torch.sparse.sampled_addmm(pattern, torch.from_numpy(rows), torch.from_numpy(columns).T, beta=0.0)
    expected = products.values().numpy()
    ratio = np.divide(counts.data, expected, out=np.zeros(len(expected), dtype=np.float32), where=expected > 1e-30)
    return sparse.csr_matrix((ratio, counts.indices, counts.indptr), shape=counts.shape)


def _row_blocks(counts: sparse.csr_matrix) -> list[slice]:
    """Partition the rows into blocks with a bounded number of non-zero entries."""
    n_rows = counts.shape[0]
    step = max(1, int(n_rows * _BLOCK_ENTRIES / max(counts.nnz, 1)))
    return [slice(start, start + step) for start in range(0, n_rows, step)]
