"""Test what the image predicts in pixels, and its pool with the other experts, on a synthetic tissue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_srast.core.slide import SlideImage
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology import ImagePredictor, fit_image_expert, fit_image_predictor
from napari_srast.histology.predictor import ImageWeights

PITCH = 100.0
NO_SHIFT = np.zeros(2)


def fit_predictor(tissue: Any, image: SlideImage, shift: np.ndarray = NO_SHIFT) -> ImagePredictor:
    """Fit the predictor of the tissue's square spots."""
    expert = fit_image_expert(tissue.counts, tissue.centers, PITCH, image)
    return fit_image_predictor(expert, tissue.counts, shift, PITCH**2)


@pytest.fixture(scope="module")
def predictor(tissue: Any) -> ImagePredictor:
    return fit_predictor(tissue, tissue.image())


def _others(tissue: Any) -> np.ndarray:
    """Return normalized log ratios of other experts."""
    return np.log(tissue.layout.normalize(np.random.default_rng(0).gamma(5.0, size=tissue.truth.shape)))


def test_pooled_ratios_of_every_spot_sum_to_one(tissue, predictor: ImagePredictor) -> None:
    layout = tissue.layout
    evidence = predictor.predict(layout)
    pooled = evidence.pool_with(_others(tissue), predictor.field_loadings(tissue.counts), layout)
    np.testing.assert_allclose(layout.membership @ np.exp(pooled), 1.0, rtol=1e-9)
    assert evidence.background.any()
    assert (pooled[evidence.background] == -np.inf).all()  # bare glass gets no counts
    assert np.isfinite(pooled[~evidence.background]).all()


def test_selected_pixels_get_the_same_evidence(tissue, predictor: ImagePredictor) -> None:
    layout = tissue.layout
    selected = np.flatnonzero((layout.parent > 50) & (layout.parent < 120))
    part = SpotPixelMap(
        spots=layout.spots, pixels=layout.pixels[selected], parent=layout.parent[selected], pitch=layout.pitch
    )
    at_once, alone = predictor.predict(layout).select_pixels(selected), predictor.predict(part)
    np.testing.assert_allclose(alone.log_totals, at_once.log_totals, atol=1e-5)
    np.testing.assert_allclose(alone.programs, at_once.programs, atol=1e-5)
    np.testing.assert_array_equal(alone.outside, at_once.outside)
    np.testing.assert_array_equal(alone.background, at_once.background)


def test_pooling_by_spots_equals_pooling_at_once(tissue, predictor: ImagePredictor) -> None:
    layout, others = tissue.layout, _others(tissue)
    loadings, evidence = predictor.field_loadings(tissue.counts), predictor.predict(layout)
    at_once = np.exp(evidence.pool_with(others, loadings, layout))
    selected = np.flatnonzero(layout.parent < 60)
    part = SpotPixelMap(
        spots=layout.spots, pixels=layout.pixels[selected], parent=layout.parent[selected], pitch=layout.pitch
    )
    alone = np.exp(evidence.select_pixels(selected).pool_with(others[selected], loadings, part))
    np.testing.assert_allclose(alone, at_once[selected], rtol=1e-9)


def test_spots_off_the_image_keep_the_other_experts(tissue) -> None:
    whole = tissue.image()
    half = SlideImage(name="he", levels=(whole.levels[0][:, :, :168],), to_intrinsic=whole.to_intrinsic)
    predictor, layout, others = fit_predictor(tissue, half), tissue.layout, _others(tissue)
    evidence = predictor.predict(layout)
    pooled = evidence.pool_with(others, predictor.field_loadings(tissue.counts), layout)
    uncovered = tissue.centers[layout.parent, 0] > 650
    np.testing.assert_array_equal(evidence.outside, uncovered)
    assert not evidence.background[uncovered].any()
    np.testing.assert_allclose(pooled[uncovered], others[uncovered], atol=1e-9)
    assert np.abs(pooled - others)[~uncovered & ~evidence.background].max() > 0.1


def test_spot_with_one_pixel_off_the_image_keeps_the_other_experts(tissue, predictor: ImagePredictor) -> None:
    layout, others, spot = tissue.layout, _others(tissue), 90
    evidence = predictor.predict(layout)
    assert not evidence.background[layout.parent == spot].any()
    outside = np.zeros(layout.n_pixels, dtype=bool)
    outside[np.flatnonzero(layout.parent == spot)[0]] = True
    loadings = predictor.field_loadings(tissue.counts)
    pooled = replace(evidence, outside=outside).pool_with(others, loadings, layout)
    np.testing.assert_allclose(pooled[layout.parent == spot], others[layout.parent == spot], atol=1e-9)
    unchanged = evidence.pool_with(others, loadings, layout)
    np.testing.assert_array_equal(pooled[layout.parent != spot], unchanged[layout.parent != spot])


def test_pool_is_log_linear_with_its_weights(tissue, predictor: ImagePredictor) -> None:
    layout, others = tissue.layout, _others(tissue)
    evidence, loadings = predictor.predict(layout), predictor.field_loadings(tissue.counts)
    evidence = replace(evidence, background=np.zeros_like(evidence.background))
    score = (
        predictor.weights.others * others
        + predictor.weights.totals * evidence.log_totals[:, None].astype(float)
        + predictor.weights.composition * np.log(evidence.programs.astype(float) @ loadings)
    )
    expected = layout.normalize(np.exp(score))
    np.testing.assert_allclose(np.exp(evidence.pool_with(others, loadings, layout)), expected, rtol=1e-6)


def test_predictor_samples_the_image_at_its_shift(tissue, predictor: ImagePredictor) -> None:
    shift = np.array([20.0, -15.0])
    move = np.eye(3)
    move[:2, 2] = shift
    corrected = fit_predictor(tissue, tissue.image(to_intrinsic=move), shift)
    expected, moved = predictor.predict(tissue.layout), corrected.predict(tissue.layout)
    on_both = ~moved.outside
    # The grid of the features starts elsewhere, which changes them a little.
    assert np.corrcoef(moved.log_totals[on_both], expected.log_totals[on_both])[0, 1] > 0.99
    assert (moved.background == expected.background)[on_both].mean() > 0.98


def test_programs_of_a_pixel_sum_to_one(tissue, predictor: ImagePredictor) -> None:
    evidence = predictor.predict(tissue.layout)
    np.testing.assert_allclose(evidence.programs.sum(axis=1), 1.0, rtol=1e-5)
    assert evidence.log_totals.dtype == evidence.programs.dtype == np.float32


def test_other_weights_change_only_the_pool(tissue, predictor: ImagePredictor) -> None:
    """With no weight for the image and all of it for the others, the pool is the other experts."""
    alone = replace(predictor, weights=ImageWeights(others=1.0, totals=0.0, composition=0.0))
    layout, others = tissue.layout, _others(tissue)
    evidence = replace(alone.predict(layout), background=np.zeros(layout.n_pixels, dtype=bool))
    pooled = evidence.pool_with(others, alone.field_loadings(tissue.counts), layout)
    np.testing.assert_allclose(pooled, others, atol=1e-9)


def test_weights_move_from_the_others_to_the_image_with_the_evidence() -> None:
    weak, strong = ImageWeights.for_evidence(0.1), ImageWeights.for_evidence(3.0)
    assert weak.others > 0.9
    assert strong == ImageWeights.for_evidence(1.0) == ImageWeights(others=0.5, totals=0.8, composition=1.0)
    assert weak.totals < strong.totals
    assert weak.composition < strong.composition
