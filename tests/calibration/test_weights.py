"""Tests of the pool weights: accurate experts get weight, and slides with little evidence keep the prior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.scores import gain_per_gene

from napari_srast.calibration.fitting import fit_pool_weights, fit_program_weights
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.prior import CalibrationPriors, LabeledSlide, WeightPrior, fit_prior, fit_priors
from napari_srast.calibration.weights import (
    EXPERT_NAMES,
    PROGRAM_EXPERT_NAMES,
    pool_ratios,
    temper_pool,
)
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

E = len(EXPERT_NAMES)


def priors_around(*first: float, spread: float = 0.1) -> CalibrationPriors:
    """Return priors around some weights."""
    return replace(
        CalibrationPriors.uninformed(),
        pool=WeightPrior.around(first, E, spread),
        interpolations=WeightPrior.around(first[1:], E - 1, spread),
    )


PRIORS = priors_around(0.5, 0.2)


def planted(n_spots: int, depth: float, seed: int = 0, right: int = 1) -> HoldoutPredictions:
    """Return a slide where one expert is right and the others are noise."""
    rng = np.random.default_rng(seed)
    parent = np.repeat(np.arange(n_spots), 4)
    layout = SpotPixelMap(spots=rng.random((n_spots, 2)), pixels=rng.random((4 * n_spots, 2)), parent=parent, pitch=1.0)
    ratios = layout.normalize(rng.gamma(2.0, size=(4 * n_spots, 6)))
    truth = rng.poisson(depth * ratios).astype(float)
    experts = [np.log(layout.normalize(rng.gamma(2.0, size=ratios.shape))) for _ in range(E)]
    experts[right] = np.log(ratios)
    return HoldoutPredictions(
        log_experts=np.stack(experts), counts=layout.membership @ truth, truth=truth, layout=layout
    )


def without_counts(predictions: HoldoutPredictions) -> HoldoutPredictions:
    return HoldoutPredictions(
        log_experts=predictions.log_experts,
        counts=predictions.counts * 0,
        truth=predictions.truth * 0,
        layout=predictions.layout,
    )


def test_accurate_expert_gets_the_weight() -> None:
    fitted = fit_pool_weights([planted(400, 40)], PRIORS)
    weight = fitted.at(np.array(40.0))
    assert fitted.source == "slide"
    assert weight[1] == pytest.approx(1.0, abs=0.1)
    assert np.abs(np.delete(weight, 1)).max() < 0.1
    assert fitted.nats > fitted.nats_prior


def test_more_variants_move_the_weights_further() -> None:
    tight = priors_around(0.5, 0.2, spread=0.01)
    one, several = ([planted(12, 2, seed) for seed in seeds] for seeds in ((3,), (3, 4, 5, 6)))
    distance = [abs(fit_pool_weights(variants, tight).at(np.array(2.0))[1] - 1) for variants in (one, several)]
    assert distance[1] < distance[0]


def test_tiny_slide_keeps_the_prior() -> None:
    tight = priors_around(0.5, 0.2, spread=0.01)
    fitted = fit_pool_weights([planted(6, 1)], tight)
    low, high = np.insert(tight.interpolations.weights, 0, 0.0, axis=1), tight.pool.weights
    between = low + fitted.confidence * (high - low)
    np.testing.assert_allclose(fitted.weights, between, atol=0.1)
    assert 0.01 < fitted.confidence < 0.99
    empty = fit_pool_weights([without_counts(planted(6, 1))], PRIORS)
    np.testing.assert_array_equal(empty.weights, PRIORS.pool.weights)
    assert empty.source == fit_pool_weights([], PRIORS).source == "fleet"


def test_fit_scores_at_least_as_well_as_the_prior() -> None:
    for seed in range(5):
        for right in (0, 1):
            fitted = fit_pool_weights([planted(20, 3, seed, right)], PRIORS)
            assert fitted.nats >= fitted.nats_prior


def test_confidence_follows_the_accuracy_of_the_network() -> None:
    start = priors_around(0.5, 0.5, spread=0.001)  # a slide can hardly move it
    right = fit_pool_weights([planted(200, 20, right=0)], start)
    assert right.confidence == pytest.approx(1, abs=0.01)
    wrong = fit_pool_weights([planted(200, 20, right=1)], start)
    assert wrong.confidence == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(wrong.weights[:, 0], 0, atol=0.01)


def test_useless_experts_give_the_uniform_split() -> None:
    predictions = planted(400, 40)
    truth = np.random.default_rng(9).permuted(predictions.truth, axis=0)
    layout = predictions.layout
    useless = HoldoutPredictions(
        log_experts=predictions.log_experts, counts=layout.membership @ truth, truth=truth, layout=layout
    )
    log_ratio = pool_ratios(predictions.log_experts, useless.counts, layout, fit_pool_weights([useless], PRIORS))
    assert np.nanmean(gain_per_gene(log_ratio, truth, layout)) > -0.02


def test_both_levels_get_the_same_deviation() -> None:
    pool = WeightPrior(
        weights=PRIORS.pool.weights * 2, coarse_weights=PRIORS.pool.weights, covariance=PRIORS.pool.covariance
    )
    fitted = fit_pool_weights([planted(100, 20, right=0)], replace(PRIORS, pool=pool))
    assert fitted.confidence > 0.999
    np.testing.assert_allclose(fitted.weights - pool.weights, fitted.coarse_weights - pool.coarse_weights, atol=1e-3)
    np.testing.assert_allclose(fitted.at(np.array(0.0), level="coarse"), fitted.coarse_weights[0])


def test_priors_recover_mean_and_variance_of_studies() -> None:
    """Half the studies follow the first expert, half the second: both vary, the others do not."""
    studies = {}
    for i in range(6):
        predictions = planted(80, 20, seed=i, right=i % 2)
        studies[f"study{i}"] = [LabeledSlide(fine=predictions.likelihood(), coarse=[predictions.likelihood()])]
    fitted = fit_priors(studies, CalibrationPriors.uninformed())
    mean = fitted.mean_weights.at(np.array(20.0))
    assert mean[:2].min() > 0.25
    assert np.abs(mean[2:]).max() < 0.1
    spread = np.sqrt(np.diag(fitted.pool.covariance))
    assert spread[:2].min() > 2 * spread[2:E].max()
    follows = [
        np.argmax(fit_pool_weights([planted(30, 10, 50 + k, right=k)], fitted).at(np.array(10.0))) for k in (0, 1)
    ]
    assert follows == [0, 1]


def first_experts(predictions: HoldoutPredictions) -> HoldoutPredictions:
    """Return the predictions of the first two experts only."""
    return replace(predictions, log_experts=predictions.log_experts[: len(PROGRAM_EXPERT_NAMES)])


def test_program_weights_are_fitted_around_the_prior() -> None:
    prior = WeightPrior.around([0.3, 0.6], len(PROGRAM_EXPERT_NAMES), 0.1)
    for right in range(2):
        fitted = fit_program_weights([first_experts(planted(100, 20, right=right))], prior)
        assert fitted.experts == PROGRAM_EXPERT_NAMES
        assert fitted.source == "slide"
        assert fitted.at(np.array(20.0))[right] > 0.8
        assert abs(fitted.at(np.array(20.0))[1 - right]) < 0.2
        assert fitted.nats > fitted.nats_prior
    nothing = first_experts(planted(100, 0.0))
    for silent in (fit_program_weights([], prior), fit_program_weights([nothing], prior)):
        assert silent.source == "fleet"
        np.testing.assert_array_equal(silent.weights, prior.weights)


def test_wrong_programs_shrink_to_the_uniform_split() -> None:
    rigid = WeightPrior.around([0.3, 0.6], len(PROGRAM_EXPERT_NAMES), 1e-4)  # a slide can hardly move it
    wrong = fit_program_weights([first_experts(planted(200, 20, right=2))], rigid)
    assert wrong.confidence < 0.01
    np.testing.assert_allclose(wrong.weights, 0, atol=0.01)
    right = fit_program_weights([first_experts(planted(200, 20, right=1))], rigid)
    assert right.confidence > 0.99


def test_more_evidence_moves_the_weights_further() -> None:
    predictions = planted(20, 2, right=1)
    loose = WeightPrior.around([0.5, 0.2], E, 0.1)
    sure = fit_program_weights([planted(400, 40, right=1)], loose)
    unsure = fit_program_weights([predictions], loose)
    distance = [abs(fitted.at(np.array(20.0))[1] - 0.2) for fitted in (sure, unsure)]
    assert distance[1] < distance[0]


def test_single_prior_is_fitted_like_all() -> None:
    start = WeightPrior.around([0.3, 0.6], len(PROGRAM_EXPERT_NAMES), 0.1)
    assert fit_prior({}, start) is start
    one = first_experts(planted(80, 20, right=0)).likelihood()
    fitted = fit_prior({"one": [LabeledSlide(fine=one, coarse=[one])]}, start)
    assert fitted.weights[0, 0] + 0.66 * fitted.weights[1, 0] > 0.5
    np.testing.assert_array_equal(fitted.weights, fitted.coarse_weights)


def test_studies_count_equally() -> None:
    many = [planted(60, 20, seed=i, right=0) for i in range(5)]
    one = planted(60, 20, seed=9, right=1)
    restored = [LabeledSlide(fine=c.likelihood(), coarse=[c.likelihood()]) for c in (*many, one)]
    mean = fit_priors({"many": restored[:5], "one": restored[5:]}, CalibrationPriors.uninformed()).mean_weights.at(
        np.array(20.0)
    )
    assert mean[0] == pytest.approx(mean[1], abs=0.15)


def test_pooled_ratios_sum_to_one() -> None:
    predictions = planted(30, 5)
    pooled = pool_ratios(predictions.log_experts, predictions.counts, predictions.layout, PRIORS.mean_weights)
    np.testing.assert_allclose(predictions.layout.membership @ np.exp(pooled), 1.0)


def test_priors_and_weights_round_trip() -> None:
    described = PRIORS.mean_weights.to_dict()
    np.testing.assert_allclose([described["weights_shallow"], described["weights_slope"]], PRIORS.pool.weights)
    values = PRIORS.to_dict()
    restored = CalibrationPriors.from_dict(values)
    np.testing.assert_allclose(restored.pool.covariance, PRIORS.pool.covariance)
    np.testing.assert_allclose(restored.interpolations.weights, PRIORS.interpolations.weights)
    with pytest.raises(ValueError, match="experts"):
        CalibrationPriors.from_dict({**values, "experts": ["pcfm"]})
    for damage in (
        {"covariance": [[1.0]]},
        {"covariance": (-np.eye(2 * E)).tolist()},
        {"weights": [[float("nan")] * E] * 2},
    ):
        with pytest.raises(ValueError, match=r"experts|finite|covariance"):
            CalibrationPriors.from_dict({**values, "pool": {**PRIORS.pool.to_dict(), **damage}})


def test_tempered_pool_is_an_average_of_pool_and_intensity() -> None:
    log_intensity = np.random.default_rng(0).normal(size=(8, 3))
    log_pool = np.random.default_rng(1).normal(size=(8, 3))
    np.testing.assert_allclose(temper_pool(log_pool, log_pool), log_pool)  # the shares sum to one
    change = temper_pool(log_pool + 1, log_intensity) - temper_pool(log_pool, log_intensity)
    assert (change > 0).all()
    assert (change < 0.5).all()  # most of the weight is on the intensity


def test_tempered_pool_is_less_confident_than_a_confident_pool() -> None:
    predictions = planted(60, 40)
    confident = 3 * predictions.log_experts[1]
    layout = predictions.layout
    tempered = np.log(layout.normalize(np.exp(temper_pool(confident, predictions.log_experts[1]))))
    pool = layout.normalize(np.exp(confident))
    entropy = [-(layout.membership @ (r * np.log(np.maximum(r, 1e-300)))).mean() for r in (pool, np.exp(tempered))]
    assert entropy[1] > entropy[0]
