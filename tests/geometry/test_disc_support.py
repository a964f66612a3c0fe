"""The measured fraction of a pixel is its common area with the disc of its spot."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.geometry.disc_support import DiscSupport


@pytest.mark.parametrize(("diameter", "pixel_size"), [(0.55, 1 / 6), (0.3, 0.5), (0.9, 1 / 12), (0.2, 0.5)])
def test_fraction_is_the_common_area_of_two_discs(diameter: float, pixel_size: float) -> None:
    support = DiscSupport(diameter=diameter, pixel_size=pixel_size)
    offset = np.linspace(0, 0.8, 23)
    radius = pixel_size / np.sqrt(np.pi)
    grid = (np.arange(400) + 0.5) / 200 - 1
    x, y = np.meshgrid(grid, grid)
    in_pixel = np.hypot(x, y) < 1
    x, y = x[in_pixel] * radius, y[in_pixel] * radius
    expected = [np.mean(np.hypot(x + d, y) < diameter / 2) for d in offset]
    np.testing.assert_allclose(support.measured_fraction(offset), expected, atol=0.01)


def test_fractions_sum_to_the_area_of_the_disc() -> None:
    support = DiscSupport(diameter=0.55, pixel_size=0.1)
    x, y = np.meshgrid((np.arange(10) - 4.5) / 10, (np.arange(10) - 4.5) / 10)
    area = support.measured_fraction(np.hypot(x, y).ravel()).sum() * support.pixel_size**2
    assert area == pytest.approx(np.pi / 4 * 0.55**2, rel=0.03)


def test_spots_without_gaps_measure_whole_cells() -> None:
    assert DiscSupport.of_area(100.0**2, 100.0, 50.0) is None
    disc = DiscSupport.of_area(np.pi / 4 * 55.0**2, 100.0, 25.0)
    assert disc is not None
    assert (disc.diameter, disc.pixel_size) == (pytest.approx(0.55), pytest.approx(0.25))
