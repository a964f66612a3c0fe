"""Tests of the order of spots by their counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast._utils import canonical_order as module
from napari_srast._utils.canonical_order import canonical_order


def slide() -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return counts (144, 30) and centers (144, 2)."""
    row, col = (a.ravel() for a in np.mgrid[:12, :12])
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(2.0, (144, 30)).astype(np.float32))
    return counts, np.column_stack([col, row]) * 100.0


def test_order_depends_on_counts_only() -> None:
    counts, centers = slide()
    permutation = np.random.default_rng(2).permutation(len(centers))
    order = canonical_order(counts, centers)
    shuffled = canonical_order(counts[permutation], centers[permutation] + 7.0)
    np.testing.assert_array_equal(permutation[shuffled], order)


def test_chunks_and_stored_zeros_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, centers = slide()
    for spot in (5, 143):
        counts.data[counts.indptr[spot] : counts.indptr[spot + 1]] = 0
    order = canonical_order(counts, centers)
    without_zeros = counts.copy()
    without_zeros.eliminate_zeros()
    assert without_zeros.nnz < counts.nnz
    np.testing.assert_array_equal(canonical_order(without_zeros, centers), order)
    monkeypatch.setattr(module, "_ENTRIES_PER_CHUNK", 40)
    np.testing.assert_array_equal(canonical_order(counts, centers), order)
