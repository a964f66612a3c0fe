"""The image head learns a gene from features of points whose means the discs count."""

from __future__ import annotations

import numpy as np
import torch

from napari_srast.evaluation.peers.image_head import fit_head


def test_head_recovers_a_rate_at_points_from_means_over_discs() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 8, 1)) * 0.3 + rng.normal(size=(300, 1, 1))
    points = np.concatenate([points, rng.normal(size=points.shape)], axis=2)  # the second feature is noise
    rate = np.exp(0.7 * points[:, :, 0])
    counts = rng.poisson(40 * rate.mean(axis=1))[:, None].astype(float)
    pixels = np.column_stack([np.linspace(-1.5, 1.5, 50), np.zeros(50)])
    predicted = fit_head(points, counts, pixels)[:, 0]
    assert np.corrcoef(predicted, 40 * np.exp(0.7 * pixels[:, 0]))[0, 1] > 0.97
    assert predicted.min() >= 0


def test_head_is_reproducible_and_leaves_the_global_generator_alone() -> None:
    rng = np.random.default_rng(0)
    points, counts = rng.normal(size=(20, 4, 3)), rng.poisson(5.0, (20, 2)).astype(float)
    before = torch.random.get_rng_state()
    first, second = (fit_head(points, counts, points[:, 0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)
