"""Puts the units' pixels together in the order of the result, without ever holding the result twice.

A result that is wanted in memory lies there if it is small. Of a large one every unit goes to disk as it comes, and so
does the whole. One that is wanted in a store is written there as it comes: :mod:`napari_srast.io.streaming`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.splitting.scratch import Kept, Scratch, room_for

__all__ = ["IN_MEMORY", "Assembly", "Collector", "Part", "Parts"]

IN_MEMORY = 512 * 2**20
"""Bytes of a result up to which it is put together in memory."""


class Collector(ABC):
    """Takes units as they come, in any order."""

    @abstractmethod
    def add(self, rows: np.ndarray, counts: sparse.csr_matrix, spread: sparse.csr_matrix | None) -> None:
        """Take the pixels (Q, G) of a unit, which are ``rows`` of the result."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A unit's pixels (Q, G): rows of the result, sorted, entries of each, and their columns and counts."""

    rows: np.ndarray
    pointer: np.ndarray
    kept: Kept | tuple[np.ndarray, np.ndarray]

    def entries(self, first: int = 0, last: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return columns and counts of some of its rows, whether they lie in memory or on disk."""
        start, stop = int(self.pointer[first]), int(self.pointer[len(self.rows) if last is None else last])
        if isinstance(self.kept, Kept):
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


class Parts:
    """Keeps units until they are needed: so many bytes of them in memory, what comes then on disk.

    Parameters
    ----------
    in_memory
        Bytes.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._held = 0
        self._scratch = Scratch()

    def keep(self, rows: np.ndarray, part: sparse.csr_matrix) -> Part:
        """Keep the pixels of a unit, which are ``rows`` of the result."""
        order = np.argsort(rows)
        if not np.array_equal(order, np.arange(len(order))):
            part, rows = part[order], rows[order]
        columns, data = part.indices, part.data.astype(np.float32, copy=False)
        kept: Kept | None = None
        if self._held + columns.nbytes + data.nbytes > self._in_memory:
            kept = self._scratch.keep(columns, data)
        if kept is None:
            self._held += columns.nbytes + data.nbytes
        return Part(rows=rows, pointer=part.indptr, kept=kept or (columns, data))

    def forget(self, part: Part) -> None:
        """Give its place to others, once nothing needs it."""
        if isinstance(part.kept, Kept):
            self._scratch.forget(part.kept)
        else:
            self._held -= sum(array.nbytes for array in part.kept)

    def close(self) -> None:
        """Give the room on disk back."""
        self._scratch.close()


class Assembly(Collector):
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
        self._parts = Parts(in_memory)
        self._counts: list[Part] = []
        self._spreads: list[Part] = []

    def __enter__(self) -> Assembly:
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def add(self, rows: np.ndarray, counts: sparse.csr_matrix, spread: sparse.csr_matrix | None) -> None:
        """Take the pixels (Q, G) of a unit, which are ``rows`` of the result."""
        self._counts.append(self._parts.keep(rows, counts))
        if spread is not None:
            self._spreads.append(self._parts.keep(rows, spread))

    def finish(self) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
        """Return counts and standard deviations; the units are given up."""
        with self:
            spread = self._joined(self._spreads) if self._spreads else None
            return self._joined(self._counts), spread

    def _joined(self, parts: list[Part]) -> sparse.csr_matrix:
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
                part = parts.pop()
                part.copy(0, len(part.rows), columns, data, pointer)
                del part
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
