"""Test the Bayesian regression on image features."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.spatial.distance import cdist

from napari_srast.histology import regression
from napari_srast.histology.regression import ContrastRegression
from napari_srast.interpolation.local_kriging import matern32


def _spots(n: int = 40) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 7, (n, 2))


def _field(spots: np.ndarray, seed: int) -> np.ndarray:
    covariance = matern32(3.0)(cdist(spots, spots))
    return np.linalg.cholesky(covariance + 1e-6 * np.eye(len(spots))) @ np.random.default_rng(seed).normal(
        size=len(spots)
    )


def test_evidence_equals_the_dense_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one grid point and all preceding spots as neighbors, Vecchia's approximation is exact."""
    monkeypatch.setattr(regression, "WIDTHS", (2.0,))
    monkeypatch.setattr(regression, "NOISES", (0.3,))
    monkeypatch.setattr(regression, "RATIOS", (0.7,))
    monkeypatch.setattr(regression, "_N_NEIGHBORS", 40)
    spots, rng = _spots(), np.random.default_rng(3)
    features, y = rng.normal(size=(40, 4)), rng.normal(size=(40, 1))
    fitted = ContrastRegression(spots, 1.0, y).fit(features)

    def log_evidence(covariance: np.ndarray) -> float:
        # Scale and mean integrated out: restricted likelihood in an orthonormal basis of contrasts.
        basis = eigh(np.eye(40) - 1 / 40)[1][:, 1:]
        reduced, rest = basis.T @ covariance @ basis, basis.T @ y[:, 0]
        return -0.5 * (39 * np.log(rest @ np.linalg.solve(reduced, rest)) + np.linalg.slogdet(reduced)[1])

    without = matern32(2.0)(cdist(spots, spots)) + 0.3 * np.eye(40)
    expected = log_evidence(without + 0.7 / 4 * features @ features.T) - log_evidence(without)
    assert fitted.log_bayes[0] == pytest.approx(expected, abs=1e-6)


def test_contrasts_count_as_evidence_smooth_fields_do_not() -> None:
    spots = np.argwhere(np.ones((12, 12))).astype(float)
    rng = np.random.default_rng(1)
    true = rng.normal(size=(144, 3))
    field = _field(spots, 0)
    fitted = ContrastRegression(spots, 1.0, (field + true[:, 0] + 0.1 * rng.normal(size=144))[:, None]).fit(true)
    assert fitted.evidence > 20
    assert fitted.coefficients[0, 0] == pytest.approx(1.0, abs=0.2)
    assert np.abs(fitted.coefficients[1:]).max() < 0.2
    # Smooth fields are correlated by chance, which ordinary regression would take as evidence.
    smooth = np.column_stack([_field(spots, seed) for seed in range(10, 20)])
    noisy = (field + 0.1 * rng.normal(size=144))[:, None]
    assert ContrastRegression(spots, 1.0, noisy).fit((smooth - smooth.mean(0)) / smooth.std(0)).evidence < 2


def test_random_features_get_no_coefficients() -> None:
    spots, rng = np.argwhere(np.ones((10, 10))).astype(float), np.random.default_rng(2)
    fit = ContrastRegression(spots, 1.0, rng.normal(size=(100, 2))).fit(rng.normal(size=(100, 30)))
    assert fit.evidence < 1
    assert np.abs(fit.coefficients).max() < 0.02
