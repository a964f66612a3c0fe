from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from helpers.memory import traced_peak
from scipy import sparse

from napari_srast.errors import InputError
from napari_srast.io import counts as module
from napari_srast.io.counts import as_counts, raw_counts, unique_names


@pytest.mark.parametrize(
    "make", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.coo_matrix]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
def test_integer_matrices_become_float32_csr(make, dtype):
    values = np.array([[0, 3, 0], [7, 0, 1]], dtype=dtype)
    counts = as_counts(make(values), "X")
    assert isinstance(counts, sparse.csr_matrix)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts.toarray(), values)


def test_large_counts_become_float64():
    counts = as_counts(np.array([[2**24 + 1, 1]]), "X")
    assert counts.dtype == np.float64
    assert counts[0, 0] == 2**24 + 1


def test_stored_zeros_are_dropped():
    matrix = sparse.csr_matrix((np.array([0.0, 2.0]), (np.array([0, 0]), np.array([0, 1]))), shape=(1, 3))
    assert as_counts(matrix, "X").nnz == 1


@pytest.mark.parametrize(
    ("value", "word"), [(-1.0, "negative"), (np.nan, "missing"), (np.inf, "infinite"), (0.5, "normalized")]
)
def test_invalid_values_are_refused_with_their_kind(value, word):
    with pytest.raises(InputError, match=word):
        as_counts(np.array([[1.0, value]]), "X of table 'table'")


def test_layer_counts_replaces_normalized_x():
    counts = np.array([[1.0, 4.0], [0.0, 2.0]])
    table = anndata.AnnData(np.log1p(counts), layers={"counts": counts})
    got = raw_counts(table, "table")
    np.testing.assert_array_equal(got.matrix.toarray(), counts)
    assert "layer 'counts'" in got.notices[0]


COUNTS = np.array([[1.0, 4.0, 0.0], [0.0, 2.0, 7.0]])


def table_with_raw(x, raw, genes="ABC", **layers):
    """Return a table of the first columns of ``x``, whose raw has all genes."""
    full = anndata.AnnData(raw, var=pd.DataFrame(index=list(genes)))
    table = anndata.AnnData(x, var=pd.DataFrame(index=list(genes[: x.shape[1]])), layers=layers)
    table.raw = full
    return table


@pytest.mark.contract(
    section="Tables and counts",
    case="normalized X with counts in a layer such as `raw_counts`",
    response="*notice:* those in its layer were used",
)
@pytest.mark.parametrize("name", ["raw_counts", "count", "Counts", "raw"])
def test_counts_are_found_in_layers_of_any_usual_name(name):
    got = raw_counts(anndata.AnnData(np.log1p(COUNTS), layers={name: COUNTS}), "table")
    np.testing.assert_array_equal(got.matrix.toarray(), COUNTS)
    assert f"layer '{name}' were used" in got.notices[0]


@pytest.mark.contract(
    section="Tables and counts",
    case="normalized X with counts in .raw",
    response="*notice:* those in its .raw were used, with all its genes",
)
def test_counts_are_found_in_raw_with_its_genes():
    got = raw_counts(table_with_raw(np.log1p(COUNTS[:, :2]), COUNTS), "table", np.array([1]))
    np.testing.assert_array_equal(got.matrix.toarray(), COUNTS[1:])
    assert list(got.var.index) == ["A", "B", "C"]
    assert got.notices == ("X of table 'table' has no raw counts; those in its .raw were used.",)


def test_normalized_raw_does_not_hide_a_layer_of_counts():
    got = raw_counts(table_with_raw(np.log1p(COUNTS), np.log1p(COUNTS), counts=COUNTS), "table")
    np.testing.assert_array_equal(got.matrix.toarray(), COUNTS)


@pytest.mark.contract(
    section="Tables and counts",
    case="different counts in several matrices",
    response="names them; choose one with --counts",
)
def test_different_counts_need_a_choice():
    table = table_with_raw(COUNTS, COUNTS, counts=2 * COUNTS)
    with pytest.raises(InputError, match=r"X and in layer 'counts' and in .raw; choose one with --counts: X, counts"):
        raw_counts(table, "table")
    assert raw_counts(table, "table", choice="counts").matrix.sum() == 2 * COUNTS.sum()
    assert raw_counts(table, "table", choice="raw").matrix.sum() == COUNTS.sum()
    with pytest.raises(InputError, match="no counts 'x'; choose one with --counts: X, counts, raw"):
        raw_counts(table, "table", choice="x")
    same = table_with_raw(COUNTS[:, :2], COUNTS, counts=COUNTS[:, :2])
    assert raw_counts(same, "table").notices == ()


def test_normalized_values_without_layer_are_refused():
    table = anndata.AnnData(np.log1p([[1.0, 4.0]]), layers={"scaled": np.zeros((1, 2))})
    with pytest.raises(
        InputError, match=r"layer named 'counts' \(this table has the layers 'scaled'; if one .*--counts\)"
    ):
        raw_counts(table, "table")


