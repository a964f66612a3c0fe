"""TODO docstring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast._utils.scratch_file import ScratchFile, ScratchSlice

__all__ = ["IN_MEMORY", "SparseBlock", "SpillBuffer"]

IN_MEMORY = 512 * 2**20
"""Bytes of a result up to which it is put together in memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseBlock:
    """A unit's pixels (Q, G): rows of the result, sorted, entries of each, and their columns and counts."""

    rows: np.ndarray
    pointer: np.ndarray
    kept: ScratchSlice | tuple[np.ndarray, np.ndarray]

    def entries(self, first: int = 0, last: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and counts of some of its rows, whether they lie in memory or on disk."""
        start, stop = int(self.pointer[first]), int(self.pointer[len(self.rows) if last is None else last])
        if isinstance(self.kept, ScratchSlice):
            columns, data = self.kept.read(start, stop)
        else:
            columns, data = (array[start:stop] for array in self.kept)
        return columns, data

    def copy(
        self, first: int, last: int, columns: np.ndarray, data: np.ndarray, pointer: np.ndarray, row: int = 0
    ) -> None:
        """Copy some of its rows to where they belong; runs of rows that follow one another at once.

        Parameters
        ----------
        first, last
            Which of its rows.
        columns, data
            Where they go.
        pointer
            Where there the entries of each row of the result begin, from row number ``row`` on.
        row
            See there.
        """
        of_columns, of_data = self.entries(first, last)
        rows, begin = self.rows[first:last] - row, self.pointer[first : last + 1] - self.pointer[first]
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for start, stop in zip(np.append(0, breaks), np.append(breaks, len(rows)), strict=True):
            own = slice(begin[start], begin[stop])
            place = slice(pointer[rows[start]], pointer[rows[start] + (stop - start)])
            data[place], columns[place] = of_data[own], of_columns[own]


class SpillBuffer:
    """Keeps units until they are needed: so many bytes of them in memory, what comes then on disk.

    Parameters
    ----------
    in_memory
        Bytes.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._held = 0
        self._scratch = ScratchFile()

    def keep(self, rows: np.ndarray, part: sparse.csr_matrix) -> SparseBlock:
        """Keep the pixels of a unit, which are ``rows`` of the result."""
        order = np.argsort(rows)
        if not np.array_equal(order, np.arange(len(order))):
            part, rows = part[order], rows[order]
        columns, data = part.indices, part.data.astype(np.float32, copy=False)
        kept: ScratchSlice | None = None
        if self._held + columns.nbytes + data.nbytes > self._in_memory:
            kept = self._scratch.keep(columns, data)
        if kept is None:
            self._held += columns.nbytes + data.nbytes
        return SparseBlock(rows=rows, pointer=part.indptr, kept=kept or (columns, data))

    def forget(self, part: SparseBlock) -> None:
        """Give its place to others, once nothing needs it."""
        if isinstance(part.kept, ScratchSlice):
            self._scratch.forget(part.kept)
        else:
            self._held -= sum(array.nbytes for array in part.kept)

    def close(self) -> None:
        """Give the room on disk back."""
        self._scratch.close()
