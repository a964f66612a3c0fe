"""Units cover everything once, and know enough of the rest to be computed as it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference import tiles
from napari_srast.inference.tiles import Tiling
from napari_srast.interpolation import Interpolator
from napari_srast.interpolation.gaussian_process import GaussianProcessGrid


def layout_of(n_rows: int, n_columns: int, factor: float = 2.0) -> SpotPixelMap:
    row, column = (a.ravel() for a in np.mgrid[:n_rows, :n_columns])
    centers = 100.0 * np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(0.75)])
    return SpotPixelMap.of_raster(centers, make_raster(centers, factor=factor))


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_MAX_PIXELS", 300)
    monkeypatch.setattr(tiles, "_MIN_SPOTS", 1)


@pytest.mark.usefixtures("small_units")
def test_every_wanted_pixel_lies_in_one_unit() -> None:
    layout = layout_of(20, 20)
    inner = layout.pixels[:, 0] < 1200
    inner = np.isin(layout.parent, np.unique(layout.parent[inner]))
    cutter = Tiling(layout, inner)
    made = [cutter.unit(index) for index in range(len(cutter.groups))]
    assert len(made) > 3
    np.testing.assert_array_equal(np.sort(np.concatenate([u.rows for u in made])), np.arange(inner.sum()))
    for index, unit in enumerate(made):
        assert cutter.n_pixels[index] == unit.layout.n_pixels == len(unit.rows)
        wanted = np.flatnonzero(inner)[unit.rows]
        np.testing.assert_array_equal(unit.spots[unit.layout.parent], layout.parent[wanted])
        np.testing.assert_array_equal(unit.layout.pixels, layout.pixels[wanted])
        np.testing.assert_array_equal(unit.surroundings.extended.pixels[: len(wanted)], unit.layout.pixels)


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("method", ["bilinear", "gp", "pycnophylactic"])
@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_no_seam_between_units(method: str, factor: float) -> None:
    layout = layout_of(20, 20, factor)
    fields = np.random.default_rng(0).poisson(5, size=(400, 6)).astype(float)
    whole = Interpolator(layout).ratios(method, fields)
    process = GaussianProcessGrid(layout.spots, layout.pitch).fit(fields)
    cutter = Tiling(layout, np.ones(layout.n_pixels, dtype=bool))
    for index in range(len(cutter.groups)):
        unit = cutter.unit(index)
        part = Interpolator(unit.layout, unit.surroundings)
        ratios = part.ratios(method, fields[unit.spots], process=process if method == "gp" else None)
        np.testing.assert_allclose(ratios, whole[unit.rows], atol=5e-4)


@pytest.mark.usefixtures("small_units")
def test_halves_share_the_pixels_of_a_unit() -> None:
    cutter = Tiling(layout_of(20, 20), np.ones(layout_of(20, 20).n_pixels, dtype=bool))
    unit = cutter.unit(1)
    halves = unit.halves()
    assert len(halves) == 2
    assert len({unit.index, *(half.index for half in halves)}) == 3  # or they would draw the same random numbers
    np.testing.assert_array_equal(np.sort(np.concatenate([h.rows for h in halves])), np.sort(unit.rows))
    np.testing.assert_array_equal(np.union1d(halves[0].own, halves[1].own), unit.own)
    for half in halves:
        assert half.surroundings.extended.n_pixels == unit.surroundings.extended.n_pixels
        np.testing.assert_array_equal(half.surroundings.extended.pixels[: half.layout.n_pixels], half.layout.pixels)


def test_units_stay_small_for_large_factors_and_whole_for_small_slides() -> None:
    layout = layout_of(12, 12, 16.0)
    cutter = Tiling(layout, np.ones(layout.n_pixels, dtype=bool))
    assert max(cutter.n_pixels) <= 65_536
    small = layout_of(12, 12)
    assert len(Tiling(small, np.ones(small.n_pixels, dtype=bool)).groups) == 1
