"""Tests of the likelihood of pool weights: gradient, curvature and information."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.calibration.likelihood import PoolLikelihood, curvature_adjustment, newton_maximize
from napari_srast.geometry.spot_pixel_map import SpotPixelMap


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray, SpotPixelMap]:
    """Return three experts, counts, truth and a layout whose spots have 2 to 4 pixels, one of them none."""
    rng = np.random.default_rng(0)
    parent = np.repeat(np.arange(1, 41), rng.integers(2, 5, 40))
    layout = SpotPixelMap(spots=rng.random((41, 2)), pixels=rng.random((len(parent), 2)), parent=parent, pitch=1.0)
    experts = np.log(np.stack([layout.normalize(rng.gamma(2.0, size=(len(parent), 5))) for _ in range(3)]))
    truth = rng.poisson(6 * np.exp(experts[0])).astype(float)
    return experts, layout.membership @ truth, truth, layout


def test_uniform_split_has_no_gain(problem: tuple) -> None:
    likelihood = PoolLikelihood(*problem)
    assert likelihood.value(np.zeros(6)) == pytest.approx(0.0, abs=1e-9)
    assert likelihood.value(np.array([1.0, 0, 0, 0, 0, 0])) > 0


def test_derivatives_match_finite_differences(problem: tuple) -> None:
    likelihood, w, step = PoolLikelihood(*problem), np.array([0.5, 0.2, -0.1, 0.1, 0.3, 0.0]), 1e-5
    of_spots, gradient, curvature = likelihood.derivatives(w)
    numeric = [(likelihood.value(w + step * e) - likelihood.value(w - step * e)) / (2 * step) for e in np.eye(6)]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_spots.sum(axis=0), gradient)
    slopes = [
        (likelihood.derivatives(w + step * e)[1] - likelihood.derivatives(w - step * e)[1]) / (2 * step)
        for e in np.eye(6)
    ]
    np.testing.assert_allclose(-curvature, slopes, rtol=1e-4, atol=1e-4)


def test_copies_of_a_gene_add_no_information(problem: tuple) -> None:
    experts, counts, truth, layout = problem
    once = PoolLikelihood(experts, counts, truth, layout)
    often = PoolLikelihood(*(np.tile(a, 10) for a in (experts, counts, truth)), layout)
    w, covariance = np.array([0.9, 0.0, 0.0, 0.0, 0.0, 0.0]), np.eye(6)
    few, many = (curvature_adjustment([one], w, covariance) for one in (once, often))
    assert many == pytest.approx(few / 10, rel=0.01) or few == 1.0
    assert many < 0.5


def test_gradient_vanishes_at_the_maximum(problem: tuple) -> None:
    likelihood, precision = PoolLikelihood(*problem), 3 * np.eye(6)
    center = np.full(6, 0.2)
    maximum, converged = newton_maximize([likelihood], [0.7], center, precision)
    assert converged
    slope = 0.7 * likelihood.derivatives(maximum)[1] - precision @ (maximum - center)
    np.testing.assert_allclose(slope, 0, atol=1e-2)


def test_subset_of_pairs_gives_similar_weights(problem: tuple) -> None:
    complete, part = PoolLikelihood(*problem), PoolLikelihood(*problem, max_pairs=60)
    assert part.mass < complete.mass
    gained = [complete.value(newton_maximize([one], [1.0], np.zeros(6), np.eye(6))[0]) for one in (complete, part)]
    assert 0.8 * gained[0] < gained[1] <= gained[0] + 0.1
