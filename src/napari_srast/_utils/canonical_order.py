"""Order of spots that depends on their counts, not on their order in the file.

Random draws are assigned in this order, so they follow the spots through permutations, shifts and rotations.
Shape legend: N spots, G genes.
"""

from __future__ import annotations

import numpy as np
from pandas.util import hash_array
from scipy import sparse

__all__ = ["canonical_order"]

_ENTRIES_PER_CHUNK = 1 << 22
# The increment of SplitMix64 (Steele et al. 2014); hash_array applies that generator's output function to numbers.
_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)


def canonical_order(counts: sparse.csr_matrix, centers: np.ndarray) -> np.ndarray:
    """Sort spots by a hash of their counts.

    The key of a spot is the sum, modulo 2^64, of one hash for each nonzero (gene, count) pair. Spots with equal keys
    are sorted by coordinates.

    Parameters
    ----------
    counts
        Counts, shape (N, G).
    centers
        Spot centers, shape (N, 2), in any unit.

    Returns
    -------
    np.ndarray
        Indices of the spots in canonical order, shape (N,).
    """
    counts = counts.tocsr()
    counts.sort_indices()  # later sums over genes then always run in one order
    key = np.zeros(counts.shape[0], dtype=np.uint64)
    pointer = counts.indptr
    start = 0
    while start < len(key):
        stop = max(start + 1, int(np.searchsorted(pointer, int(pointer[start]) + _ENTRIES_PER_CHUNK, side="right")) - 1)
        chunk = slice(pointer[start], pointer[stop])
        hashes = counts.indices[chunk].astype(np.uint64)
        hashes *= _GOLDEN_RATIO
        hashes ^= counts.data[chunk].astype(np.float64).view(np.uint64)
        hashes = hash_array(hashes)
        hashes *= counts.data[chunk] != 0
        total = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(hashes, dtype=np.uint64)])
        key[start:stop] = np.diff(total[pointer[start : stop + 1] - pointer[start]])
        start = stop
    relative = centers - centers.min(axis=0)
    return np.lexsort((relative[:, 0], relative[:, 1], key))
