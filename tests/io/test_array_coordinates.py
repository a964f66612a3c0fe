"""Positions that are rows and columns of an array."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_srast.errors import InputError
from napari_srast.io.array_coordinates import array_columns, check_no_array_coordinates, find_array_coordinates


def _hexagonal(n_rows: int = 10, n_cols: int = 10) -> np.ndarray:
    """Return (column, row) of a hexagonal array, of which only every second combination exists."""
    row, col = (a.ravel() for a in np.mgrid[:n_rows, :n_cols])
    return np.column_stack([2 * col + row % 2, row]).astype(float)


def _names(n_spots: int) -> pd.DataFrame:
    return pd.DataFrame(index=[f"spot{i}" for i in range(n_spots)])


def test_columns_and_names_of_bins_state_the_array() -> None:
    obs = pd.DataFrame({"array_row": ["3", "4"], "array_col": [7, 8]}, index=["a", "b"])
    np.testing.assert_array_equal(array_columns(obs), [[7, 3], [8, 4]])
    bins = pd.DataFrame(index=["s_008um_00012_00034-1", "s_008um_00013_00035-1"])
    np.testing.assert_array_equal(array_columns(bins), [[34, 12], [35, 13]])
    assert array_columns(_names(2)) is None
    assert array_columns(obs.assign(array_row=["3", "lost"])) is None


def test_hexagonal_array_is_recognized_without_columns() -> None:
    points = _hexagonal()
    found = find_array_coordinates(points, _names(len(points)))
    assert found is not None
    assert (found.lattice, found.indices) == ("hex", None)  # which of the two is the column is unknown
    with pytest.raises(InputError, match="rows and columns of a hexagonal array"):
        check_no_array_coordinates(points, _names(len(points)), "The positions")


def test_columns_of_the_table_say_which_axis_is_the_column() -> None:
    points = _hexagonal()
    obs = _names(len(points)).assign(array_col=points[:, 0], array_row=points[:, 1])
    for given in (points, points[:, ::-1]):
        found = find_array_coordinates(given, obs)
        assert found is not None
        np.testing.assert_array_equal(found.indices, points)


@pytest.mark.parametrize(("n_rows", "n_cols"), [(78, 64), (60, 64), (128, 112), (90, 112)])
def test_longer_axis_of_visium_arrays_is_the_column(n_rows: int, n_cols: int) -> None:
    """The arrays of 6.5 mm have 78 rows and 128 columns, those of 11 mm 128 rows and 224 columns."""
    points = _hexagonal(n_rows, n_cols)
    names = ["".join("ACGT"[(i >> 2 * k) & 3] for k in range(16)) + "-1" for i in range(len(points))]
    for given in (points, points[:, ::-1]):
        found = find_array_coordinates(given, pd.DataFrame(index=names))
        assert found is not None
        np.testing.assert_array_equal(found.indices, points)


@pytest.mark.parametrize("change", [lambda p: p * 100.5, lambda p: p + 0.25, lambda p: p[:3], lambda p: p * [1, 2]])
def test_positions_are_not_mistaken_for_an_array(change) -> None:
    points = change(_hexagonal())
    assert find_array_coordinates(points, _names(len(points))) is None
    check_no_array_coordinates(points, _names(len(points)), "The positions")
