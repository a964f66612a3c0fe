"""Tests of matrices in scratch files."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import sparse

from napari_srast._utils import matrix_on_disk as module
from napari_srast._utils.matrix_on_disk import move_to_disk, release_matrix, take_rows


@pytest.fixture
def matrix() -> sparse.csr_matrix:
    return sparse.random(300, 40, 0.3, format="csr", dtype=np.float32, random_state=0)


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES_IN_MEMORY", 0)
    monkeypatch.setattr(module, "_ENTRIES_PER_COPY", 100)


def is_same(one: sparse.csr_matrix, other: sparse.csr_matrix) -> bool:
    pairs = ((one.data, other.data), (one.indices, other.indices), (one.indptr, other.indptr))
    return one.shape == other.shape and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def test_small_matrix_stays_in_memory(matrix: sparse.csr_matrix) -> None:
    assert move_to_disk(matrix) is matrix


@pytest.mark.usefixtures("everything_is_large")
def test_large_matrix_is_the_same_on_disk(matrix: sparse.csr_matrix) -> None:
    moved = move_to_disk(matrix)
    assert not np.shares_memory(moved.data, matrix.data)
    assert is_same(moved, matrix)
    release_matrix(moved)
    assert is_same(moved, matrix)


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize("n_rows", [0, 1, 77, 300])
def test_taken_rows_are_those_of_an_index(matrix: sparse.csr_matrix, n_rows: int) -> None:
    rows = np.random.default_rng(1).permutation(300)[:n_rows]
    assert is_same(take_rows(matrix, rows), matrix[rows].tocsr())


@pytest.mark.usefixtures("everything_is_large")
def test_rows_stay_in_memory_if_the_disk_is_full(matrix: sparse.csr_matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "allocate_on_disk", lambda _: None)
    assert is_same(move_to_disk(matrix), matrix)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the pages")
def test_matrix_on_disk_takes_no_memory_until_it_is_read() -> None:
    import psutil

    n_rows, n_columns = 40_000, 500  # 160 MB
    data = np.ones(n_rows * n_columns, dtype=np.float32)
    columns = np.tile(np.arange(n_columns, dtype=np.int32), n_rows)
    pointer = np.arange(n_rows + 1, dtype=np.int32) * n_columns
    matrix = sparse.csr_matrix((data, columns, pointer), shape=(n_rows, n_columns))
    process = psutil.Process()
    before = process.memory_info().rss
    moved = move_to_disk(matrix)
    assert process.memory_info().rss - before < 40e6
    moved.data.sum()
    assert process.memory_info().rss - before > 70e6
    release_matrix(moved)
    assert process.memory_info().rss - before < 40e6
