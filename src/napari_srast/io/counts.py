"""Extract raw counts from a table, or report why it contains none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.errors import ChoiceError, InputError

if TYPE_CHECKING:
    import anndata

__all__ = ["RAW_LAYERS", "RawCounts", "as_counts", "raw_counts", "unique_names"]

RAW_LAYERS = ("counts", "raw_counts", "raw", "count", "raw_count", "rawcounts", "umi_counts", "umis", "umi")
"""Layers where tools store the counts after they normalized X, in the order in which they are tried."""
_RAW = "raw"  # name of ``AnnData.raw`` in a choice
_N_COMPARED = 500  # rows that decide whether two matrices of counts are the same
_MAX_LOGARITHM = 30.0  # exp(30) exceeds the counts of any spot
_BLOCK_VALUES = 2**16  # processed at a time, so that no second copy of all values is in memory
_ROUNDING = 1e-3  # largest error of counts that were computed, such as by a power of e
_EXACT_FLOAT32 = 2**24
_EXACT_FLOAT64 = 2**53
_NO_COUNTS: tuple[tuple[Callable[[np.ndarray], np.ndarray], str], ...] = (
    (lambda values: ~np.isfinite(values), "missing or infinite values, which are not counts"),
    (lambda values: values < 0, "negative values, so it is scaled data and not counts"),
    (lambda values: values != np.rint(values), "fractions, so it is normalized data and not counts"),
    (lambda values: values > _EXACT_FLOAT64, "values too large to be counts"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class RawCounts:
    """Raw counts of a table.

    Parameters
    ----------
    matrix
        Counts, CSR, shape (N, G).
    var
        Columns of the genes, indexed by their names, G rows: those of the table, or of its ``raw``.
    notices
        Where the counts are from, if they are not in X.
    """

    matrix: sparse.csr_matrix
    var: pd.DataFrame
    notices: tuple[str, ...] = ()


def raw_counts(
    table: anndata.AnnData,
    name: str,
    rows: np.ndarray | None = None,
    choice: str | None = None,
    *,
    reuse: bool = False,
    monitor: RunMonitor = NO_MONITOR,
) -> RawCounts:
    """Return the raw counts of a table, with a notice if they are not in X.

    The counts are those of X if it contains integers only, else those of the first layer in :data:`RAW_LAYERS`, else
    those of ``table.raw``. Several matrices of different counts are refused.

    Parameters
    ----------
    table
        The table.
    name
        Name of the table, for messages.
    rows
        Rows to return, shape (N,); None for all.
    choice
        Matrix to read: "X", "raw" or the name of a layer. None finds it.
    reuse
        Whether the counts may share the arrays of the table, which nobody else uses. Default: they are a copy.
    monitor
        Receives the progress, and cancels.

    Raises
    ------
    InputError
        The table is empty, no matrix contains non-negative, finite integers only, or several do and they differ.
    """
    if table.n_obs == 0 or table.n_vars == 0:
        what = "spots" if table.n_obs == 0 else "genes"
        raise InputError(f"Table '{name}' has no {what}; export the slide again with its counts.")
    if choice is not None:
        return _chosen(table, name, rows, choice, reuse, monitor)
    matrix, error = None, None
    try:
        matrix = _checked(table, "X", name, rows, reuse, monitor)
    except InputError as wrong:
        if "damaged" in str(wrong):
            raise
        error = wrong
    others, wrongs = [], []
    for key in _stored_counts(table):
        try:
            others.append((key, _checked(table, key, name, _sampled(table.n_obs))))
        except InputError as wrong:
            wrongs.append(wrong)
    candidates = [
        *([("X", _checked(table, "X", name, _sampled(table.n_obs)))] if error is None and others else ()),
        *others,
    ]
    _check_agreement(table, name, candidates)
    if matrix is not None:
        return RawCounts(matrix=matrix, var=table.var)
    if not others and wrongs:
        raise InputError(f"{str(wrongs[0]).rstrip('.')}, and X has no raw counts either; export them again.") from None
    if not others:
        raise InputError(
            f"{str(error).rstrip('.')}; put the raw counts in X or in a layer named 'counts' (this table has "
            f"{_layers(table)})."
        ) from None
    key = others[0][0]
    return RawCounts(
        matrix=_checked(table, key, name, rows, reuse, monitor),
        var=_var(table, key),
        notices=(f"X of table '{name}' has no raw counts; those in its {_title(table, key)} were used.",),
    )


def _layer_names(table: anndata.AnnData) -> list[str]:
    """Return the names of the layers; AnnData 0.13 lists X among them, as None."""
    return [str(layer) for layer in table.layers if layer is not None]


def _layers(table: anndata.AnnData) -> str:
    names = ", ".join(map(repr, _layer_names(table)))
    return f"the layers {names}; if one of them has the counts, name it with --counts" if names else "no layers"


def _chosen(
    table: anndata.AnnData, name: str, rows: np.ndarray | None, choice: str, reuse: bool, monitor: RunMonitor
) -> RawCounts:
    """Return the counts of the matrix that the user named."""
    known = ["X", *_layer_names(table), *([_RAW] if table.raw is not None and _RAW not in table.layers else [])]
    if choice not in known:
        raise InputError(f"Table '{name}' has no counts '{choice}'; choose one with --counts: {', '.join(known)}.")
    return RawCounts(matrix=_checked(table, choice, name, rows, reuse, monitor), var=_var(table, choice))


def _stored_counts(table: anndata.AnnData) -> list[str]:
    """Return the names of layers, and "raw", where counts are expected besides X."""
    by_name = {layer.casefold(): layer for layer in _layer_names(table)}
    layers = [by_name[layer] for layer in RAW_LAYERS if layer in by_name]
    return [*layers, *([_RAW] if table.raw is not None and _RAW not in layers else [])]


def _is_raw(table: anndata.AnnData, key: str) -> bool:
    return key == _RAW and key not in table.layers


def _title(table: anndata.AnnData, key: str) -> str:
    return ".raw" if _is_raw(table, key) else "X" if key == "X" else f"layer '{key}'"


def _var(table: anndata.AnnData, key: str) -> pd.DataFrame:
    return table.raw.var if _is_raw(table, key) else table.var


def _checked(
    table: anndata.AnnData,
    key: str,
    name: str,
    rows: np.ndarray | None,
    reuse: bool = False,
    monitor: RunMonitor = NO_MONITOR,
) -> sparse.csr_matrix:
    """Return the counts of X, of a layer or of ``raw``, and refuse values that are none."""
    values = table.raw.X if _is_raw(table, key) else table.X if key == "X" else table.layers[key]
    title = _title(table, key)
    _check_indices(values, f"{title[0].upper()}{title[1:]} of table '{name}'")
    return as_counts(values, f"{title} of table '{name}'", rows, reuse=reuse, monitor=monitor)


def _sampled(n_rows: int) -> np.ndarray:
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, _N_COMPARED)).astype(int))


def _check_agreement(table: anndata.AnnData, name: str, candidates: list[tuple[str, sparse.csr_matrix]]) -> None:
    """Refuse matrices with different counts of the same genes."""
    for key, matrix in candidates[1:]:
        first_key, first = candidates[0]
        one, other = _var(table, first_key).index, _var(table, key).index
        if one.is_unique and other.is_unique:
            shared = one.intersection(other)
            first, matrix = first[:, one.get_indexer(shared)], matrix[:, other.get_indexer(shared)]
        if first.shape == matrix.shape and (first != matrix).nnz:
            names = [k for k, _ in candidates]
            raise ChoiceError(
                f"Table '{name}' has different counts in {' and in '.join(_title(table, k) for k in names)}; "
                f"choose one with --counts: {', '.join(names)}.",
                "counts",
                names,
            )


def as_counts(
    values: Any,
    what: str,
    rows: np.ndarray | None = None,
    *,
    reuse: bool = False,
    monitor: RunMonitor = NO_MONITOR,
) -> sparse.csr_matrix:
    """Convert a matrix of counts to CSR: float32, or float64 if float32 cannot represent a count exactly.

    Parameters
    ----------
    values
        Dense, sparse or lazy matrix.
    what
        Name of the matrix, for messages.
    rows
        Rows to convert, shape (N,); None for all.
    reuse
        Whether the counts may share the arrays of ``values``, if these have the form of counts. Default: they are a
        copy.
    monitor
        Receives the progress, and cancels.

    Raises
    ------
    InputError
        A value is negative, infinite, missing, fractional or above 2**53; the message contains the value.
    """
    if values is None:
        raise InputError(f"{what} is missing; export the slide again with its counts.")
    if hasattr(values, "compute"):
        values = values.compute()
    dtype = np.dtype(values.dtype)
    if dtype.kind not in "biuf":
        raise InputError(f"{what} contains values that are not numbers ({dtype}).")
    # SciPy has no sparse float16.
    matrix = sparse.csr_matrix(values.astype(np.float32) if dtype.itemsize == 2 and dtype.kind == "f" else values)
    rows = np.arange(matrix.shape[0])[slice(None) if rows is None else rows]
    counts = _reused(matrix, rows) if reuse else None
    counts = _converted(matrix, rows, monitor) if counts is None else counts
    if counts is None:
        raise _wrong_values(matrix[rows], what)
    return counts


def _reused(matrix: sparse.csr_matrix, rows: np.ndarray) -> sparse.csr_matrix | None:
    """Return counts with the arrays of a matrix, if it has the form that :func:`_converted` would give it, else None.

    So a large slide is in memory once while it is read, as its store holds it.
    """
    is_whole = np.array_equal(rows, np.arange(matrix.shape[0]))
    if not is_whole or matrix.data.dtype != np.float32 or matrix.indices.dtype != np.int32:
        return None
    if not matrix.has_canonical_format or len(matrix.data) != matrix.indptr[-1]:
        return None
    for values in _value_blocks(matrix.data):
        is_other = values.min() <= 0 or values.max() > _EXACT_FLOAT32
        if is_other or any(is_wrong(values).any() for is_wrong, _ in _NO_COUNTS):
            return None
    counts = sparse.csr_matrix(
        (matrix.data, matrix.indices, matrix.indptr.astype(np.int32, copy=False)), shape=matrix.shape
    )
    counts.has_canonical_format = True
    return counts


def _converted(matrix: sparse.csr_matrix, rows: np.ndarray, monitor: RunMonitor) -> sparse.csr_matrix | None:
    """Convert rows of a matrix to counts, shape (N, G), in blocks; None if a value is none.

    So the only copy of the counts is the one that is returned, whatever the type of the values.
    """
    lengths = np.diff(matrix.indptr)[rows].astype(np.int64)
    ends = np.cumsum(lengths)
    n_entries = int(ends[-1]) if len(ends) else 0
    index_type = np.int32 if max(n_entries, matrix.shape[1]) < np.iinfo(np.int32).max else np.int64
    data, indices = np.empty(n_entries, dtype=np.float32), np.empty(n_entries, dtype=index_type)
    pointer = np.zeros(len(rows) + 1, dtype=index_type)
    filled = first = 0
    while first < len(rows):
        monitor.check_canceled()
        monitor.report_fraction("converting counts", first / len(rows))
        before = int(ends[first] - lengths[first])
        last = max(int(np.searchsorted(ends, before + _BLOCK_VALUES, side="right")), first + 1)
        block = matrix[rows[first:last]]
        block.sum_duplicates()
        if any(is_wrong(block.data).any() for is_wrong, _ in _NO_COUNTS):
            return None
        block.eliminate_zeros()
        if block.data.max(initial=0) > _EXACT_FLOAT32:
            data = data.astype(np.float64, copy=False)
        new = slice(filled, filled + block.nnz)
        data[new], indices[new] = block.data, block.indices
        pointer[first + 1 : last + 1] = filled + block.indptr[1:]
        filled, first = new.stop, last
    data.resize(filled, refcheck=False)
    indices.resize(filled, refcheck=False)
    counts = sparse.csr_matrix((data, indices, pointer), shape=(len(rows), matrix.shape[1]))
    counts.has_canonical_format = True
    return counts


def _wrong_values(matrix: sparse.csr_matrix, what: str) -> InputError:
    """Return the error for a matrix with values that are no counts."""
    matrix.sum_duplicates()
    for is_wrong, text in _NO_COUNTS:
        wrong = next((block for block in _value_blocks(matrix.data) if is_wrong(block).any()), None)
        if wrong is not None:
            if "fractions" in text and _looks_log_normalized(matrix):
                text = "values that look log-normalized, which are not counts"
            values = wrong[is_wrong(wrong)].astype(np.float64)
            if "fractions" in text and np.abs(values - np.rint(values)).max() < _ROUNDING:
                return InputError(
                    f"{what} contains values that are whole numbers only up to rounding errors (such as "
                    f"{values[0]:.10g}); round them if they are counts."
                )
            return InputError(f"{what} contains {text} (such as {values[0]:.4g}).")
    raise AssertionError("a block has a value that is no count")


def _value_blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    return (values[start : start + _BLOCK_VALUES] for start in range(0, len(values), _BLOCK_VALUES))


def _looks_log_normalized(matrix: sparse.csr_matrix) -> bool:
    """Return whether values are log(1 + x) of integers, or of counts that were scaled to one total per row."""
    if matrix.data.max() > _MAX_LOGARITHM:
        return False
    n_rows, starts = matrix.shape[0], matrix.indptr
    totals, all_integers, first = np.zeros(n_rows), True, 0
    while first < n_rows:
        end = max(int(np.searchsorted(starts, starts[first] + _BLOCK_VALUES, side="right")) - 1, first + 1)
        linear = np.expm1(matrix.data[starts[first] : starts[end]].astype(np.float64))
        row = np.repeat(np.arange(end - first), np.diff(starts[first : end + 1]))
        totals[first:end] = np.bincount(row, weights=linear, minlength=end - first)
        all_integers = all_integers and np.allclose(linear, np.rint(linear), rtol=1e-4, atol=1e-3)
        first = end
    totals = totals[totals > 0]
    return bool(all_integers or np.ptp(totals) <= 0.01 * np.median(totals))


def _check_indices(values: Any, what: str) -> None:
    """Refuse a sparse matrix with indices out of bounds: compiled code would read memory outside the matrix."""
    if not hasattr(values, "check_format"):
        return
    try:
        values.check_format(full_check=True)
    except ValueError as error:
        raise InputError(f"{what} is damaged ({error}); restore the slide from a copy.") from error


def unique_names(names: Any, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Convert names to distinct strings without zero characters, and add a number to names that occur more than once.

    Parameters
    ----------
    names
        The names; each is converted to text.
    what
        What is named, in the plural, such as "gene names".

    Returns
    -------
    tuple
        The names as an object array, and a notice if some were changed.

    Raises
    ------
    InputError
        Several names are empty.
    """
    from anndata.utils import make_index_unique

    texts = [str(name) for name in names]
    index = pd.Index([text.replace("\0", "") for text in texts])
    padded = sum("\0" in text for text in texts)
    notices: tuple[str, ...] = ()
    if padded:  # HDF5 and Zarr end a text there
        notices = (f"{padded} {what} had zero characters, which no file can store; they were removed.",)
    if index.is_unique:
        return index.to_numpy(dtype=object), notices
    repeated = index[index.duplicated()].unique()
    if "" in repeated:
        raise InputError(f"{(index == '').sum()} {what} are empty text, so they may be lost; export the slide again.")
    shown = ", ".join(repeated[:3]) + (", ..." if len(repeated) > 3 else "")
    subject = f"1 {what.removesuffix('s')} occurs" if len(repeated) == 1 else f"{len(repeated)} {what} occur"
    return make_index_unique(index).to_numpy(dtype=object), (
        *notices,
        f"{subject} more than once ({shown}); a number was added to each repeated one.",
    )
