"""Test the standard deviation of the expression: where it is, what does not change it, and how much it covers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from helpers.tiling import use_small_tiles
from scipy import ndimage, sparse

from napari_srast.api import upsample
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.evaluation.fine_slide import FineSlide
from napari_srast.evaluation.fine_truth import evaluate_fine_truth
from napari_srast.evaluation.simulated_array import SimulatedArray
from napari_srast.inference import expression_field
from napari_srast.inference.expression_std import ExpressionScatter

SETTINGS = {"factor": 4, "method": "gp", "mode": "sample"}


@pytest.fixture(scope="module")
def result(hex_slide: Slide) -> UpsampleResult:
    return upsample(hex_slide, **SETTINGS)


def _std(result: UpsampleResult) -> np.ndarray:
    assert result.expression_std is not None
    return result.expression_std.toarray()


def test_only_mode_sample_computes_it_and_changes_nothing_else(hex_slide: Slide, result: UpsampleResult) -> None:
    mean = upsample(hex_slide, **{**SETTINGS, "mode": "mean"})
    assert mean.expression_std is None
    assert (mean.counts != result.counts).nnz == 0
    assert mean.expression is not None
    assert result.expression is not None
    assert (mean.expression != result.expression).nnz == 0


def test_genes_with_expression_have_a_positive_one(hex_slide: Slide, result: UpsampleResult) -> None:
    assert result.expression is not None
    expressed = result.expression.toarray() > 0
    assert (_std(result)[expressed] > 0).all()
    assert not _std(result)[~expressed].any()
    some = upsample(hex_slide, expression=["Gene1", "Gene4"], **SETTINGS)
    assert np.flatnonzero(_std(some).any(axis=0)).tolist() == [1, 4]


def test_neither_region_nor_tiles_nor_blocks_change_it(
    hex_slide: Slide, result: UpsampleResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    corner = Region.from_wkt("POLYGON ((-60 -60, 480 -60, 480 420, -60 420, -60 -60))")
    part = upsample(hex_slide, region=corner, **SETTINGS)
    assert part.n_pixels < result.n_pixels / 2
    rows = dict(zip(map(tuple, result.raster.centers.round(3)), _std(result), strict=True))
    expected = np.array([rows[tuple(center)] for center in part.raster.centers.round(3)])
    np.testing.assert_allclose(_std(part), expected, rtol=1e-4, atol=1e-7)

    use_small_tiles(monkeypatch, max_pixels=200, min_spots=8)
    np.testing.assert_array_equal(_std(upsample(hex_slide, **SETTINGS)), _std(result))
    monkeypatch.setattr(expression_field, "_VALUES_PER_BLOCK", 500)
    np.testing.assert_allclose(_std(upsample(hex_slide, **SETTINGS)), _std(result), rtol=1e-4)


def test_permuted_spots_give_the_same_one(hex_slide: Slide, result: UpsampleResult) -> None:
    order = np.random.default_rng(0).permutation(hex_slide.n_spots)
    permuted = replace(
        hex_slide, counts=hex_slide.counts[order], centers=hex_slide.centers[order], spot_ids=hex_slide.spot_ids[order]
    )
    np.testing.assert_array_equal(_std(upsample(permuted, **SETTINGS)), _std(result))


def test_unmeasured_gaps_are_less_certain_than_measured_disks(hex_slide: Slide, result: UpsampleResult) -> None:
    assert result.expression is not None
    offset = result.raster.centers - hex_slide.centers[result.raster.parent]
    inside = np.hypot(*offset.T) < 0.2 * result.raster.lattice.pitch
    outside = np.hypot(*offset.T) > 0.5 * result.raster.lattice.pitch
    relative = _std(result)[:, 1] / result.expression[:, [1]].toarray()[:, 0]
    assert np.median(relative[outside]) > 1.15 * np.median(relative[inside])


@pytest.mark.parametrize("n_spots", [2, 3, 4])
def test_few_spots_have_a_finite_one(make_slide: Callable[..., Slide], n_spots: int) -> None:
    assert np.isfinite(_std(upsample(make_slide(1, n_spots, 3, depth=6.0), **SETTINGS))).all()


def _coverage(roughness: float) -> np.ndarray:
    """Return how much 80 % intervals cover of all and of high counts; rough patterns have the size of a spot."""
    side, n_genes = 120, 8
    rng = np.random.default_rng(3)
    log_rate = np.empty((side * side, n_genes))
    for gene in range(n_genes):
        smooth, rough = (ndimage.gaussian_filter(rng.normal(size=(side, side)), width) for width in (20.0, 3.0))
        log_rate[:, gene] = (0.7 * smooth / smooth.std() + roughness * rough / rough.std()).ravel()
    y, x = np.mgrid[:side, :side].reshape(2, -1)
    tissue = FineSlide(
        name="tissue",
        counts=sparse.csr_matrix(rng.poisson(1.5 * np.exp(log_rate)).astype(np.float64)),
        genes=np.array([f"Gene{gene}" for gene in range(n_genes)]),
        points=np.column_stack([x, y]) + 0.5,
        bin_side=1.0,
    )
    array = SimulatedArray(pitch=10.0, lattice="hex", spot_diameter=6.0)
    settings = UpsampleSettings(factor=5, method="gp", mode="sample")
    scores = evaluate_fine_truth(tissue, array, settings=settings).scores["srast"][0]
    return np.array([scores.coverage_80, scores.coverage_80_high])


@pytest.mark.parametrize("roughness", [0.0, 1.0])
def test_intervals_cover_new_counts_of_smooth_and_of_rough_tissue(roughness: float) -> None:
    covered = _coverage(roughness)
    assert 0.75 < covered[0] < 0.85
    assert 0.72 < covered[1] < 0.88


def test_exact_rates_would_not_cover_rough_tissue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExpressionScatter, "std", lambda self, pixels, expression: np.zeros_like(expression))
    assert _coverage(1.0)[1] < 0.6
