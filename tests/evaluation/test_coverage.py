"""Coverage: the distribution function matches SciPy."""

from __future__ import annotations

import numpy as np
from scipy import stats

from napari_srast.evaluation.coverage import beta_binomial_cdf


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
