"""Test the expression of whole runs: units, tiles and regions, borders of spots, and the counts next to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiling import use_small_tiles

from napari_srast.api import upsample
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.expression_tiles import ExpressionSink
from napari_srast.models.intensity import FittedIntensity, PixelIntensity

SETTINGS = {"factor": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def result(hex_slide: Slide) -> UpsampleResult:
    return upsample(hex_slide, **SETTINGS)


def _expression(result: UpsampleResult) -> np.ndarray:
    assert result.expression is not None
    return result.expression.toarray()


def test_expression_has_the_unit_of_the_counts(result: UpsampleResult) -> None:
    total, expected = _expression(result).sum(axis=0), np.asarray(result.counts.sum(axis=0)).ravel()
    measured = expected > 0
    np.testing.assert_allclose(total[measured], expected[measured], rtol=0.15)
    assert total[~measured].max() < 0.05 * expected[measured].min()


def test_counts_do_not_depend_on_expression(hex_slide: Slide, result: UpsampleResult) -> None:
    without = upsample(hex_slide, expression="none", **SETTINGS)
    assert without.expression is None
    assert (without.counts != result.counts).nnz == 0


def test_only_the_chosen_genes_have_expression(hex_slide: Slide, result: UpsampleResult) -> None:
    chosen = upsample(hex_slide, expression=["Gene4", "Gene1"], **SETTINGS)
    np.testing.assert_array_equal(chosen.expression_columns, [1, 4])
    expression = _expression(chosen)
    np.testing.assert_allclose(expression[:, [1, 4]], _expression(result)[:, [1, 4]], rtol=1e-5)
    assert not expression[:, [0, 2, 3, 5]].any()


def test_neither_region_nor_tiles_change_the_expression(hex_slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = upsample(hex_slide, method="gp", **SETTINGS)
    corner = Region.from_wkt("POLYGON ((-60 -60, 480 -60, 480 420, -60 420, -60 -60))")
    part = upsample(hex_slide, region=corner, method="gp", **SETTINGS)
    assert part.n_pixels < whole.n_pixels / 2
    rows = dict(zip(map(tuple, whole.raster.centers.round(3)), _expression(whole), strict=True))
    expected = np.array([rows[tuple(center)] for center in part.raster.centers.round(3)])
    np.testing.assert_allclose(_expression(part), expected, rtol=1e-5, atol=1e-7)

    use_small_tiles(monkeypatch, max_pixels=200, min_spots=8)
    np.testing.assert_array_equal(_expression(upsample(hex_slide, method="gp", **SETTINGS)), _expression(whole))


def test_intensity_of_the_counts_is_used_again(
    hex_slide: Slide, result: UpsampleResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    in_pixels = FittedIntensity.in_pixels

    def recorded(self: FittedIntensity, layout: SpotPixelMap, fields: np.ndarray) -> PixelIntensity:
        computed.append(layout.n_pixels)
        return in_pixels(self, layout, fields)

    monkeypatch.setattr(FittedIntensity, "in_pixels", recorded)
    derive = ExpressionSink.derive
    upsample(hex_slide, **SETTINGS)
    n_shared = sum(computed)
    computed.clear()
    monkeypatch.setattr(
        ExpressionSink, "derive", lambda self, rows, counts, tile_input=None: derive(self, rows, counts)
    )
    recomputed = upsample(hex_slide, **SETTINGS)
    assert sum(computed) == n_shared + result.n_pixels
    np.testing.assert_array_equal(_expression(recomputed), _expression(result))


def test_no_border_of_a_spot_shows(result: UpsampleResult) -> None:
    layout_pairs = _pairs(result)
    across = result.raster.parent[layout_pairs[0]] != result.raster.parent[layout_pairs[1]]
    for gene in (0, 1, 3, 4, 5):
        values = np.log(_expression(result)[:, gene] + 0.01)
        step = np.abs(values[layout_pairs[0]] - values[layout_pairs[1]])
        assert 0.7 < step[across].mean() / step[~across].mean() < 1.4


def _pairs(result: UpsampleResult) -> np.ndarray:
    from napari_srast.geometry.spot_pixel_map import SpotPixelMap

    return SpotPixelMap.of_raster(result.slide.centers, result.raster).adjacent_pixels


def test_expression_is_closer_to_the_truth_than_the_counts(hex_slide: Slide, result: UpsampleResult) -> None:
    x, y = result.raster.centers.T
    extent = float(np.ptp(hex_slide.centers))
    truth = np.exp(-8 * ((x / extent - 0.5) ** 2 + (y / extent - 0.5) ** 2))

    def correlation(values: np.ndarray) -> float:
        return float(np.corrcoef(values, truth)[0, 1])

    assert correlation(_expression(result)[:, 1]) > correlation(result.counts.toarray()[:, 1]) + 0.02


@pytest.mark.parametrize("method", ["gp", "bilinear", "uniform"])
def test_interpolations_have_expression(hex_slide: Slide, method: str) -> None:
    expression = _expression(upsample(hex_slide, method=method, **SETTINGS))
    assert np.isfinite(expression).all()
    assert (expression >= 0).all()


def test_sampled_counts_do_not_enter_the_expression(hex_slide: Slide) -> None:
    first, second = (upsample(hex_slide, mode="integer", seed=seed, **SETTINGS) for seed in (0, 1))
    assert (first.counts != second.counts).nnz > 0
    np.testing.assert_allclose(_expression(first), _expression(second), rtol=1e-5)


def test_ratios_inside_spots_fade_out_toward_their_borders(hex_slide: Slide) -> None:
    refined = upsample(hex_slide, method="uniform", **SETTINGS)
    of_field = _expression(upsample(hex_slide, method="uniform", mode="integer", **SETTINGS))
    change = np.abs(np.log(_expression(refined)[:, 1] / of_field[:, 1]))
    known = refined.counts.toarray()[:, 1] > 0
    nearest = np.sort(np.linalg.norm(refined.raster.centers[:, None] - hex_slide.centers, axis=-1), axis=1)
    from_border = (nearest[:, 1] - nearest[:, 0]) / refined.raster.lattice.pitch
    assert change[known & (from_border > 0.3)].mean() > 0.02
    assert change[from_border < 1e-6].max(initial=0.0) < 1e-5
    at_border = change[known & (from_border < 0.05)]
    assert len(at_border) > 50
    assert at_border.mean() < 0.5 * change[known & (from_border > 0.3)].mean()


def test_permuted_spots_give_the_same_expression(hex_slide: Slide, result: UpsampleResult) -> None:
    order = np.random.default_rng(0).permutation(hex_slide.n_spots)
    permuted = replace(
        hex_slide, counts=hex_slide.counts[order], centers=hex_slide.centers[order], spot_ids=hex_slide.spot_ids[order]
    )
    np.testing.assert_array_equal(_expression(upsample(permuted, **SETTINGS)), _expression(result))
