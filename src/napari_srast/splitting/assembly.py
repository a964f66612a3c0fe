"""Puts the units' pixels together in the order of the result, without ever holding the result twice."""

from __future__ import annotations

import numpy as np
from scipy import sparse

__all__ = ["Assembly"]


class Assembly:
    """Collects units as they come.

    Parameters
    ----------
    n_pixels, n_genes
        Shape of the result.
    """

    def __init__(self, n_pixels: int, n_genes: int) -> None:
        self._shape = (n_pixels, n_genes)
        self._counts: list[tuple[np.ndarray, sparse.csr_matrix]] = []
        self._spreads: list[tuple[np.ndarray, sparse.csr_matrix]] = []

    def add(self, rows: np.ndarray, counts: sparse.csr_matrix, spread: sparse.csr_matrix | None) -> None:
        """Take the pixels (Q, G) of a unit, which are ``rows`` of the result."""
        self._counts.append((rows, counts))
        if spread is not None:
            self._spreads.append((rows, spread))

    def finish(self) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
        """Return counts and standard deviations; the units are given up."""
        spread = self._joined(self._spreads) if self._spreads else None
        return self._joined(self._counts), spread

    def _joined(self, parts: list[tuple[np.ndarray, sparse.csr_matrix]]) -> sparse.csr_matrix:
        if len(parts) == 1 and np.array_equal(parts[0][0], np.arange(self._shape[0])):
            return parts.pop()[1]
        per_row = np.zeros(self._shape[0], dtype=np.int64)
        for rows, part in parts:
            per_row[rows] = np.diff(part.indptr)
        pointer = np.concatenate([[0], np.cumsum(per_row)])
        small = max(pointer[-1], *self._shape) < 2**31
        columns = np.empty(pointer[-1], dtype=np.int32 if small else np.int64)
        data = np.empty(pointer[-1], dtype=np.float32)
        while parts:  # each is freed as it is copied
            rows, part = parts.pop()
            part = part[np.argsort(rows)]
            rows = np.sort(rows)
            # Runs of rows that follow one another in both are copied at once.
            breaks = np.flatnonzero(np.diff(rows) != 1) + 1
            for first, last in zip(np.append(0, breaks), np.append(breaks, len(rows)), strict=True):
                of_part = slice(part.indptr[first], part.indptr[last])
                of_all = slice(pointer[rows[first]], pointer[rows[first] + (last - first)])
                data[of_all], columns[of_all] = part.data[of_part], part.indices[of_part]
            del part
        pointer = pointer.astype(columns.dtype)
        return sparse.csr_matrix((data, columns, pointer), shape=self._shape)
