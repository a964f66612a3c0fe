"""Spots are ordered by what they hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast._utils import canonical_order as module
from napari_srast._utils.canonical_order import canonical_order


def slide() -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return counts (144, 30) and centers."""
    row, col = (a.ravel() for a in np.mgrid[:12, :12])
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(2.0, (144, 30)).astype(np.float32))
    return counts, np.column_stack([col, row]) * 100.0


def test_canonical_order_depends_on_content_alone() -> None:
    counts, centers = slide()
    turn = np.random.default_rng(2).permutation(len(centers))
    order = canonical_order(counts, centers)
    np.testing.assert_array_equal(turn[canonical_order(counts[turn], centers[turn] + 7.0)], order)


def test_canonical_order_is_the_same_in_pieces_and_with_zeros_that_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, centers = slide()
    for spot in (5, 143):
        counts.data[counts.indptr[spot] : counts.indptr[spot + 1]] = 0
    order = canonical_order(counts, centers)
    stored = counts.copy()
    stored.eliminate_zeros()
    assert stored.nnz < counts.nnz
    np.testing.assert_array_equal(canonical_order(stored, centers), order)
    monkeypatch.setattr(module, "_ENTRIES_AT_ONCE", 40)
    np.testing.assert_array_equal(canonical_order(counts, centers), order)
