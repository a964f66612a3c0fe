"""Mass balance: comparison of each spot's counts with the sums over its pixels.

Shape legend: N spots, Q pixels, G genes, B spots of a block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from napari_srast.arrays import PixelCounts, PixelParents, SpotCounts
from napari_srast.core.result import UpsampleResult
from napari_srast.geometry.raster import Raster

__all__ = [
    "MASS_TOLERANCE",
    "gene_totals",
    "iterate_spot_sums",
    "max_relative_difference",
    "max_relative_mass_error",
    "relative_mass_error",
]

MASS_TOLERANCE = 1e-6
"""Largest valid difference between a spot's count and the sum over its pixels, relative to the count."""
_ENTRIES_PER_BLOCK = 5_000_000


def relative_mass_error(raster: Raster, counts: PixelCounts, spot_counts: SpotCounts) -> float:
    """Compute the largest relative difference between a spot's count and the sum over its pixels.

    Parameters
    ----------
    raster
        Pixels and their parents.
    counts
        Counts of the pixels, shape (Q, G).
    spot_counts
        Counts of all spots that ``raster.parent`` indexes, shape (N, G).

    Returns
    -------
    float
        The largest relative difference; infinite if a gene without counts in a spot has counts in its pixels.
    """
    sums = iterate_spot_sums(raster.parent, counts, spot_counts)
    return max((max_relative_difference(summed, measured) for summed, measured in sums), default=0.0)


def iterate_spot_sums(
    parent: PixelParents, counts: PixelCounts, spot_counts: SpotCounts
) -> Iterator[tuple[sparse.csr_matrix, sparse.csr_matrix]]:
    """Sum the counts of pixels over their spots, for one block of spots at a time.

    Parameters
    ----------
    parent
        Spot of each pixel, shape (Q,).
    counts
        Counts of the pixels, shape (Q, G).
    spot_counts
        Counts of all spots that ``parent`` indexes, shape (N, G).

    Yields
    ------
    summed, measured
        Sums over the pixels, and counts, of some spots that have pixels, float64, shape (B, G) each.
    """
    by_spot = np.argsort(parent, kind="stable")
    ordered = parent[by_spot]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    spots, n_pixels = ordered[first], np.diff(first, append=len(ordered))
    per_block = max(1, int(len(spots) * _ENTRIES_PER_BLOCK / max(counts.nnz, 1)))  # a copy of all could fill the memory
    for start in range(0, len(spots), per_block):
        block = slice(start, start + per_block)
        pixels = by_spot[first[start] : first[start] + n_pixels[block].sum()]
        pointer = np.concatenate([[0], np.cumsum(n_pixels[block])])
        membership = sparse.csr_matrix((np.ones(len(pixels)), np.arange(len(pixels)), pointer))
        summed = sparse.csr_matrix(membership @ counts[pixels].astype(np.float64))
        yield summed, spot_counts[spots[block]].astype(np.float64)


def max_relative_difference(summed: sparse.csr_matrix, measured: sparse.csr_matrix) -> float:
    """Return the largest difference of counts relative to ``measured``, infinite where only ``measured`` is 0."""
    measured = measured.copy()
    measured.eliminate_zeros()
    is_nonzero = measured.copy()
    is_nonzero.data[:] = 1.0
    if (summed - summed.multiply(is_nonzero)).count_nonzero():
        return float("inf")
    measured.data = 1.0 / measured.data
    relative = abs(is_nonzero - summed.multiply(measured).tocsr())
    return float(relative.max()) if relative.nnz else 0.0


def gene_totals(counts: sparse.csr_matrix) -> np.ndarray:
    """Return the total of each gene (G,) in counts (Q, G), without copying them in double precision."""
    totals = np.zeros(counts.shape[1])
    for start in range(0, counts.nnz, _ENTRIES_PER_BLOCK):
        block = slice(start, start + _ENTRIES_PER_BLOCK)
        totals += np.bincount(counts.indices[block], weights=counts.data[block], minlength=len(totals))
    return totals


def max_relative_mass_error(result: UpsampleResult) -> float:
    """Return the :func:`relative_mass_error` of a result against its slide."""
    columns = result.slide.gene_indices([str(gene) for gene in result.genes])
    return relative_mass_error(result.raster, result.counts, result.slide.select_counts(columns))
