"""Recognize positions that are array coordinates: whole numbers of rows and columns instead of lengths.

Of a hexagonal array, only every second combination of row and column exists. Rows and columns are steps of different
lengths there, so that array coordinates taken as positions turn hexagons into diamonds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from napari_srast.errors import InputError

__all__ = [
    "BIN_NAME",
    "DEFAULT_DIAMETER",
    "VISIUM_SPOT_UM",
    "VISIUM_STEPS_UM",
    "ArrayCoordinates",
    "array_columns",
    "check_no_array_coordinates",
    "find_array_coordinates",
    "named_positions",
    "possible_array_columns",
]

VISIUM_STEPS_UM = (50.0, 50.0 * np.sqrt(3))
"""Length of a column and of a row of a Visium array in micrometers, by the design of the slides."""
VISIUM_SPOT_UM = 55.0
"""Diameter of a Visium spot in micrometers, by the design of the slides; Space Ranger states a larger, nominal one."""
DEFAULT_DIAMETER = 0.55
"""Diameter of round spots that is assumed if nothing states it, in pitches: that of Visium, 55 um of 100 um."""
BIN_NAME = re.compile(r"(?:.*[_-])?s_(\d+)um_(\d+)_(\d+)(?:-\d+)?(?:[_-].*)?")
"""Name of a bin of Visium HD: its size in micrometers, its row and its column; also with the name of its sample."""
_SPOT_NAME = re.compile(r"(?:.*[_-])?X?(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)(?:[_-].*)?")
_ARRAY_COLUMNS = (("array_col", "array_row"), ("array.col", "array.row"))
_ANY_COLUMNS = (*_ARRAY_COLUMNS, ("col", "row"))  # the last ones may be anything else
_MIN_SPOTS = 8
_MAX_INDEX = 1000  # of rows and columns of hexagonal arrays
_LAST_ROW, _LAST_COLUMN = 77, 127  # of the 6.5 mm array of Visium; the 11 mm array has rows up to 127
_BARCODE = re.compile(r"[ACGT]{14,20}(-\d+)?([-_].*)?")
_N_NAMES = 20  # names that are looked at
_ROUNDING = 0.01  # relative


@dataclass(frozen=True, eq=False)
class ArrayCoordinates:
    """Array coordinates that a table gives as positions.

    Parameters
    ----------
    lattice
        "hex" or "square".
    indices
        Column and row of each spot, shape (N, 2); None if it is unknown which of the two is the column.
    """

    lattice: Literal["hex", "square"]
    indices: np.ndarray | None


def array_columns(obs: pd.DataFrame) -> np.ndarray | None:
    """Return column and row of each spot, shape (N, 2), from ``array_col`` and ``array_row`` or from names of bins.

    Parameters
    ----------
    obs
        Columns of the spots.

    Returns
    -------
    np.ndarray or None
        None if the table has neither, or values that are not finite.
    """
    stated, indices = _number_columns(obs, _ARRAY_COLUMNS)
    if stated:
        return indices
    names = obs.index.astype(str)
    if len(names) == 0 or BIN_NAME.fullmatch(names[0]) is None:
        return None
    parts = names.str.extract(BIN_NAME).to_numpy(dtype=float)
    return parts[:, [2, 1]] if np.isfinite(parts).all() else None


def possible_array_columns(obs: pd.DataFrame) -> np.ndarray | None:
    """Return column and row of each spot like :func:`array_columns`, also from ``col`` and ``row``.

    These may be anything else; Seurat calls the columns and rows of Visium so.
    """
    stated = array_columns(obs)
    return _number_columns(obs, _ANY_COLUMNS)[1] if stated is None else stated


def _number_columns(obs: pd.DataFrame, pairs: tuple[tuple[str, str], ...]) -> tuple[bool, np.ndarray | None]:
    """Return whether there are columns of one of the names, and their numbers, shape (N, 2), if they state places."""
    folded = {str(column).casefold(): column for column in reversed(obs.columns)}
    pair = next((pair for pair in pairs if set(pair) <= set(folded)), None)
    if pair is None:
        return False, None
    columns = obs[[folded[name] for name in pair]]
    indices = columns.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    return True, indices if np.isfinite(indices).all() and np.ptp(indices, axis=0).any() else None


def named_positions(names: Sequence[str]) -> np.ndarray | None:
    """Return the positions (x, y) that the names of spots state, such as "12x7" of Spatial Transcriptomics.

    Parameters
    ----------
    names
        Names of the spots.

    Returns
    -------
    np.ndarray or None
        Positions in steps of the array, shape (N, 2); None if a name states none.
    """
    if len(names) == 0 or _SPOT_NAME.fullmatch(str(names[0])) is None:
        return None
    matches = [_SPOT_NAME.fullmatch(str(name)) for name in names]
    return None if None in matches else np.array([[float(m[1]), float(m[2])] for m in matches if m is not None])


def find_array_coordinates(points: np.ndarray, obs: pd.DataFrame) -> ArrayCoordinates | None:
    """Return array coordinates that are given as positions, or None if the positions are something else.

    Parameters
    ----------
    points
        Positions (x, y), shape (N, 2).
    obs
        Columns of the spots.
    """
    stated = possible_array_columns(obs)
    found = None if stated is None else _stated_as_positions(points, stated, obs)
    if found is not None:
        return found
    if len(points) < _MIN_SPOTS or np.abs(points).max() > _MAX_INDEX or not np.array_equal(points, np.rint(points)):
        return None
    if not _is_hexagonal(points):
        return None
    if not _has_visium_barcodes(obs):
        return ArrayCoordinates("hex", None)
    last = points.max(axis=0)
    for last_row in (_LAST_COLUMN, _LAST_ROW):  # a larger index than that of any row is one of a column
        long = np.flatnonzero(last > last_row)
        if len(long) == 1:
            return ArrayCoordinates("hex", points if long[0] == 0 else points[:, ::-1])
    return ArrayCoordinates("hex", None)


def _stated_as_positions(points: np.ndarray, stated: np.ndarray, obs: pd.DataFrame) -> ArrayCoordinates | None:
    """Return the stated columns and rows if the positions repeat them: swapped, shifted, mirrored or in other steps.

    On a hexagonal array the true positions have rows that are longer than columns by the root of three.
    """
    if len(points) < 2:
        return None
    for indices in (stated, stated[:, ::-1]):
        from_middle, places = indices - indices.mean(axis=0), points - points.mean(axis=0)
        extent = (from_middle**2).sum(axis=0)
        if not extent.all():
            continue
        steps = (from_middle * places).sum(axis=0) / extent
        if not np.allclose(from_middle * steps, places, rtol=0, atol=_ROUNDING * np.abs(places).max()):
            continue
        is_hex = _is_hexagonal(stated) or (_has_visium_barcodes(obs) and np.ptp(stated.sum(axis=1) % 2) == 0)
        across, down = np.abs(steps)
        is_diamond = is_hex and np.isclose(across, down, rtol=_ROUNDING)
        if not is_diamond and not np.array_equal(points, indices):
            return None
        return ArrayCoordinates("hex" if is_hex else "square", stated)
    return None


def check_no_array_coordinates(points: np.ndarray, obs: pd.DataFrame, what: str) -> None:
    """Refuse positions that are coordinates of a hexagonal array.

    Parameters
    ----------
    points
        Positions (x, y), shape (N, 2).
    obs
        Columns of the spots.
    what
        Name of the positions, for the message.

    Raises
    ------
    InputError
        The positions are rows and columns of a hexagonal array.
    """
    found = find_array_coordinates(points, obs)
    if found is not None and found.lattice == "hex":
        raise InputError(
            f"{what} are rows and columns of a hexagonal array (whole numbers with an even sum), which would turn its "
            "hexagons into diamonds; replace them by positions in um or pixels, or, for a Visium slide, add the "
            "columns array_row and array_col to the .h5ad table and import it. If they are positions on a square "
            "array, set uns['meta']['coord_unit'] = 'array units' in the .h5ad table and import it."
        )


def _is_hexagonal(indices: np.ndarray) -> bool:
    """Return whether only every second combination of row and column occurs, with steps of one row."""
    parity = np.mod(indices.sum(axis=1), 2)
    rows = [np.unique(np.diff(np.unique(axis))) for axis in indices.T]
    return bool(np.ptp(parity) == 0 and all(len(steps) and steps.min() == 1 for steps in rows))


def _has_visium_barcodes(obs: pd.DataFrame) -> bool:
    return all(_BARCODE.fullmatch(str(name)) is not None for name in obs.index[:_N_NAMES])
