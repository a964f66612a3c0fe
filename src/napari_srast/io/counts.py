"""Getting raw counts out of a table, or saying why there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast.errors import InputError

if TYPE_CHECKING:
    import anndata

__all__ = ["RAW_LAYERS", "as_counts", "raw_counts", "unique_names"]

RAW_LAYERS = ("counts", "raw_counts", "raw")  # where tools keep counts once X is normalized
_LARGEST_LOGARITHM = 30.0  # e to that is more than was ever counted in a spot
_AT_ONCE = 2**18  # values, where all of them would fill the memory once more
_EXACT_FLOAT32 = 2**24
_EXACT_FLOAT64 = 2**53


def raw_counts(
    table: anndata.AnnData, name: str, rows: np.ndarray | None = None
) -> tuple[sparse.csr_matrix, tuple[str, ...]]:
    """Return the raw counts of a table or of some of its rows, shape (N, G), and notices on where they were found.

    X is taken where it holds whole numbers, else the first of the layers :data:`RAW_LAYERS` that does.

    Raises
    ------
    InputError
        The table is empty, or holds negative, infinite, missing or fractional values only.
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
                    raise InputError(f"{str(wrong).rstrip('.')}, and X holds none either; export them again.") from None
                return counts, (f"X of table '{name}' holds no raw counts; those of its layer '{layer}' were used.",)
        raise InputError(
            f"{str(error).rstrip('.')}; put the raw counts in X or in a layer named 'counts' (this table has "
            f"{'the layers ' + ', '.join(map(repr, table.layers)) if table.layers else 'no layers'})."
        ) from None


def as_counts(values: Any, what: str, rows: np.ndarray | None = None) -> sparse.csr_matrix:
    """Return values, or some rows of them, as a CSR matrix of counts.

    It is float32, or float64 where a count would not fit that exactly.

    Raises
    ------
    InputError
        A value is negative, infinite, missing, not whole or above 2**53; the message names ``what`` and the value.
    """
    if values is None:
        raise InputError(f"{what} is empty.")
    if hasattr(values, "compute"):
        values = values.compute()
    kind = np.dtype(values.dtype)
    if kind.kind not in "biuf":
        raise InputError(f"{what} holds values that are not numbers ({kind}).")
    # SciPy knows no halves.
    matrix = sparse.csr_matrix(values.astype(np.float32) if kind.itemsize == 2 and kind.kind == "f" else values)
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
            if "fractions" in text and _look_logarithmic(matrix):
                text = "values that look log-normalized, which are not counts"
            raise InputError(f"{what} holds {text} (such as {data[wrong][0]:.4g}).")
    exact = data.max(initial=0) <= _EXACT_FLOAT32
    matrix = matrix.astype(np.float32 if exact else np.float64)
    matrix.eliminate_zeros()
    return matrix


def _look_logarithmic(matrix: sparse.csr_matrix) -> bool:
    """Tell whether values are logarithms, log(1 + x), of counts or of counts that were brought to one depth."""
    if matrix.data.max() > _LARGEST_LOGARITHM:
        return False
    n_rows, starts = matrix.shape[0], matrix.indptr
    depths, whole, first = np.zeros(n_rows), True, 0
    while first < n_rows:
        end = max(int(np.searchsorted(starts, starts[first] + _AT_ONCE, side="right")) - 1, first + 1)
        undone = np.expm1(matrix.data[starts[first] : starts[end]].astype(np.float64))
        row = np.repeat(np.arange(end - first), np.diff(starts[first : end + 1]))
        depths[first:end] = np.bincount(row, weights=undone, minlength=end - first)
        whole = whole and np.allclose(undone, np.rint(undone), rtol=1e-4, atol=1e-3)
        first = end
    depths = depths[depths > 0]
    return bool(whole or np.ptp(depths) <= 0.01 * np.median(depths))


def _check_indices(values: Any, what: str) -> None:
    """Refuse a sparse matrix whose indices point outside it: compiled code would follow them into foreign memory."""
    if not hasattr(values, "check_format"):
        return
    try:
        values.check_format(full_check=True)
    except ValueError as error:
        raise InputError(f"{what} is damaged ({error}); restore the slide from a copy.") from error


def unique_names(names: Any, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return names as an object array of distinct strings, with a notice where some had to be told apart.

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
        f"{len(repeated)} {what} occur more than once ({shown}); a number was added to tell them apart.",
    )
