"""Rank genes by the spatial autocorrelation of their counts (Moran's I)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from napari_srast.core.slide import Slide

__all__ = ["interest_order", "spatial_structure"]

_N_NEIGHBORS = 6
_MAX_ENTRIES = 20_000_000  # takes about two seconds; on larger slides only the most frequent genes are ranked
_BLOCK = 512
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


def spatial_structure(slide: Slide) -> np.ndarray:
    """Return Moran's I of each gene's log counts per ten thousand over the six nearest spots, shape (G,).

    I = (z' W z) / (z' z) with z the deviations from the mean and W the neighbors' average (Moran, Biometrika 37,
    1950); 1 is perfectly smooth, 0 is without order. NaN for genes without counts or with the same counts everywhere,
    for slides of fewer than seven spots, and on very large slides for the rarer genes.
    """
    from sklearn.neighbors import kneighbors_graph  # takes a second to load, so not before the window is open

    n_spots, n_genes = slide.counts.shape
    structure = np.full(n_genes, np.nan)
    if n_spots <= _N_NEIGHBORS:
        return structure
    neighbors = kneighbors_graph(slide.centers, _N_NEIGHBORS) / _N_NEIGHBORS
    totals = np.asarray(slide.counts.sum(axis=1, dtype=np.float64)).ravel()
    scaled = sparse.diags(1e4 / np.maximum(totals, 1.0)) @ slide.counts
    scaled.data = np.log1p(scaled.data)
    columns = scaled.tocsc()
    entries = np.diff(columns.indptr)
    by_frequency = np.argsort(-entries, kind="stable")
    ranked = np.sort(by_frequency[np.cumsum(entries[by_frequency]) <= _MAX_ENTRIES])
    in_weights = np.asarray(neighbors.sum(axis=0)).ravel()
    for start in range(0, len(ranked), _BLOCK):
        genes = ranked[start : start + _BLOCK]
        x = columns[:, genes]
        mean = np.asarray(x.mean(axis=0)).ravel()
        # z' W z and z' z are expanded so that x stays sparse; the rows of W sum to one.
        products = np.asarray(x.multiply(neighbors @ x).sum(axis=0)).ravel()
        weighted = in_weights @ x
        cross = products - mean * (weighted + n_spots * mean) + mean**2 * n_spots
        spread = np.asarray(x.multiply(x).sum(axis=0)).ravel() - n_spots * mean**2
        structure[genes] = np.where(spread > 1e-9, cross / np.maximum(spread, 1e-9), np.nan)
    return structure
