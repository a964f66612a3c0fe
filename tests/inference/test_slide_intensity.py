"""Networks get the discs of slides with gaps, and nothing for slides whose spots measure their cells."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from napari_srast.geometry.lattice import detect_lattice
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.slide_intensity import support_of_spots


def job(spot_area: float | None, pixel_size: float | None, **lattice: Any) -> UpsampleJob:
    row, col = (axis.ravel() for axis in np.mgrid[:6, :6])
    shift = 0.5 * (row % 2) if lattice.get("hexagons") else 0.0
    step = np.sqrt(3) / 2 if lattice.get("hexagons") else 1.0
    centers = np.column_stack([col + shift, row * step]) * 100.0
    values = SimpleNamespace(spot_area=spot_area, pixel_size=pixel_size, lattice=detect_lattice(centers))
    return cast("UpsampleJob", values)


def test_support_is_the_stated_disc() -> None:
    support = support_of_spots(job(np.pi / 4 * 55.0**2, 25.0))
    assert support is not None
    assert (support.diameter, support.pixel_size) == (pytest.approx(0.55), pytest.approx(0.25))


def test_hexagons_without_a_diameter_are_visium_and_squares_measure_their_cells() -> None:
    support = support_of_spots(job(None, 50.0, hexagons=True))
    assert support is not None
    assert support.diameter == pytest.approx(0.55, rel=0.01)
    assert support_of_spots(job(None, 50.0)) is None
    assert support_of_spots(job(100.0, None)) is None
