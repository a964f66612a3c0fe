"""Tests of the selection of width and noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from napari_srast.interpolation.gaussian_process import NOISES, WIDTHS, GaussianProcessGrid
from napari_srast.interpolation.local_kriging import matern32


@pytest.mark.parametrize(("width", "noise"), [(1, 0), (2, 2), (3, 1)])
def test_true_width_and_noise_are_selected(width: int, noise: int) -> None:
    rng = np.random.default_rng(0)
    spots = rng.uniform(0, 22, (250, 2))
    covariance = matern32(WIDTHS[width])(cdist(spots, spots)) + NOISES[noise] * np.eye(250)
    fields = 3 * np.linalg.cholesky(covariance) @ rng.normal(size=(250, 80))
    chosen = GaussianProcessGrid(spots, 1.0).select(fields)
    assert abs(np.median(chosen // len(NOISES)) - width) <= 1
    assert abs(np.median(chosen % len(NOISES)) - noise) <= 1


def test_likelihood_is_multivariate_normal() -> None:
    rng = np.random.default_rng(1)
    spots, field = rng.uniform(0, 10, (40, 2)), rng.normal(size=(40, 1))
    distance = cdist(spots, spots)

    def log_likelihood(width: float, noise: float) -> float:
        covariance = matern32(width)(distance) + noise * np.eye(40)
        scale = float(field[:, 0] @ np.linalg.solve(covariance, field[:, 0])) / 40
        return float(stats.multivariate_normal(np.zeros(40), scale * covariance).logpdf(field[:, 0]))

    best = np.argmax([log_likelihood(w, v) for w in WIDTHS for v in NOISES])
    assert GaussianProcessGrid(spots, 1.0).select(field)[0] == best


def test_patches_represent_a_large_slide() -> None:
    rng = np.random.default_rng(2)
    spots = np.stack(np.meshgrid(np.arange(26.0), np.arange(26.0)), axis=-1).reshape(-1, 2)
    waves = np.sin(spots[:, :1] / 5 + np.arange(10)) + rng.normal(scale=0.1, size=(676, 10))
    noise = rng.normal(size=(676, 10))
    chosen = GaussianProcessGrid(spots, 1.0).select(np.hstack([waves, noise])) % len(NOISES)
    assert chosen[:10].max() < np.median(chosen[10:])


def test_constant_field_gets_the_first_point() -> None:
    assert GaussianProcessGrid(np.random.default_rng(0).uniform(size=(9, 2)), 0.1).select(np.zeros((9, 1)))[0] == 0
