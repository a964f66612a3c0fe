from __future__ import annotations

import tracemalloc

import anndata
import numpy as np
import pytest
from scipy import sparse

from napari_srast.errors import InputError
from napari_srast.io import counts as module
from napari_srast.io.counts import as_counts, raw_counts, unique_names


@pytest.mark.parametrize(
    "make", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.coo_matrix]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
def test_any_matrix_of_whole_numbers_becomes_float32_csr(make, dtype):
    values = np.array([[0, 3, 0], [7, 0, 1]], dtype=dtype)
    counts = as_counts(make(values), "X")
    assert isinstance(counts, sparse.csr_matrix)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts.toarray(), values)


def test_count_too_large_for_float32_keeps_its_last_digit():
    counts = as_counts(np.array([[2**24 + 1, 1]]), "X")
    assert counts.dtype == np.float64
    assert counts[0, 0] == 2**24 + 1


def test_stored_zeros_are_dropped():
    matrix = sparse.csr_matrix((np.array([0.0, 2.0]), (np.array([0, 0]), np.array([0, 1]))), shape=(1, 3))
    assert as_counts(matrix, "X").nnz == 1


@pytest.mark.parametrize(
    ("value", "word"), [(-1.0, "negative"), (np.nan, "missing"), (np.inf, "infinite"), (0.5, "normalized")]
)
def test_what_is_no_count_is_refused_by_name(value, word):
    with pytest.raises(InputError, match=word):
        as_counts(np.array([[1.0, value]]), "X of table 'table'")


def test_layer_counts_stands_in_for_normalized_values():
    counts = np.array([[1.0, 4.0], [0.0, 2.0]])
    table = anndata.AnnData(np.log1p(counts), layers={"counts": counts})
    got, notices = raw_counts(table, "table")
    np.testing.assert_array_equal(got.toarray(), counts)
    assert "layer 'counts'" in notices[0]


def test_normalized_values_alone_are_refused_with_a_hint():
    table = anndata.AnnData(np.log1p([[1.0, 4.0]]), layers={"scaled": np.zeros((1, 2))})
    with pytest.raises(InputError, match=r"layer named 'counts' \(this table has the layers 'scaled'\)"):
        raw_counts(table, "table")


def test_values_are_told_to_be_logarithms_a_part_at_a_time(monkeypatch):
    """The verdict is that on all values at once; empty rows, and rows longer than a part, are no exception."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (40, 30)) * (rng.random((40, 1)) < 0.7)
    depths = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    odd = np.log1p(counts)
    odd[-1, -1] = 0.37  # one value of the last part
    for values, logarithms in (
        (np.log1p(counts), True),
        (np.log1p(1e4 * counts / depths), True),
        (np.log1p(1e4 * counts / depths * rng.random((40, 1))), False),
        (odd, False),
        (counts / depths, False),
        (counts * 31.5, False),
    ):
        for at_once in (1, 7, 100, 10**6):
            monkeypatch.setattr(module, "_AT_ONCE", at_once)
            assert module._look_logarithmic(sparse.csr_matrix(values)) is logarithms


def test_telling_logarithms_takes_little_memory():
    matrix = sparse.random(2000, 2000, 0.5, format="csr", random_state=0)
    tracemalloc.start()
    try:
        module._look_logarithmic(matrix)
        assert tracemalloc.get_traced_memory()[1] < matrix.data.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("shape", "word"), [((0, 3), "no spots"), ((3, 0), "no genes")])
def test_empty_tables_are_refused(shape, word):
    with pytest.raises(InputError, match=word):
        raw_counts(anndata.AnnData(np.zeros(shape, dtype=np.float32)), "table")


def test_repeated_names_are_told_apart_and_the_rest_kept():
    names, notices = unique_names(["A", "B", "A"], "gene names")
    assert list(names) == ["A", "B", "A-1"]
    assert "(A)" in notices[0]
    assert unique_names(["A", "B"], "gene names")[1] == ()
