"""Puts the units' pixels together in the order of the result, without ever holding the result twice.

A small result lies in memory. Of a large one every unit goes to disk as it comes, and so does the whole, from where it
is checked and written to its store: a store takes rows in their order, and nothing that failed its checks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.splitting.scratch import Kept, Scratch, room_for

__all__ = ["IN_MEMORY", "Assembly"]

IN_MEMORY = 512 * 2**20
"""Bytes of a result up to which it is put together in memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A unit's pixels (Q, G): rows of the result, entries of each, and their columns and counts, at hand or on disk."""

    rows: np.ndarray
    pointer: np.ndarray
    kept: Kept | tuple[np.ndarray, np.ndarray]

    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and counts."""
        columns, data = self.kept.read() if isinstance(self.kept, Kept) else self.kept
        return columns, data


class Assembly:
    """Collects units as they come; used in a ``with`` block, it leaves nothing behind.

    Parameters
    ----------
    n_pixels, n_genes
        Shape of the result.
    in_memory
        Bytes up to which units, and up to which the whole, are kept in memory.
    """

    def __init__(self, n_pixels: int, n_genes: int, in_memory: int = IN_MEMORY) -> None:
        self._shape = (n_pixels, n_genes)
        self._in_memory = in_memory
        self._held = 0
        self._scratch = Scratch()
        self._counts: list[_Part] = []
        self._spreads: list[_Part] = []

    def __enter__(self) -> Assembly:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.close()

    def add(self, rows: np.ndarray, counts: sparse.csr_matrix, spread: sparse.csr_matrix | None) -> None:
        """Take the pixels (Q, G) of a unit, which are ``rows`` of the result."""
        self._counts.append(self._part(rows, counts))
        if spread is not None:
            self._spreads.append(self._part(rows, spread))

    def finish(self) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
        """Return counts and standard deviations; the units are given up."""
        with self:
            spread = self._joined(self._spreads) if self._spreads else None
            return self._joined(self._counts), spread

    def _part(self, rows: np.ndarray, part: sparse.csr_matrix) -> _Part:
        order = np.argsort(rows)
        if not np.array_equal(order, np.arange(len(order))):
            part, rows = part[order], rows[order]
        columns, data = part.indices, part.data.astype(np.float32, copy=False)
        kept: Kept | None = None
        if self._held + columns.nbytes + data.nbytes > self._in_memory:
            kept = self._scratch.keep(columns, data)
        if kept is None:
            self._held += columns.nbytes + data.nbytes
        return _Part(rows=rows, pointer=part.indptr, kept=kept or (columns, data))

    def _joined(self, parts: list[_Part]) -> sparse.csr_matrix:
        per_row = np.zeros(self._shape[0], dtype=np.int64)
        for part in parts:
            per_row[part.rows] = np.diff(part.pointer)
        pointer = np.concatenate([[0], np.cumsum(per_row)])
        n_entries = int(pointer[-1])
        index_type = np.int32 if max(n_entries, *self._shape) < 2**31 else np.int64
        if len(parts) == 1 and len(parts[0].rows) == self._shape[0]:
            columns, data = parts.pop().entries()
        else:
            columns, data = self._room(n_entries, index_type)
            while parts:  # each is freed as it is copied
                _copy(parts.pop(), columns, data, pointer)
        return sparse.csr_matrix(
            (data, columns.astype(index_type, copy=False), pointer.astype(index_type)), shape=self._shape
        )

    def _room(self, n_entries: int, index_type: type) -> tuple[np.ndarray, np.ndarray]:
        """Return where so many columns and counts go."""
        sizes = [(n_entries, index_type), (n_entries, np.float32)]
        on_disk = None
        if n_entries * (np.dtype(index_type).itemsize + 4) > self._in_memory:
            on_disk = room_for(sizes)
        columns, data = on_disk or [np.empty(size, dtype=dtype) for size, dtype in sizes]
        return columns, data


def _copy(part: _Part, columns: np.ndarray, data: np.ndarray, pointer: np.ndarray) -> None:
    """Copy the entries of a unit to their places; runs of rows that follow one another at once."""
    of_columns, of_data = part.entries()
    rows = part.rows
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    for first, last in zip(np.append(0, breaks), np.append(breaks, len(rows)), strict=True):
        own = slice(part.pointer[first], part.pointer[last])
        place = slice(pointer[rows[first]], pointer[rows[first] + (last - first)])
        data[place], columns[place] = of_data[own], of_columns[own]
