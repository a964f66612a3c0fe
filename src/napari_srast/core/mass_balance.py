"""TODO docstring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from napari_srast.core.result import UpsampleResult
from napari_srast.geometry.raster import Raster

if TYPE_CHECKING:
    pass


__all__ = [
    "MASS_TOLERANCE",
    "gene_totals",
    "max_relative_mass_error",
    "relative_mass_error",
    "sums_of_spots",
    "worst_relative",
]

MASS_TOLERANCE = 1e-6
"""Of a spot's count, by which its pixels may differ from it."""
_ENTRIES = 5_000_000  # of the result that are summed at once


def relative_mass_error(raster: Raster, counts: sparse.csr_matrix, spot_counts: sparse.csr_matrix) -> float:
    """Return the largest relative difference between a spot's count and the sum over its pixels.

    Infinite where a gene that was not counted in a spot has counts in its pixels.

    Parameters
    ----------
    raster
        The pixels and their parents.
    counts
        Counts of the pixels, shape (Q, G).
    spot_counts
        Counts of all spots that ``raster.parent`` indexes, shape (N, G).
    """
    sums = sums_of_spots(raster.parent, counts, spot_counts)
    return max((worst_relative(summed, measured) for summed, measured in sums), default=0.0)


def sums_of_spots(
    parent: np.ndarray, counts: sparse.csr_matrix, spot_counts: sparse.csr_matrix
) -> Iterator[tuple[sparse.csr_matrix, sparse.csr_matrix]]:
    """Yield counts of pixels summed over their spots, and the spots' own, for some spots at a time, in float64.

    Parameters
    ----------
    parent
        Spot of each pixel, shape (Q,).
    counts
        Counts of the pixels, shape (Q, G).
    spot_counts
        Counts of all spots that ``parent`` indexes, shape (N, G).
    """
    by_spot = np.argsort(parent, kind="stable")
    ordered = parent[by_spot]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    spots, n_pixels = ordered[first], np.diff(first, append=len(ordered))
    step = max(1, int(len(spots) * _ENTRIES / max(counts.nnz, 1)))  # copies of all counts could fill the memory
    for start in range(0, len(spots), step):
        some = slice(start, start + step)
        pixels = by_spot[first[start] : first[start] + n_pixels[some].sum()]
        pointer = np.concatenate([[0], np.cumsum(n_pixels[some])])
        adding = sparse.csr_matrix((np.ones(len(pixels)), np.arange(len(pixels)), pointer))
        summed = sparse.csr_matrix(adding @ counts[pixels].astype(np.float64))
        yield summed, spot_counts[spots[some]].astype(np.float64)


def worst_relative(summed: sparse.csr_matrix, measured: sparse.csr_matrix) -> float:
    """Return the largest relative difference of two matrices of counts, infinite where only the second is 0."""
    measured = measured.copy()
    measured.eliminate_zeros()
    known = measured.copy()
    known.data[:] = 1.0
    if (summed - summed.multiply(known)).count_nonzero():
        return float("inf")
    measured.data = 1.0 / measured.data
    relative = abs(known - summed.multiply(measured).tocsr())
    return float(relative.max()) if relative.nnz else 0.0


def gene_totals(counts: sparse.csr_matrix) -> np.ndarray:
    """Return the total of each gene (G,) in counts (Q, G), without a copy of them in double precision."""
    totals = np.zeros(counts.shape[1])
    for start in range(0, counts.nnz, _ENTRIES):
        part = slice(start, start + _ENTRIES)
        totals += np.bincount(counts.indices[part], weights=counts.data[part], minlength=len(totals))
    return totals


def max_relative_mass_error(result: UpsampleResult) -> float:
    """Return the :func:`relative_mass_error` of a result against its slide."""
    columns = result.slide.gene_indices([str(gene) for gene in result.genes])
    return relative_mass_error(result.raster, result.counts, result.slide.counts_of(columns))
