"""Rank genes by the spatial autocorrelation of their counts (Moran's I)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from napari_srast.core.mass_balance import gene_totals
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled
from napari_srast.geometry.nearest_spots import nearest_other_spots

__all__ = ["interest_order", "spatial_structure", "totals_at_once"]

_N_NEIGHBORS = 6
_MAX_ENTRIES = 4_000_000  # counts above 0 of the spots that are compared with their neighbors
_MIN_SAMPLED = 5_000  # spots that are compared in any case
_MIN_SPOTS = 20  # of a sample, with counts of a gene; with fewer, two neighbors by chance look like structure
_BLOCK = 1000  # spots
_SUMMED_AT_ONCE = 1_000_000  # counts above 0; to sum them takes about 5 ms
# Mitochondrial and ribosomal genes, and ribosomal RNA
_HOUSEKEEPING = re.compile(r"(MT-|MT\.|RP[SL]\d|RPLP\d|RPSA|MRP[SL]\d|RNA?\d+S)", re.IGNORECASE)


def interest_order(genes: Sequence[str] | np.ndarray, structure: np.ndarray | None) -> np.ndarray:
    """Return the order in which genes are listed at first.

    Genes with the clearest spatial structure come first. Mitochondrial and ribosomal genes come last: they follow the
    number of cells, so that they are among the most structured ones on most slides.

    Parameters
    ----------
    genes
        Names of the genes.
    structure
        Moran's I of each gene, shape (G,); None if unknown: the genes stay in their order.

    Returns
    -------
    np.ndarray
        Indices of the genes, shape (G,).
    """
    if structure is None:
        return np.arange(len(genes))
    is_last = np.fromiter((_HOUSEKEEPING.match(str(gene)) is not None for gene in genes), dtype=bool, count=len(genes))
    return np.lexsort((-np.nan_to_num(structure, nan=-1.0), is_last))


def totals_at_once(slide: Slide) -> np.ndarray | None:
    """Return the counts of each gene, shape (G,); None for a large slide, whose sum would delay the window."""
    return gene_totals(slide.counts) if slide.counts.nnz <= _SUMMED_AT_ONCE else None


def spatial_structure(slide: Slide, should_stop: Callable[[], bool] | None = None) -> np.ndarray:
    """Return Moran's I of each gene's log counts per ten thousand over the six nearest spots, shape (G,).

    I = (z' W z) / (z' z) with z the deviations from the mean and W the neighbors' average (Moran, Biometrika 37,
    1950); 1 is perfectly smooth, 0 is without order. On slides of more than 5,000 spots and four million counts above
    0, the sums are over a random sample of the spots, which is the same each time; their neighbors are those of the
    whole slide.

    NaN for genes without counts or with the same counts everywhere, for slides of fewer than seven spots, and for genes
    with counts in fewer than 20 spots of a sample.

    Parameters
    ----------
    slide
        The slide.
    should_stop
        Returns whether to stop. None: never.

    Raises
    ------
    Cancelled
        ``should_stop`` has returned True.
    """
    counts = slide.counts
    n_spots, n_genes = counts.shape
    if n_spots <= _N_NEIGHBORS:
        return np.full(n_genes, np.nan)
    spots = _sampled_spots(counts)
    others = nearest_other_spots(slide.centers, slide.centers[spots], spots, _N_NEIGHBORS)[0]
    n_compared = 0
    products, sums, of_neighbors, squares = (np.zeros(n_genes) for _ in range(4))
    n_counted = np.zeros(n_genes, dtype=np.int64)
    for start in range(0, len(spots), _BLOCK):
        if should_stop is not None and should_stop():
            raise Cancelled
        block = slice(start, start + _BLOCK)
        own, around = _log_rates(counts, spots[block]), _mean_of_neighbors(counts, others[block])
        n_compared += own.shape[0]
        products += _column_sums(own.multiply(around))
        sums += _column_sums(own)
        of_neighbors += _column_sums(around)
        squares += _column_sums(own.multiply(own))
        n_counted += np.bincount(own.indices, minlength=n_genes)
    # z' W z and z' z are expanded so that the counts stay sparse; the rows of W sum to one.
    mean = sums / n_compared
    cross = products - mean * (of_neighbors + sums) + n_compared * mean**2
    spread = squares - n_compared * mean**2
    is_known = spread > 1e-9
    if len(spots) < n_spots:
        is_known &= n_counted >= _MIN_SPOTS
    return np.where(is_known, cross / np.maximum(spread, 1e-9), np.nan)


def _sampled_spots(counts: sparse.csr_matrix) -> np.ndarray:
    """Return the indices of the spots that are compared with their neighbors, in ascending order."""
    n_spots = counts.shape[0]
    n_sampled = min(n_spots, max(int(n_spots * _MAX_ENTRIES / max(counts.nnz, 1)), _MIN_SAMPLED))
    if n_sampled == n_spots:
        return np.arange(n_spots)
    return np.sort(np.random.default_rng(0).choice(n_spots, n_sampled, replace=False))


def _log_rates(counts: sparse.csr_matrix, spots: np.ndarray) -> sparse.csr_matrix:
    """Return log1p of the counts per ten thousand of some spots, CSR."""
    rows = counts[spots].astype(np.float64)
    totals = np.asarray(rows.sum(axis=1)).ravel()
    rows.data = np.log1p(rows.data * np.repeat(1e4 / np.maximum(totals, 1.0), np.diff(rows.indptr)))
    return rows


def _mean_of_neighbors(counts: sparse.csr_matrix, neighbors: np.ndarray) -> sparse.csr_matrix:
    """Return the mean log rates of the neighbors of each spot, CSR."""
    used, position = np.unique(neighbors, return_inverse=True)
    n_spots, n_neighbors = neighbors.shape
    weights = np.full(neighbors.size, 1.0 / n_neighbors)
    pointer = np.arange(n_spots + 1) * n_neighbors
    average = sparse.csr_matrix((weights, position.ravel(), pointer), shape=(n_spots, len(used)))
    return average @ _log_rates(counts, used)


def _column_sums(matrix: sparse.spmatrix) -> np.ndarray:
    matrix = matrix.tocsr()
    return np.bincount(matrix.indices, weights=matrix.data, minlength=matrix.shape[1])
