"""Puts the units' pixels together in the order of the result, without ever holding the result twice.

A result that is wanted in memory lies there if it is small. Of a large one every unit goes to disk as it comes, and so
does the whole. One that is wanted in a store is written there as it comes: :mod:`napari_srast.io.streaming_writer`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from scipy import sparse

from napari_srast._utils.scratch_file import room_for
from napari_srast._utils.spill import IN_MEMORY, SparseBlock, SpillBuffer

__all__ = [
    "InMemorySink",
    "ResultSink",
]


class ResultSink(ABC):
    """Takes units as they come, in any order."""

    @abstractmethod
    def add(self, rows: np.ndarray, counts: sparse.csr_matrix, spread: sparse.csr_matrix | None) -> None:
        """Take the pixels (Q, G) of a unit, which are ``rows`` of the result."""


class InMemorySink(ResultSink):
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
        self._parts = SpillBuffer(in_memory)
        self._counts: list[SparseBlock] = []
        self._spreads: list[SparseBlock] = []

    def __enter__(self) -> InMemorySink:
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

    def _joined(self, parts: list[SparseBlock]) -> sparse.csr_matrix:
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
