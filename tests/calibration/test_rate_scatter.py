"""Test the scatter of left-out rates: recovery from simulated counts, shrinkage over genes, and the variance."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.calibration.rate_scatter import RateScatter, fit_rate_scatter


def simulate(means: np.ndarray, clusters: float, relative: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    variance = means * (clusters + relative * means)
    return rng.poisson(rng.gamma(means**2 / variance, variance / means)).astype(float)


@pytest.mark.parametrize(("clusters", "relative"), [(2.0, 0.03), (0.06, 0.5), (1.0, 0.25)])
def test_scatter_is_found_again(clusters: float, relative: float) -> None:
    means = np.geomspace(0.5, 80, 1500)[:, None].repeat(4, axis=1)
    fitted = fit_rate_scatter(means, simulate(means, clusters, relative))
    for level in (2.0, 50.0):
        found = fitted.variances(np.full((1, 4), level))[0]
        assert found.mean() == pytest.approx(level * (clusters + relative * level), rel=0.25)


def test_poisson_counts_have_little_scatter() -> None:
    means = np.full((1500, 3), 20.0)
    counts = np.random.default_rng(0).poisson(means)
    assert (fit_rate_scatter(means, counts).variances(means[:1]) < 0.1 * means[:1]).all()


def test_rare_gene_gets_the_scatter_that_is_common_on_the_slide() -> None:
    common = np.full((400, 12), 30.0)
    means = np.hstack([common, np.full((400, 1), 0.01)])
    for relative in (0.03, 1.0):
        fitted = fit_rate_scatter(means, simulate(means, 0.06, relative))
        assert fitted.relative[-1] == pytest.approx(fitted.relative[:-1].mean(), rel=0.6, abs=0.05)


def test_variance_has_a_linear_and_a_quadratic_part() -> None:
    scatter = RateScatter(clusters=np.array([2.0, 0.0]), relative=np.array([0.0, 0.5]))
    np.testing.assert_allclose(scatter.variances(np.array([[4.0, 4.0], [0.0, 1.0]])), [[8.0, 8.0], [0.0, 0.5]])


def test_blocks_of_genes_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    means = np.full((50, 7), 6.0)
    counts = simulate(means, 1.0, 0.2)
    whole = fit_rate_scatter(means, counts)
    monkeypatch.setattr("napari_srast.calibration.rate_scatter._VALUES_PER_BLOCK", 100)
    parts = fit_rate_scatter(means, counts)
    np.testing.assert_allclose(parts.clusters, whole.clusters, rtol=1e-9)
    np.testing.assert_allclose(parts.relative, whole.relative, rtol=1e-9)
