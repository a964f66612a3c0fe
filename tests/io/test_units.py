"""Names of length units."""

from __future__ import annotations

import pytest

from napari_srast.io.units import parse_unit


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("um", "um"),
        ("\u00b5m", "um"),  # micro sign
        ("\u03bcm", "um"),  # Greek letter
        (" Microns ", "um"),
        ("PIXEL", "px"),
        ("array units", "array units"),
        ("mm", None),
        ("global", None),
        ("", None),
    ],
)
def test_unit_is_recognized_by_its_names(name: str, unit: str | None) -> None:
    assert parse_unit(name) == unit
