"""Tests of the selection of width and noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from napari_srast._utils.threads import single_threaded_blas
from napari_srast.interpolation import gaussian_process
from napari_srast.interpolation.gaussian_process import NOISES, WIDTHS, CovarianceGrid, GaussianProcessGrid
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


def test_covariance_of_points_is_the_kernel() -> None:
    distance = np.linspace(0, 9, 50)
    for kernel in (CovarianceGrid().between_spots(2.0), CovarianceGrid().to_pixels(2.0)):
        np.testing.assert_array_equal(kernel(distance), matern32(2.0)(distance))


@pytest.mark.parametrize("distance", [0.0, 0.4, 1.0, 3.0])
def test_covariance_of_disks_is_the_mean_over_pairs_of_points(distance: float) -> None:
    rng, grid, width = np.random.default_rng(0), CovarianceGrid(diameter=0.6), 1.2
    radius, angle = 0.3 * np.sqrt(rng.uniform(size=(2, 20_000))), rng.uniform(0, 2 * np.pi, (2, 20_000))
    first, second = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    kernel = matern32(width)
    pixel = kernel(np.hypot(first[:, 0] - distance, first[:, 1])).mean()
    spots = kernel(np.hypot(first[:, 0] - second[:, 0] - distance, first[:, 1] - second[:, 1])).mean()
    assert grid.to_pixels(width)(np.array([distance]))[0] == pytest.approx(pixel, abs=0.01)
    assert grid.between_spots(width)(np.array([distance]))[0] == pytest.approx(spots, abs=0.015)


def test_noise_variance_is_that_of_the_noise() -> None:
    rng = np.random.default_rng(0)
    spots = np.argwhere(np.ones((18, 18))).astype(float)
    wave = np.sin(spots[:, :1] / 3)
    fields = wave + rng.normal(scale=[0.1, 0.5, 1.0], size=(len(spots), 3))
    grid = GaussianProcessGrid(spots, 1.0)
    centered = fields - fields.mean(axis=0)
    assert grid.noise_variances(centered, grid.select(centered)) == pytest.approx([0.01, 0.25, 1.0], rel=0.6)


def test_spectra_of_the_same_spots_are_computed_once_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    compute = gaussian_process._compute_spectra
    monkeypatch.setattr(gaussian_process, "_compute_spectra", lambda *given: computed.append(1) or compute(*given))
    monkeypatch.setattr(gaussian_process, "_known_spectra", gaussian_process._SpectraMemory())
    rng = np.random.default_rng(3)
    spots, fields = rng.uniform(0, 10, (30, 2)), rng.normal(size=(30, 4))

    def select(spots: np.ndarray, pitch: float = 1.0, grid: CovarianceGrid | None = None) -> np.ndarray:
        return GaussianProcessGrid(spots, pitch, grid).select(fields)

    expected = select(spots)
    select(spots)
    assert len(computed) == 2  # several threads may give other last bits
    with single_threaded_blas():
        for _ in range(2):
            np.testing.assert_array_equal(select(spots), expected)
        assert len(computed) == 3
        select(spots, 2.0)
        select(spots, grid=CovarianceGrid(diameter=0.5))
        select(spots * [1.0, 1.1])
        assert len(computed) == 6
        for shift in range(gaussian_process._MAX_SPECTRA):
            select(spots * (2 + shift))
        select(spots)
        assert len(computed) == 7 + gaussian_process._MAX_SPECTRA
