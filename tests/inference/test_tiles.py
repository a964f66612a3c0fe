"""Tests of tiles: they cover every pixel once, with enough context for the numbers of the whole slide."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.tiling import use_small_tiles

from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.tiles import Tiling
from napari_srast.interpolation import Interpolator
from napari_srast.interpolation.gaussian_process import GaussianProcessGrid


def layout_of(n_rows: int, n_columns: int, factor: float = 2.0) -> SpotPixelMap:
    row, column = (a.ravel() for a in np.mgrid[:n_rows, :n_columns])
    centers = 100.0 * np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(0.75)])
    return SpotPixelMap.of_raster(centers, make_raster(centers, factor=factor))


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_tiles(monkeypatch, max_pixels=300)


@pytest.mark.usefixtures("small_tiles")
def test_every_target_pixel_is_in_one_tile() -> None:
    layout = layout_of(20, 20)
    target_pixels = layout.pixels[:, 0] < 1200
    target_pixels = np.isin(layout.parent, np.unique(layout.parent[target_pixels]))
    tiling = Tiling(layout, target_pixels)
    all_tiles = [tiling.tile(index) for index in range(len(tiling.groups))]
    assert len(all_tiles) > 3
    np.testing.assert_array_equal(
        np.sort(np.concatenate([one.rows for one in all_tiles])), np.arange(target_pixels.sum())
    )
    for index, tile in enumerate(all_tiles):
        assert tiling.n_pixels[index] == tile.layout.n_pixels == len(tile.rows)
        expected_pixels = np.flatnonzero(target_pixels)[tile.rows]
        np.testing.assert_array_equal(tile.spots[tile.layout.parent], layout.parent[expected_pixels])
        np.testing.assert_array_equal(tile.layout.pixels, layout.pixels[expected_pixels])
        np.testing.assert_array_equal(tile.halo.extended.pixels[: len(expected_pixels)], tile.layout.pixels)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("method", ["bilinear", "gp", "pycnophylactic"])
@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_tiles_have_no_seams(method: str, factor: float) -> None:
    layout = layout_of(20, 20, factor)
    fields = np.random.default_rng(0).poisson(5, size=(400, 6)).astype(float)
    whole = Interpolator(layout).ratios(method, fields)
    process = GaussianProcessGrid(layout.spots, layout.pitch).fit(fields)
    tiling = Tiling(layout, np.ones(layout.n_pixels, dtype=bool))
    for index in range(len(tiling.groups)):
        tile = tiling.tile(index)
        part = Interpolator(tile.layout, tile.halo)
        ratios = part.ratios(method, fields[tile.spots], process=process if method == "gp" else None)
        np.testing.assert_allclose(ratios, whole[tile.rows], atol=5e-4)


@pytest.mark.usefixtures("small_tiles")
def test_halves_share_the_pixels_of_a_tile() -> None:
    tiling = Tiling(layout_of(20, 20), np.ones(layout_of(20, 20).n_pixels, dtype=bool))
    tile = tiling.tile(1)
    halves = tile.halves()
    assert len(halves) == 2
    assert len({tile.index, *(half.index for half in halves)}) == 3  # it seeds the samples
    np.testing.assert_array_equal(np.sort(np.concatenate([h.rows for h in halves])), np.sort(tile.rows))
    np.testing.assert_array_equal(np.union1d(halves[0].core_spots, halves[1].core_spots), tile.core_spots)
    for half in halves:
        assert half.halo.extended.n_pixels == tile.halo.extended.n_pixels
        np.testing.assert_array_equal(half.halo.extended.pixels[: half.layout.n_pixels], half.layout.pixels)


def test_tile_size_is_limited() -> None:
    layout = layout_of(12, 12, 16.0)
    tiling = Tiling(layout, np.ones(layout.n_pixels, dtype=bool))
    assert max(tiling.n_pixels) <= 65_536
    small = layout_of(12, 12)
    assert len(Tiling(small, np.ones(small.n_pixels, dtype=bool)).groups) == 1
