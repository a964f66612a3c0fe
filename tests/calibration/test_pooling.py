"""What the pool weights make of the experts."""

from __future__ import annotations

import numpy as np
from helpers.pool import PRIORS, planted_predictions

from napari_srast.calibration.pooling import TOTALS_SHARE, average_with_intensity, pool_ratios, totals_shift


def test_pooled_ratios_sum_to_one() -> None:
    predictions = planted_predictions(30, 5)
    pooled = pool_ratios(predictions.log_experts, predictions.counts, predictions.layout, PRIORS.mean_weights)
    np.testing.assert_allclose(predictions.layout.membership @ np.exp(pooled), 1.0)


def test_pool_is_averaged_with_the_intensity() -> None:
    log_intensity = np.random.default_rng(0).normal(size=(8, 3))
    log_pool = np.random.default_rng(1).normal(size=(8, 3))
    np.testing.assert_allclose(average_with_intensity(log_pool, log_pool), log_pool)  # the shares sum to one
    change = average_with_intensity(log_pool + 1, log_intensity) - average_with_intensity(log_pool, log_intensity)
    assert (change > 0).all()
    assert (change < 0.5).all()  # most of the weight is on the intensity


def test_totals_have_their_own_share_and_compositions_keep_theirs() -> None:
    rng = np.random.default_rng(0)
    log_pool, log_intensity = rng.normal(size=(2, 8, 3))
    shift = totals_shift(log_pool[:, 2], log_intensity[:, 2])  # the last field holds the total counts
    average, plain = (
        average_with_intensity(log_pool, log_intensity, shift),
        average_with_intensity(log_pool, log_intensity),
    )
    expected = TOTALS_SHARE * log_pool[:, 2] + (1 - TOTALS_SHARE) * log_intensity[:, 2]
    np.testing.assert_allclose(average[:, 2], expected)
    np.testing.assert_allclose(average[:, 0] - average[:, 1], plain[:, 0] - plain[:, 1])


def test_average_is_less_confident_than_a_confident_pool() -> None:
    predictions = planted_predictions(60, 40)
    confident = 3 * predictions.log_experts[1]
    layout = predictions.layout
    averaged = np.log(layout.normalize(np.exp(average_with_intensity(confident, predictions.log_experts[1]))))
    pool = layout.normalize(np.exp(confident))
    entropy = [-(layout.membership @ (r * np.log(np.maximum(r, 1e-300)))).mean() for r in (pool, np.exp(averaged))]
    assert entropy[1] > entropy[0]
