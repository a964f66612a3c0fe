"""Settings of procedural tissues."""

from __future__ import annotations

import pytest

from napari_srast.errors import SettingsError
from napari_srast.simulation.tissues import TissueSettings


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"cells": (10, 100)}, "cells"),
        ({"panel": (50, 20)}, "panel"),
        ({"wide_share": 1.5}, "wide_share"),
        ({"platforms": (0, 0, 0)}, "platforms"),
        ({"fold": (0, 2)}, "fold"),
        ({"entries": 0}, "entries"),
    ],
)
def test_invalid_ranges_are_refused_by_name(values: dict, name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        TissueSettings(**values)
