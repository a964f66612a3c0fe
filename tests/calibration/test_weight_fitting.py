"""Fits of the pool weights: accurate experts get weight, and slides with little evidence keep the prior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.pool import N_EXPERTS, PRIORS, first_experts, planted_predictions, priors_around, without_counts
from helpers.scores import gain_per_gene

from napari_srast.calibration.pooling import PROGRAM_EXPERT_NAMES, pool_ratios
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.weight_fitting import fit_pool_weights, fit_program_weights
from napari_srast.calibration.weight_prior import WeightPrior


def test_accurate_expert_gets_the_weight() -> None:
    fitted = fit_pool_weights([planted_predictions(400, 40)], PRIORS)
    weight = fitted.at(np.array(40.0))
    assert fitted.source == "slide"
    assert weight[1] == pytest.approx(1.0, abs=0.1)
    assert np.abs(np.delete(weight, 1)).max() < 0.1
    assert fitted.nats > fitted.nats_prior


def test_more_variants_move_the_weights_further() -> None:
    tight = priors_around(0.5, 0.2, spread=0.01)
    one, several = ([planted_predictions(12, 2, seed) for seed in seeds] for seeds in ((3,), (3, 4, 5, 6)))
    distance = [abs(fit_pool_weights(variants, tight).at(np.array(2.0))[1] - 1) for variants in (one, several)]
    assert distance[1] < distance[0]


def test_tiny_slide_keeps_the_prior() -> None:
    tight = priors_around(0.5, 0.2, spread=0.01)
    fitted = fit_pool_weights([planted_predictions(6, 1)], tight)
    low, high = np.insert(tight.interpolations.weights, 0, 0.0, axis=1), tight.pool.weights
    between = low + fitted.confidence * (high - low)
    np.testing.assert_allclose(fitted.weights, between, atol=0.1)
    assert 0.01 < fitted.confidence < 0.99
    empty = fit_pool_weights([without_counts(planted_predictions(6, 1))], PRIORS)
    np.testing.assert_array_equal(empty.weights, PRIORS.pool.weights)
    assert empty.source == fit_pool_weights([], PRIORS).source == "fleet"


def test_fit_scores_at_least_as_well_as_the_prior() -> None:
    for seed in range(5):
        for right in (0, 1):
            fitted = fit_pool_weights([planted_predictions(20, 3, seed, right)], PRIORS)
            assert fitted.nats >= fitted.nats_prior


def test_confidence_follows_the_accuracy_of_the_network() -> None:
    start = priors_around(0.5, 0.5, spread=0.001)  # a slide can hardly move it
    right = fit_pool_weights([planted_predictions(200, 20, right=0)], start)
    assert right.confidence == pytest.approx(1, abs=0.01)
    wrong = fit_pool_weights([planted_predictions(200, 20, right=1)], start)
    assert wrong.confidence == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(wrong.weights[:, 0], 0, atol=0.01)


def test_useless_experts_give_the_uniform_split() -> None:
    predictions = planted_predictions(400, 40)
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
    fitted = fit_pool_weights([planted_predictions(100, 20, right=0)], replace(PRIORS, pool=pool))
    assert fitted.confidence > 0.999
    np.testing.assert_allclose(fitted.weights - pool.weights, fitted.coarse_weights - pool.coarse_weights, atol=1e-3)
    np.testing.assert_allclose(fitted.at(np.array(0.0), level="coarse"), fitted.coarse_weights[0])


def test_program_weights_are_fitted_around_the_prior() -> None:
    prior = WeightPrior.around([0.3, 0.6], len(PROGRAM_EXPERT_NAMES), 0.1)
    for right in range(2):
        fitted = fit_program_weights([first_experts(planted_predictions(100, 20, right=right))], prior)
        assert fitted.experts == PROGRAM_EXPERT_NAMES
        assert fitted.source == "slide"
        assert fitted.at(np.array(20.0))[right] > 0.8
        assert abs(fitted.at(np.array(20.0))[1 - right]) < 0.2
        assert fitted.nats > fitted.nats_prior
    nothing = first_experts(planted_predictions(100, 0.0))
    for silent in (fit_program_weights([], prior), fit_program_weights([nothing], prior)):
        assert silent.source == "fleet"
        np.testing.assert_array_equal(silent.weights, prior.weights)


def test_wrong_programs_shrink_to_the_uniform_split() -> None:
    rigid = WeightPrior.around([0.3, 0.6], len(PROGRAM_EXPERT_NAMES), 1e-4)  # a slide can hardly move it
    wrong = fit_program_weights([first_experts(planted_predictions(200, 20, right=2))], rigid)
    assert wrong.confidence < 0.01
    np.testing.assert_allclose(wrong.weights, 0, atol=0.01)
    right = fit_program_weights([first_experts(planted_predictions(200, 20, right=1))], rigid)
    assert right.confidence > 0.99


def test_more_evidence_moves_the_weights_further() -> None:
    predictions = planted_predictions(20, 2, right=1)
    loose = WeightPrior.around([0.5, 0.2], N_EXPERTS, 0.1)
    sure = fit_program_weights([planted_predictions(400, 40, right=1)], loose)
    unsure = fit_program_weights([predictions], loose)
    distance = [abs(fitted.at(np.array(20.0))[1] - 0.2) for fitted in (sure, unsure)]
    assert distance[1] < distance[0]
