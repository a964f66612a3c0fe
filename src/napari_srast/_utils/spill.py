"""Buffer for blocks of sparse rows that moves to disk once it exceeds a memory limit.

Shape legend: Q pixels (rows) of a block, G genes (columns).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast._utils.scratch_file import ScratchFile, ScratchSlice

__all__ = ["MEMORY_LIMIT", "CsrArrays", "SparseBlock", "SpillBuffer"]

MEMORY_LIMIT = 512 * 2**20
"""Default number of bytes of a result that are held in memory."""


@dataclass(frozen=True, eq=False)
class CsrArrays:
    """Arrays of a CSR matrix under construction: columns and values of its entries, and its row pointer."""

    columns: np.ndarray
    data: np.ndarray
    pointer: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseBlock:
    """Some rows of a sparse result, in memory or on disk.

    Parameters
    ----------
    rows
        Row numbers in the result, ascending, shape (Q,).
    pointer
        Start of each row's entries in the block, and their end, shape (Q + 1,).
    storage
        Columns and values of the entries: two arrays in memory, or their slice of a scratch file.
    """

    rows: np.ndarray
    pointer: np.ndarray
    storage: ScratchSlice | tuple[np.ndarray, np.ndarray]

    def read_entries(self, first: int = 0, last: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and values of the rows from ``first`` up to, but without, ``last`` (None: all that follow)."""
        start, stop = int(self.pointer[first]), int(self.pointer[len(self.rows) if last is None else last])
        if isinstance(self.storage, ScratchSlice):
            columns, data = self.storage.read(start, stop)
        else:
            columns, data = (array[start:stop] for array in self.storage)
        return columns, data

    def copy_rows(self, first: int, last: int, target: CsrArrays, first_row: int = 0) -> None:
        """Copy some rows of the block to their positions in a larger matrix; consecutive rows are copied at once.

        Parameters
        ----------
        first, last
            Rows of the block, from ``first`` up to, but without, ``last``.
        target
            Arrays of the matrix to fill.
        first_row
            Row of the result that is the first row of ``target``.
        """
        source_columns, source_data = self.read_entries(first, last)
        rows, begin = self.rows[first:last] - first_row, self.pointer[first : last + 1] - self.pointer[first]
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for start, stop in zip(np.append(0, breaks), np.append(breaks, len(rows)), strict=True):
            source = slice(begin[start], begin[stop])
            destination = slice(target.pointer[rows[start]], target.pointer[rows[start] + (stop - start)])
            target.data[destination], target.columns[destination] = source_data[source], source_columns[source]


class SpillBuffer:
    """Holds blocks of rows until they are needed: in memory up to a limit, then on disk.

    Parameters
    ----------
    memory_limit
        Number of bytes that are held in memory.
    """

    def __init__(self, memory_limit: int = MEMORY_LIMIT) -> None:
        self._memory_limit = memory_limit
        self._n_bytes = 0
        self._scratch = ScratchFile()

    def add(self, rows: np.ndarray, block: sparse.csr_matrix) -> SparseBlock:
        """Store a block.

        Parameters
        ----------
        rows
            Rows of the result, in any order, shape (Q,).
        block
            Their values, shape (Q, G).
        """
        order = np.argsort(rows)
        if not np.array_equal(order, np.arange(len(order))):
            block, rows = block[order], rows[order]
        columns, data = block.indices, block.data.astype(np.float32, copy=False)
        stored: ScratchSlice | None = None
        if self._n_bytes + columns.nbytes + data.nbytes > self._memory_limit:
            stored = self._scratch.write(columns, data)
        if stored is None:  # also where the disk is full
            self._n_bytes += columns.nbytes + data.nbytes
        return SparseBlock(rows=rows, pointer=block.indptr, storage=stored or (columns, data))

    def release(self, block: SparseBlock) -> None:
        """Free the space of a block that nothing needs any more."""
        if isinstance(block.storage, ScratchSlice):
            self._scratch.release(block.storage)
        else:
            self._n_bytes -= sum(array.nbytes for array in block.storage)

    def close(self) -> None:
        """Delete the blocks on disk."""
        self._scratch.close()