def test_log_normalized_values_are_detected_in_blocks(monkeypatch):
    """The block size changes nothing, not even for empty rows and rows longer than a block."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (40, 30)) * (rng.random((40, 1)) < 0.7)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    one_fraction = np.log1p(counts)
    one_fraction[-1, -1] = 0.37  # in the last block
    for values, expected in (
        (np.log1p(counts), True),
        (np.log1p(1e4 * counts / totals), True),
        (np.log1p(1e4 * counts / totals * rng.random((40, 1))), False),
        (one_fraction, False),
        (counts / totals, False),
        (counts * 31.5, False),
    ):
        for block in (1, 7, 100, 10**6):
            monkeypatch.setattr(module, "_BLOCK_VALUES", block)
            assert module._looks_log_normalized(sparse.csr_matrix(values)) is expected


def test_detecting_log_normalized_values_takes_little_memory():
    matrix = sparse.random(2000, 2000, 0.5, format="csr", random_state=0)
    with traced_peak() as peak:
        module._looks_log_normalized(matrix)
    assert peak.n_bytes < matrix.data.nbytes


@pytest.mark.parametrize("stored", ["float32", "float64", "int16", "int32", "int64"])
def test_reading_counts_takes_the_memory_of_one_copy(stored):
    values = sparse.random(3000, 1000, 0.3, format="csr", random_state=0)
    values.data = (np.arange(values.nnz) % 7 + 1).astype(stored)
    if stored == "int64":
        values.indices, values.indptr = values.indices.astype(np.int64), values.indptr.astype(np.int64)
    with traced_peak() as peak:
        counts = module.as_counts(values, "X", np.arange(3000))
    assert counts.data.itemsize == counts.indices.itemsize == 4
    np.testing.assert_array_equal(counts.data, values.data)
    assert peak.n_bytes < 1.5 * (counts.data.nbytes + counts.indices.nbytes)


def test_count_that_needs_double_precision_is_exact_in_any_block(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_VALUES", 7)
    for position in (0, 50, 99):
        data = np.arange(1, 101)
        data[position] = 2**24 + 1
        counts = module.as_counts(sparse.csr_matrix(data.reshape(10, 10)), "X", np.arange(10)[::-1])
        assert counts.dtype == np.float64
        np.testing.assert_array_equal(counts.toarray(), data.reshape(10, 10)[::-1])


def test_duplicates_and_zeros_of_a_matrix_are_removed_and_the_matrix_is_unchanged():
    data, columns = np.array([0.5, 0.5, 0.0, 3.0, 2.0, 0.0]), np.array([1, 1, 0, 2, 0, 1])
    matrix = sparse.csr_matrix((data.copy(), columns.copy(), [0, 3, 5, 6]), shape=(3, 3))
    counts = module.as_counts(matrix, "X")
    np.testing.assert_array_equal(counts.indptr, [0, 1, 3, 3])
    np.testing.assert_array_equal(counts.indices, [1, 0, 2])
    np.testing.assert_array_equal(counts.data, [1, 2, 3])
    np.testing.assert_array_equal(matrix.data, data)
    np.testing.assert_array_equal(matrix.indices, columns)


@pytest.mark.parametrize("position", [0, 99])
@pytest.mark.parametrize(
    ("value", "word"), [(-1.0, "negative"), (np.nan, "missing"), (0.5, "fractions"), (2.0**60, "large")]
)
def test_values_that_are_no_counts_are_found_in_every_block(monkeypatch, position, value, word):
    monkeypatch.setattr(module, "_BLOCK_VALUES", 7)
    data = np.arange(1.0, 101.0)
    data[position] = value
    with pytest.raises(InputError, match=word):
        module.as_counts(sparse.csr_matrix(data.reshape(10, 10)), "X")


@pytest.mark.parametrize(("shape", "word"), [((0, 3), "no spots"), ((3, 0), "no genes")])
def test_empty_tables_are_refused(shape, word):
    with pytest.raises(InputError, match=word):
        raw_counts(anndata.AnnData(np.zeros(shape, dtype=np.float32)), "table")


def test_repeated_names_get_a_number():
    names, notices = unique_names(["A", "B", "A"], "gene names")
    assert list(names) == ["A", "B", "A-1"]
    assert "(A)" in notices[0]
    assert unique_names(["A", "B"], "gene names")[1] == ()


def _stored(data, indices=(0, 2, 1), shape=(2, 3), dtype=np.float32):
    pointer = np.array([0, 2, 3], dtype=np.int32)
    return sparse.csr_matrix((np.array(data, dtype=dtype), np.array(indices, dtype=np.int32), pointer), shape=shape)


def test_counts_in_their_final_form_are_reused_on_request():
    stored = _stored([1, 2, 3])
    reused, copied = (as_counts(stored, "X", reuse=reuse) for reuse in (True, False))
    assert np.shares_memory(reused.data, stored.data)
    assert np.shares_memory(reused.indices, stored.indices)
    assert not np.shares_memory(copied.data, stored.data)
    np.testing.assert_array_equal(reused.toarray(), copied.toarray())
    assert (reused.indptr.dtype, reused.indices.dtype) == (copied.indptr.dtype, copied.indices.dtype)


@pytest.mark.parametrize(
    ("stored", "rows"),
    [
        (_stored([1, 2, 3], dtype=np.int32), None),
        (_stored([1, 2, 3], dtype=np.float64), None),
        (_stored([1, 0, 3]), None),
        (_stored([1, 2, 3], indices=(2, 0, 1)), None),
        (_stored([1, 2, 3], indices=(2, 2, 1)), None),
        (_stored([1, 2**25, 3]), None),
        (_stored([1, 2, 3]), np.array([1])),
        (_stored([1, 2, 3]), np.array([1, 0])),
    ],
)
def test_counts_in_another_form_are_converted(stored, rows):
    reused, copied = (as_counts(stored, "X", rows, reuse=reuse) for reuse in (True, False))
    assert not np.shares_memory(reused.data, stored.data)
    np.testing.assert_array_equal(reused.toarray(), copied.toarray())
    assert reused.data.dtype == copied.data.dtype


@pytest.mark.parametrize("value", [-1, 0.5, np.nan, np.inf])
def test_values_that_are_no_counts_are_not_reused(value):
    with pytest.raises(InputError, match="counts"):
        as_counts(_stored([1, value, 3]), "X", reuse=True)
