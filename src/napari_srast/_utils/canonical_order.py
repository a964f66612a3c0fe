"""An order of spots that depends on what they hold alone, so that random draws follow them wherever they stand.

Shape legend: N spots, G genes.
"""

from __future__ import annotations

import numpy as np
from pandas.util import hash_array
from scipy import sparse

__all__ = ["canonical_order"]

_ENTRIES_AT_ONCE = 1 << 22  # counts that are hashed at once
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # of SplitMix64 (Steele et al. 2014), whose output function hash_array is


def canonical_order(counts: sparse.csr_matrix, centers: np.ndarray) -> np.ndarray:
    """Order spots by what they hold, so that no permutation, shift or turn of the slide changes a random draw.

    A spot's key is the sum, modulo 2^64, of a mixed word for each gene that it holds; equal keys are told apart by
    place.
    """
    counts = counts.tocsr()
    counts.sort_indices()  # what is summed over genes later is then summed in one order, too
    key = np.zeros(counts.shape[0], dtype=np.uint64)
    pointer = counts.indptr
    start = 0
    while start < len(key):
        stop = max(start + 1, int(np.searchsorted(pointer, int(pointer[start]) + _ENTRIES_AT_ONCE, side="right")) - 1)
        part = slice(pointer[start], pointer[stop])
        word = counts.indices[part].astype(np.uint64)
        word *= _GOLDEN
        word ^= counts.data[part].astype(np.float64).view(np.uint64)
        word = hash_array(word)
        word *= counts.data[part] != 0
        total = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(word, dtype=np.uint64)])
        key[start:stop] = np.diff(total[pointer[start : stop + 1] - pointer[start]])
        start = stop
    relative = centers - centers.min(axis=0)
    return np.lexsort((relative[:, 0], relative[:, 1], key))
