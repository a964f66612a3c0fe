"""The pool learns whom to trust, and keeps the fleet's word where the slide says little."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.geometry.layout import Layout
from napari_srast.models.calibration import (
    Calibration,
    calibration_from_dict,
    fit_calibration,
    gain_per_gene,
    mean_calibration,
    pool_ratios,
)

FLEET = Calibration(weights=np.array([[0.5, 0.2, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))


def planted(n_spots: int, depth: float, seed: int = 0) -> tuple[Layout, np.ndarray, np.ndarray, np.ndarray]:
    """Return layout, experts, counts and truth: the second expert is right, the others are noise."""
    rng = np.random.default_rng(seed)
    parent = np.repeat(np.arange(n_spots), 4)
    layout = Layout(spots=rng.random((n_spots, 2)), pixels=rng.random((4 * n_spots, 2)), parent=parent, pitch=1.0)
    right = layout.normalise(rng.gamma(2.0, size=(4 * n_spots, 6)))
    truth = rng.poisson(depth * right).astype(float)
    noise = [np.log(layout.normalise(rng.gamma(2.0, size=right.shape))) for _ in range(3)]
    return layout, np.stack([noise[0], np.log(right), noise[1], noise[2]]), layout.membership @ truth, truth


def test_right_expert_is_trusted_and_noise_is_not() -> None:
    layout, experts, counts, truth = planted(400, 40)
    fitted = fit_calibration(experts, counts, truth, layout, FLEET)
    weight = fitted.at(np.array(40.0))
    assert fitted.source == "slide"
    assert weight[1] == pytest.approx(1.0, abs=0.1)
    assert weight[[0, 2, 3]].max() < 0.1
    assert fitted.nats > fitted.nats_fleet


def test_tiny_slide_keeps_the_fleet() -> None:
    layout, experts, counts, truth = planted(6, 1)
    fitted = fit_calibration(experts, counts, truth, layout, FLEET)
    np.testing.assert_allclose(fitted.weights, FLEET.weights, atol=0.1)
    empty = fit_calibration(experts, counts * 0, truth * 0, layout, FLEET)
    np.testing.assert_array_equal(empty.weights, FLEET.weights)


def test_fit_never_scores_below_the_fleet() -> None:
    for seed in range(5):
        layout, experts, counts, truth = planted(20, 3, seed)
        fitted = fit_calibration(experts, counts, truth, layout, FLEET)
        assert fitted.nats >= fitted.nats_fleet


def test_useless_experts_end_even() -> None:
    layout, experts, _, truth = planted(400, 40)
    rng = np.random.default_rng(9)
    truth = rng.permuted(truth, axis=0)
    fitted = fit_calibration(experts, layout.membership @ truth, truth, layout, FLEET)
    log_ratio = pool_ratios(experts, layout.membership @ truth, layout, fitted)
    assert np.nanmean(gain_per_gene(log_ratio, truth, layout)) > -0.02


def test_pooled_ratios_sum_to_one() -> None:
    layout, experts, counts, _ = planted(30, 5)
    pooled = pool_ratios(experts, counts, layout, FLEET)
    np.testing.assert_allclose(layout.membership @ np.exp(pooled), 1.0)


def test_gain_is_the_divergence_from_even() -> None:
    layout, experts, _, _ = planted(5, 1)
    truth = np.exp(experts[1]) * 7
    expected = (truth * (experts[1] + np.log(4))).sum(axis=0) / truth.sum(axis=0)
    np.testing.assert_allclose(gain_per_gene(experts[1], truth, layout), expected)
    assert np.isnan(gain_per_gene(experts[1], truth * 0, layout)).all()


def test_round_trip_and_mean() -> None:
    again = calibration_from_dict(FLEET.to_dict())
    np.testing.assert_allclose(again.weights, FLEET.weights)
    doubled = Calibration(weights=FLEET.weights * 2)
    np.testing.assert_allclose(mean_calibration([FLEET, doubled]).weights, FLEET.weights * 1.5)
