"""Extract raw counts from a table, or report why it contains none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast.errors import InputError

if TYPE_CHECKING:
    import anndata

__all__ = ["RAW_LAYERS", "as_counts", "raw_counts", "unique_names"]

RAW_LAYERS = ("counts", "raw_counts", "raw")
"""Layers where tools store the counts after they normalized X, in the order in which they are tried."""
_MAX_LOGARITHM = 30.0  # exp(30) exceeds the counts of any spot
_BLOCK_VALUES = 2**18  # processed at a time, so that no second copy of all values is in memory
_EXACT_FLOAT32 = 2**24
_EXACT_FLOAT64 = 2**53


def raw_counts(
    table: anndata.AnnData, name: str, rows: np.ndarray | None = None
) -> tuple[sparse.csr_matrix, tuple[str, ...]]:
    """Return the raw counts of a table, and a notice if they are not in X.

    The counts are those of X if it contains integers only, else those of the first layer in :data:`RAW_LAYERS`.

    Parameters
    ----------
    table
        The table.
    name
        Name of the table, for messages.
    rows
        Rows to return, shape (N,); None for all.

    Returns
    -------
    tuple
        Counts, shape (N, G), and notices.

    Raises
    ------
    InputError
        The table is empty, or neither X nor the layer contains non-negative, finite integers only.
    """
    if table.n_obs == 0 or table.n_vars == 0:
        what = "spots" if table.n_obs == 0 else "genes"
        raise InputError(f"Table '{name}' has no {what}; export the slide again with its counts.")
    _check_indices(table.X, f"X of table '{name}'")
    try:
        return as_counts(table.X, f"X of table '{name}'", rows), ()
    except InputError as error:
        for layer in RAW_LAYERS:
            if layer in table.layers:
                _check_indices(table.layers[layer], f"Layer '{layer}' of table '{name}'")
                try:
                    counts = as_counts(table.layers[layer], f"layer '{layer}' of table '{name}'", rows)
                except InputError as wrong:
                    raise InputError(
                        f"{str(wrong).rstrip('.')}, and X has no raw counts either; export them again."
                    ) from None
                return counts, (f"X of table '{name}' has no raw counts; those in its layer '{layer}' were used.",)
        raise InputError(
            f"{str(error).rstrip('.')}; put the raw counts in X or in a layer named 'counts' (this table has "
            f"{'the layers ' + ', '.join(map(repr, table.layers)) if table.layers else 'no layers'})."
        ) from None


def as_counts(values: Any, what: str, rows: np.ndarray | None = None) -> sparse.csr_matrix:
    """Convert a matrix of counts to CSR: float32, or float64 if float32 cannot represent a count exactly.

    Parameters
    ----------
    values
        Dense, sparse or lazy matrix.
    what
        Name of the matrix, for messages.
    rows
        Rows to convert, shape (N,); None for all.

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
    matrix = matrix.copy() if rows is None else matrix[rows]
    matrix.sum_duplicates()
    data = matrix.data
    for wrong, text in (
        (~np.isfinite(data), "missing or infinite values, which are not counts"),
        (data < 0, "negative values, so it is scaled data and not counts"),
        (data != np.rint(data), "fractions, so it is normalized data and not counts"),
        (data > _EXACT_FLOAT64, "values too large to be counts"),
    ):
        if wrong.any():
            if "fractions" in text and _looks_log_normalized(matrix):
                text = "values that look log-normalized, which are not counts"
            raise InputError(f"{what} contains {text} (such as {data[wrong][0]:.4g}).")
    exact = data.max(initial=0) <= _EXACT_FLOAT32
    matrix = matrix.astype(np.float32 if exact else np.float64)
    matrix.eliminate_zeros()
    return matrix


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
    """Convert names to distinct strings, and add a number to names that occur more than once.

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

    index = pd.Index([str(name) for name in names])
    if index.is_unique:
        return index.to_numpy(dtype=object), ()
    repeated = index[index.duplicated()].unique()
    if "" in repeated:
        raise InputError(f"{(index == '').sum()} {what} are empty text, so they may be lost; export the slide again.")
    shown = ", ".join(repeated[:3]) + (", ..." if len(repeated) > 3 else "")
    return make_index_unique(index).to_numpy(dtype=object), (
        f"{len(repeated)} {what} occur more than once ({shown}); a number was added to each repeated one.",
    )
