"""Find the positions of spots in a table: in ``obsm["spatial"]``, or where other tools put them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api import types

from napari_srast.errors import InputError
from napari_srast.io.array_coordinates import named_positions

if TYPE_CHECKING:
    import anndata

__all__ = ["coordinates", "spot_positions"]

_SPATIAL = "spatial"
_OTHER_KEYS = ("x_spatial", "spatial_coordinates", "spatial_coords", "spatial_coord", "spatialcoords")
_AXES = (  # names of columns with x and with y
    ("x", "y"),
    ("pxl_col_in_fullres", "pxl_row_in_fullres"),
    ("imagecol", "imagerow"),
    ("x_centroid", "y_centroid"),
    ("x_coord", "y_coord"),
    ("x_location", "y_location"),
    ("sdimx", "sdimy"),
    ("spatial_1", "spatial_2"),
    ("xcoord", "ycoord"),
    ("coor_x", "coor_y"),
    ("center_x", "center_y"),
    ("centerx_global_px", "centery_global_px"),
)
_MAX_NAMED = 4
_MAX_AXES = 3
_FRAME_AXES = (*_AXES, ("col", "row"), ("array_col", "array_row"))


def spot_positions(table: anndata.AnnData, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the positions of the spots, shape (N, 2) or more columns, and a notice if they are in an unusual place.

    Parameters
    ----------
    table
        The table.
    name
        Name of the table, for messages.

    Raises
    ------
    InputError
        There are no positions, or they are not numbers.
    """
    if _SPATIAL in table.obsm:
        return coordinates(table, _SPATIAL, name), ()
    folded = {str(key).casefold(): key for key in table.obsm}
    key = next((folded[key] for key in (_SPATIAL, *_OTHER_KEYS) if key in folded), None)
    if key is not None:
        return coordinates(table, key, name), (
            f"'{name}' has no obsm['spatial']; the positions were read from obsm['{key}'].",
        )
    numbers = [column for column in table.obs if types.is_numeric_dtype(table.obs[column])]
    axes = _find_axes(numbers, _AXES)
    if axes is None:
        axes = _find_axes((column for column in table.obs if _is_numbers_as_text(table.obs[column])), _AXES)
    if axes is None:
        named = named_positions([str(label) for label in table.obs_names])
        if named is None:
            raise InputError(_missing(table, name, numbers))
        return named, (
            f"'{name}' has no obsm['spatial']; the positions (x, y), in array units, were read from the names of the "
            f"spots (such as '{table.obs_names[0]}').",
        )
    points = table.obs[list(axes)].apply(_as_numbers).to_numpy(dtype=float)
    _check_finite(points, f"The columns '{axes[0]}' and '{axes[1]}' of obs of '{name}'")
    return points, (
        f"'{name}' has no obsm['spatial']; the positions (x, y) were read from the columns '{axes[0]}' and "
        f"'{axes[1]}' of obs.",
    )


def coordinates(table: anndata.AnnData, key: str, name: str) -> np.ndarray:
    """Return the coordinates of the spots in ``obsm[key]``, shape (N, 2) or more columns; missing ones are NaN.

    The names of the columns, if there are any, decide which one is x and which one is y.

    Parameters
    ----------
    table
        The table.
    key
        Key in ``obsm``.
    name
        Name of the table, for messages.

    Raises
    ------
    InputError
        There are no coordinates, or they are not numbers.
    """
    if key not in table.obsm:
        raise InputError(f"'{name}' has no obsm['{key}']; put the spot centers there, one row (x, y) for each spot.")
    values = table.obsm[key]
    if isinstance(values, pd.DataFrame):
        axes = _find_axes(values.columns, _FRAME_AXES)
        values = (values if axes is None else values[list(axes)]).apply(_as_numbers)
    try:
        points = np.asarray(values)
        points = points.astype(float, casting="same_kind" if points.dtype.kind == "c" else "unsafe")
    except (TypeError, ValueError):  # text, complex numbers, a sparse matrix
        points = np.empty(0)
    _check_finite(points, f"obsm['{key}'] of '{name}'")
    if points.shape[1] > _MAX_AXES:
        raise InputError(
            f"obsm['{key}'] of '{name}' has {points.shape[1]} columns, so which of them are x and y is unknown; keep "
            "these two, or name the columns x and y in a data frame."
        )
    return points


def _is_numbers_as_text(column: pd.Series) -> bool:
    """Return whether a column of text or categories contains nothing but numbers."""
    known = column[column.notna()]
    first = known.iloc[:1].map(str)
    return len(known) > 0 and bool(_as_numbers(first).notna().all() and _as_numbers(known).notna().all())


def _as_numbers(column: pd.Series) -> pd.Series:
    """Return a column of numbers, or of text with numbers; missing ones, and other text, are NaN."""
    return pd.to_numeric(column.astype(object), errors="coerce").astype(float)


def _missing(table: anndata.AnnData, name: str, numbers: list[Any]) -> str:
    """Return the message for a table without positions: what it has instead, and the next step."""
    if _SPATIAL in table.varm or not {"array_row", "array_col", "in_tissue"}.isdisjoint(table.var):
        return (
            f"'{name}' has its spots in columns and its genes in rows; transpose it (table.T), and put the spot "
            "centers into obsm['spatial']."
        )
    parts = (("obsm", list(table.obsm)), ("columns of numbers in obs", numbers))
    others = "; ".join(f"{what}: {', '.join(map(str, keys[:_MAX_NAMED]))}" for what, keys in parts if keys)
    return (
        f"'{name}' has no obsm['spatial']; put the spot centers there, one row (x, y) for each spot"
        f"{f' (the table has {others})' if others else ''}."
    )


def _check_finite(points: np.ndarray, source: str) -> None:
    if points.ndim != 2 or points.shape[1] < 2 or not np.isfinite(points[:, :2]).all(axis=1).any():
        raise InputError(f"{source} must contain finite coordinates; write one row (x, y) for each spot.")


def _find_axes(columns: Iterable[Any], axes: tuple[tuple[str, str], ...]) -> tuple[Any, Any] | None:
    """Return the columns with x and y, by their names; None if there are none."""
    folded = {str(column).casefold(): column for column in columns}
    return next(((folded[x], folded[y]) for x, y in axes if x in folded and y in folded), None)
