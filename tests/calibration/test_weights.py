"""The pool learns whom to trust, and keeps the fleet's word where the slide says little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_srast.calibration.fitting import fit_pool_weights, fit_program_weights, gain_per_gene
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.prior import CalibrationPriors, LabeledSlide, WeightPrior, fit_prior, fit_priors
from napari_srast.calibration.weights import EXPERT_NAMES, PROGRAM_EXPERT_NAMES, pool_ratios, pool_weights_from_dict
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

E = len(EXPERT_NAMES)


def fleet(*first: float, spread: float = 0.1) -> CalibrationPriors:
    """Return priors around some weights."""
    return replace(
        CalibrationPriors.uninformed(),
        pool=WeightPrior.around(first, E, spread),
        interpolations=WeightPrior.around(first[1:], E - 1, spread),
    )


FLEET = fleet(0.5, 0.2)


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


def emptied(check: HoldoutPredictions) -> HoldoutPredictions:
    return HoldoutPredictions(
        log_experts=check.log_experts, counts=check.counts * 0, truth=check.truth * 0, layout=check.layout
    )


def test_right_expert_is_trusted_and_noise_is_not() -> None:
    fitted = fit_pool_weights([planted(400, 40)], FLEET)
    weight = fitted.at(np.array(40.0))
    assert fitted.source == "slide"
    assert weight[1] == pytest.approx(1.0, abs=0.1)
    assert np.abs(np.delete(weight, 1)).max() < 0.1
    assert fitted.nats > fitted.nats_prior


def test_several_ways_of_coarsening_say_more_than_one() -> None:
    tight = fleet(0.5, 0.2, spread=0.01)
    one, several = ([planted(12, 2, seed) for seed in seeds] for seeds in ((3,), (3, 4, 5, 6)))
    away = [abs(fit_pool_weights(ways, tight).at(np.array(2.0))[1] - 1) for ways in (one, several)]
    assert away[1] < away[0]


def test_tiny_slide_keeps_the_fleet() -> None:
    tight = fleet(0.5, 0.2, spread=0.01)
    fitted = fit_pool_weights([planted(6, 1)], tight)
    low, high = np.insert(tight.interpolations.weights, 0, 0.0, axis=1), tight.pool.weights
    between = low + fitted.trust * (high - low)
    np.testing.assert_allclose(fitted.weights, between, atol=0.1)
    assert 0.01 < fitted.trust < 0.99
    empty = fit_pool_weights([emptied(planted(6, 1))], FLEET)
    np.testing.assert_array_equal(empty.weights, FLEET.pool.weights)
    assert empty.source == fit_pool_weights([], FLEET).source == "fleet"


def test_fit_scores_above_the_fleet() -> None:
    for seed in range(5):
        for right in (0, 1):
            fitted = fit_pool_weights([planted(20, 3, seed, right)], FLEET)
            assert fitted.nats >= fitted.nats_prior


def test_network_is_trusted_where_it_is_right_and_not_where_it_is_wrong() -> None:
    start = fleet(0.5, 0.5, spread=0.001)  # which the checks can hardly move
    right = fit_pool_weights([planted(200, 20, right=0)], start)
    assert right.trust == pytest.approx(1, abs=0.01)
    wrong = fit_pool_weights([planted(200, 20, right=1)], start)
    assert wrong.trust == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(wrong.weights[:, 0], 0, atol=0.01)


def test_useless_experts_end_even() -> None:
    check = planted(400, 40)
    truth = np.random.default_rng(9).permuted(check.truth, axis=0)
    layout = check.layout
    useless = HoldoutPredictions(
        log_experts=check.log_experts, counts=layout.membership @ truth, truth=truth, layout=layout
    )
    log_ratio = pool_ratios(check.log_experts, useless.counts, layout, fit_pool_weights([useless], FLEET))
    assert np.nanmean(gain_per_gene(log_ratio, truth, layout)) > -0.02


def test_slide_moves_both_levels_alike() -> None:
    pool = WeightPrior(
        weights=FLEET.pool.weights * 2, coarse_weights=FLEET.pool.weights, covariance=FLEET.pool.covariance
    )
    fitted = fit_pool_weights([planted(100, 20, right=0)], replace(FLEET, pool=pool))
    assert fitted.trust > 0.999
    np.testing.assert_allclose(fitted.weights - pool.weights, fitted.coarse_weights - pool.coarse_weights, atol=1e-3)
    np.testing.assert_allclose(fitted.at(np.array(0.0), level="coarse"), fitted.coarse_weights[0])


def test_fleet_learns_the_mean_and_where_studies_differ() -> None:
    """Half the studies follow the first expert, half the second: both vary, the others do not."""
    studies = {}
    for i in range(6):
        check = planted(80, 20, seed=i, right=i % 2)
        studies[f"study{i}"] = [LabeledSlide(own=check.likelihood(), above=[check.likelihood()])]
    found = fit_priors(studies, CalibrationPriors.uninformed())
    mean = found.calibration.at(np.array(20.0))
    assert mean[:2].min() > 0.25
    assert np.abs(mean[2:]).max() < 0.1
    spread = np.sqrt(np.diag(found.pool.covariance))
    assert spread[:2].min() > 2 * spread[2:E].max()
    follows = [
        np.argmax(fit_pool_weights([planted(30, 10, 50 + k, right=k)], found).at(np.array(10.0))) for k in (0, 1)
    ]
    assert follows == [0, 1]


def shared(check: HoldoutPredictions) -> HoldoutPredictions:
    """Return the same, told by the first two experts only."""
    return replace(check, log_experts=check.log_experts[: len(PROGRAM_EXPERT_NAMES)])


def test_what_genes_share_is_weighed_on_the_slide_around_the_fleet() -> None:
    prior = WeightPrior.around([0.3, 0.6], len(PROGRAM_EXPERT_NAMES), 0.1)
    for right in range(2):
        fitted = fit_program_weights([shared(planted(100, 20, right=right))], prior)
        assert fitted.experts == PROGRAM_EXPERT_NAMES
        assert fitted.source == "slide"
        assert fitted.at(np.array(20.0))[right] > 0.8
        assert abs(fitted.at(np.array(20.0))[1 - right]) < 0.2
        assert fitted.nats > fitted.nats_prior
    nothing = shared(planted(100, 0.0))
    for silent in (fit_program_weights([], prior), fit_program_weights([nothing], prior)):
        assert silent.source == "fleet"
        np.testing.assert_array_equal(silent.weights, prior.weights)


def test_maps_that_the_slide_speaks_against_are_softened_towards_even() -> None:
    rigid = WeightPrior.around([0.3, 0.6], len(PROGRAM_EXPERT_NAMES), 1e-4)  # which the check can hardly move
    wrong = fit_program_weights([shared(planted(200, 20, right=2))], rigid)
    assert wrong.trust < 0.01
    np.testing.assert_allclose(wrong.weights, 0, atol=0.01)
    right = fit_program_weights([shared(planted(200, 20, right=1))], rigid)
    assert right.trust > 0.99


def test_a_slide_leaves_the_fleet_as_far_as_its_spots_are_sure() -> None:
    check = planted(20, 2, right=1)
    loose = WeightPrior.around([0.5, 0.2], E, 0.1)
    sure = fit_program_weights([planted(400, 40, right=1)], loose)
    unsure = fit_program_weights([check], loose)
    away = [abs(fitted.at(np.array(20.0))[1] - 0.2) for fitted in (sure, unsure)]
    assert away[1] < away[0]


def test_one_prior_is_learned_as_those_of_the_fleet_are() -> None:
    start = WeightPrior.around([0.3, 0.6], len(PROGRAM_EXPERT_NAMES), 0.1)
    assert fit_prior({}, start) is start
    one = shared(planted(80, 20, right=0)).likelihood()
    found = fit_prior({"one": [LabeledSlide(own=one, above=[one])]}, start)
    assert found.weights[0, 0] + 0.66 * found.weights[1, 0] > 0.5
    np.testing.assert_array_equal(found.weights, found.coarse_weights)


def test_studies_weigh_the_same_however_many_slides_they_have() -> None:
    many = [planted(60, 20, seed=i, right=0) for i in range(5)]
    one = planted(60, 20, seed=9, right=1)
    known = [LabeledSlide(own=c.likelihood(), above=[c.likelihood()]) for c in (*many, one)]
    mean = fit_priors({"many": known[:5], "one": known[5:]}, CalibrationPriors.uninformed()).calibration.at(
        np.array(20.0)
    )
    assert mean[0] == pytest.approx(mean[1], abs=0.15)


def test_pooled_ratios_sum_to_one() -> None:
    check = planted(30, 5)
    pooled = pool_ratios(check.log_experts, check.counts, check.layout, FLEET.calibration)
    np.testing.assert_allclose(check.layout.membership @ np.exp(pooled), 1.0)


def test_gain_is_the_divergence_from_even() -> None:
    check = planted(5, 1)
    truth = np.exp(check.log_experts[1]) * 7
    expected = (truth * (check.log_experts[1] + np.log(4))).sum(axis=0) / truth.sum(axis=0)
    np.testing.assert_allclose(gain_per_gene(check.log_experts[1], truth, check.layout), expected)
    assert np.isnan(gain_per_gene(check.log_experts[1], truth * 0, check.layout)).all()


def test_round_trips() -> None:
    again = pool_weights_from_dict(FLEET.calibration.to_dict())
    np.testing.assert_allclose(again.weights, FLEET.pool.weights)
    values = FLEET.to_dict()
    known = CalibrationPriors.from_dict(values)
    np.testing.assert_allclose(known.pool.covariance, FLEET.pool.covariance)
    np.testing.assert_allclose(known.interpolations.weights, FLEET.interpolations.weights)
    with pytest.raises(ValueError, match="experts"):
        CalibrationPriors.from_dict({**values, "experts": ["pcfm"]})
    for damage in (
        {"covariance": [[1.0]]},
        {"covariance": (-np.eye(2 * E)).tolist()},
        {"weights": [[float("nan")] * E] * 2},
    ):
        with pytest.raises(ValueError, match=r"experts|finite|covariance"):
            CalibrationPriors.from_dict({**values, "pool": {**FLEET.pool.to_dict(), **damage}})
