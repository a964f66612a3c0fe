"""Mixing and structure scores of point clouds with known scores."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.evaluation.batch_mixing import ilisi, neighbor_agreement

N = 300


@pytest.fixture
def slide() -> np.ndarray:
    return np.repeat([0, 1, 2], N)


def test_separate_slides_score_one(slide: np.ndarray) -> None:
    features = np.random.default_rng(0).standard_normal((3 * N, 2)) + 100 * slide[:, None]
    np.testing.assert_allclose(ilisi(features, slide), 1.0, atol=1e-6)


def test_mixed_slides_score_almost_the_maximum(slide: np.ndarray) -> None:
    features = np.random.default_rng(0).standard_normal((3 * N, 2))
    score = ilisi(features, slide)
    # A sample of 30 from three equal shares has a Simpson index of 1/3 + (2/3) / 30 on average.
    assert score.mean() == pytest.approx(1 / (1 / 3 + (2 / 3) / 30), abs=0.12)
    assert score.max() <= 3 + 1e-9


def test_mixing_ignores_scale_and_labels(slide: np.ndarray) -> None:
    features = np.random.default_rng(0).standard_normal((3 * N, 5)) + 0.5 * slide[:, None]
    score = ilisi(features, slide)
    np.testing.assert_allclose(score, ilisi(1e4 * features, slide), rtol=1e-6)
    np.testing.assert_allclose(score, ilisi(features, np.array(["b", "c", "a"])[slide]), rtol=1e-6)


def test_few_or_equal_observations_have_a_score() -> None:
    assert np.isfinite(ilisi(np.arange(5.0)[:, None], np.array([0, 0, 1, 1, 1]))).all()
    same = ilisi(np.zeros((60, 2)), np.repeat([0, 1], 30))
    assert np.isfinite(same).all()
    assert same.min() >= 1


@pytest.mark.parametrize("across", [True, False])
def test_true_features_predict_expression_and_noise_does_not(slide: np.ndarray, across: bool) -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((3 * N, 3))
    expression = features @ rng.standard_normal((3, 20)) + 0.3 * rng.standard_normal((3 * N, 20))
    assert neighbor_agreement(features, expression, slide, across=across) > 0.8
    noise = rng.standard_normal((3 * N, 3))
    assert abs(neighbor_agreement(noise, expression, slide, across=across)) < 0.1


def test_rotating_a_slide_breaks_agreement_across_slides_only(slide: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    features = rng.standard_normal((3 * N, 3))
    expression = features @ rng.standard_normal((3, 20))
    rotated = features.copy()
    rotated[slide == 1] *= -1
    before = [neighbor_agreement(features, expression, slide, across=a) for a in (False, True)]
    after = [neighbor_agreement(rotated, expression, slide, across=a) for a in (False, True)]
    assert after[0] == pytest.approx(before[0], abs=1e-9)
    assert after[1] < before[1] - 0.3


def test_constant_genes_are_skipped(slide: np.ndarray) -> None:
    features = np.random.default_rng(3).standard_normal((3 * N, 2))
    with_flat = np.column_stack([features, np.ones(3 * N)])
    score = neighbor_agreement(features, with_flat, slide, across=True)
    assert score == pytest.approx(neighbor_agreement(features, features, slide, across=True))
