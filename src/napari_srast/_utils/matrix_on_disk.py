"""Keep the counts of large slides in memory-mapped scratch files.

The system reads their pages when they are needed, and takes them from the memory when it needs that for something
else; a process can also return them itself (:func:`release_matrix`). Where the disk has no space, and for smaller
slides, the counts stay in memory.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_srast._utils.scratch_file import allocate_on_disk, release_pages

__all__ = ["move_to_disk", "release_matrix", "take_rows"]

_MAX_BYTES_IN_MEMORY = 1 << 27
_ENTRIES_PER_COPY = 1 << 21


def move_to_disk(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return a large matrix with its entries in a scratch file, and a smaller one as it is."""
    return matrix if _is_small(matrix) else take_rows(matrix, np.arange(matrix.shape[0]))


def take_rows(matrix: sparse.csr_matrix, rows: np.ndarray) -> sparse.csr_matrix:
    """Return some rows of a matrix, in the given order, with the entries in a scratch file if they are large.

    Parameters
    ----------
    matrix
        The matrix, shape (N, G).
    rows
        The rows, shape (n,).
    """
    if _is_small(matrix):
        return matrix[rows].tocsr()
    pointer = np.concatenate([[0], np.cumsum(np.diff(matrix.indptr)[rows], dtype=np.int64)])
    n_entries = int(pointer[-1])
    arrays = allocate_on_disk([(n_entries, matrix.data.dtype.type), (n_entries, matrix.indices.dtype.type)])
    if arrays is None:
        return matrix[rows].tocsr()
    data, indices = arrays
    first = 0
    while first < len(rows):
        last = int(np.searchsorted(pointer, pointer[first] + _ENTRIES_PER_COPY, side="right")) - 1
        last = max(first + 1, last)
        block, entries = matrix[rows[first:last]], slice(pointer[first], pointer[last])
        data[entries], indices[entries] = block.data, block.indices
        release_pages(data)
        release_matrix(matrix)
        first = last
    taken = sparse.csr_matrix(
        (data, indices, pointer.astype(matrix.indptr.dtype, copy=False)), shape=(len(rows), matrix.shape[1])
    )
    taken.has_canonical_format = matrix.has_canonical_format
    release_matrix(taken)
    return taken


def release_matrix(matrix: sparse.csr_matrix) -> None:
    """Return the pages of a matrix to the system if they are in a scratch file; the entries stay."""
    release_pages(matrix.data)
    release_pages(matrix.indices)


def _is_small(matrix: sparse.csr_matrix) -> bool:
    return matrix.data.nbytes + matrix.indices.nbytes <= _MAX_BYTES_IN_MEMORY
