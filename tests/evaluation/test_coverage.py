"""Coverage: the distribution function matches SciPy."""

from __future__ import annotations

import numpy as np
from scipy import stats

from napari_srast.evaluation.coverage import COVERAGES, beta_binomial_cdf, count_covered_rates


def test_beta_binomial_cdf_matches_scipy() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(1, 60, 200)
    y, share, a = rng.integers(0, n + 1), rng.random(200), rng.gamma(2.0, size=200)
    share[:2] = 0, 1
    below, upto = beta_binomial_cdf(y, n, share, a)
    inner = slice(2, None)
    expected = stats.betabinom(n[inner], (a * share)[inner], (a * (1 - share))[inner])
    np.testing.assert_allclose(upto[inner], expected.cdf(y[inner]), atol=1e-10)
    np.testing.assert_allclose(below[inner], expected.cdf(y[inner] - 1), atol=1e-10)
    assert np.isfinite([below, upto]).all()


def test_rates_are_covered_nominally_if_mean_and_spread_are_right() -> None:
    rng = np.random.default_rng(0)
    mean = np.repeat([0.3, 2.0, 8.0], 20_000)
    shape = 1.5
    y = rng.poisson(rng.gamma(shape, mean / shape))
    covered, size = count_covered_rates(y, mean, np.sqrt(mean + mean**2 / shape), np.random.default_rng(1))
    np.testing.assert_array_equal(size, [60_000, 20_000])
    np.testing.assert_allclose(covered / size[:, None], [COVERAGES, COVERAGES], atol=0.01)
    too_narrow, _ = count_covered_rates(y, mean, np.zeros_like(mean), np.random.default_rng(1))
    assert too_narrow[1, 1] / size[1] < 0.7
    poisson, _ = count_covered_rates(rng.poisson(mean), mean, np.sqrt(mean), np.random.default_rng(1))
    np.testing.assert_allclose(poisson / size[:, None], [COVERAGES, COVERAGES], atol=0.01)
