"""Count how many true counts are inside the central intervals of their predictive distribution.

Shape legend: Q pixels, F genes of a block, B entries of a sample.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

__all__ = ["COVERAGES", "beta_binomial_cdf", "count_covered", "count_covered_rates"]

COVERAGES = (0.5, 0.8, 0.95)
"""Nominal coverages that are compared with the actual ones."""

_HIGH_COUNT = 10  # counts of a spot and a gene
_HIGH_MEAN = 5.0  # expected new counts


def count_covered(
    y: np.ndarray, n: np.ndarray, r: np.ndarray, a: np.ndarray | None, rng: np.random.Generator, max_entries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count covered entries in a random sample of the entries with counts.

    Parameters
    ----------
    y, n, r
        True counts of pixels, counts of their spots and predicted ratios, all of shape (Q, F).
    a
        Concentrations of the Beta-binomial distribution, shape (Q, F); None for the binomial distribution.
    rng
        Random generator of the sample and of the randomized transform.
    max_entries
        Largest size of the sample.

    Returns
    -------
    covered
        Numbers of covered entries at each of :data:`COVERAGES`: of all sampled entries, and of those whose spot has at
        least 10 counts, shape (2, number of coverages).
    n_entries
        Sizes of the two groups, shape (2,).
    """
    entries = np.flatnonzero(n.ravel() > 0)
    if len(entries) > max_entries:
        entries = rng.choice(entries, max_entries, replace=False)
    drawn, total, share = y.ravel()[entries], n.ravel()[entries], np.clip(r.ravel()[entries], 0, 1)
    if a is None:
        below, upto = stats.binom.cdf(drawn - 1, total, share), stats.binom.cdf(drawn, total, share)
    else:
        below, upto = beta_binomial_cdf(drawn, total, share, a.ravel()[entries])
    transform = below + rng.uniform(size=len(drawn)) * (upto - below)
    inside = 2 * np.abs(transform - 0.5)[:, None] <= np.array(COVERAGES)
    high = total >= _HIGH_COUNT
    return np.stack([inside.sum(axis=0), inside[high].sum(axis=0)]), np.array([len(entries), high.sum()])


def beta_binomial_cdf(y: np.ndarray, n: np.ndarray, share: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return P(Y < y) and P(Y <= y) of Beta-binomial(n, a share, a (1 - share)), summed over the nearer tail.

    Parameters
    ----------
    y, n
        Counts and numbers of trials, shape (B,).
    share, a
        Mean and concentration of the Beta distribution, shape (B,).
    """
    y, n = np.rint(y).astype(np.int64), np.rint(n).astype(np.int64)
    alpha, beta = np.maximum(a * share, 1e-9), np.maximum(a * (1 - share), 1e-9)
    upper = 2 * y > n
    near = np.where(upper, n - y, y)
    alpha, beta = np.where(upper, beta, alpha), np.where(upper, alpha, beta)
    row = np.repeat(np.arange(len(y)), near + 1)
    start = np.cumsum(near + 1) - near - 1
    chance = stats.betabinom.pmf(np.arange(len(row)) - start[row], n[row], alpha[row], beta[row])
    upto = np.add.reduceat(chance, start) if len(start) else np.zeros(0)
    at_value = chance[start + near] if len(start) else np.zeros(0)
    return np.where(upper, 1 - upto, upto - at_value), np.where(upper, 1 - upto + at_value, upto)


def count_covered_rates(
    y: np.ndarray, mean: np.ndarray, std: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Count how many new counts are inside the central intervals of their predicted distribution.

    The distribution is the negative binomial with the given mean and standard deviation, or the Poisson distribution
    where the standard deviation is not above that of Poisson counts.

    Parameters
    ----------
    y
        New counts, shape (B,).
    mean, std
        Predicted mean and standard deviation of each new count, shape (B,).
    rng
        Random generator of the randomized probability integral transform.

    Returns
    -------
    covered
        Numbers of covered entries at each of :data:`COVERAGES`: of all entries, and of those with a mean of at least 5,
        shape (2, number of coverages).
    n_entries
        Sizes of the two groups, shape (2,).
    """
    y, mean = np.rint(y), np.maximum(np.asarray(mean, dtype=float), 1e-9)
    excess = np.asarray(std, dtype=float) ** 2 - mean
    wide = excess > 1e-6 * mean
    below, upto = stats.poisson.cdf(y - 1, mean), stats.poisson.cdf(y, mean)
    size = mean[wide] ** 2 / excess[wide]
    chance = size / (size + mean[wide])
    below[wide] = stats.nbinom.cdf(y[wide] - 1, size, chance)
    upto[wide] = stats.nbinom.cdf(y[wide], size, chance)
    transform = below + rng.uniform(size=len(y)) * (upto - below)
    inside = 2 * np.abs(transform - 0.5)[:, None] <= np.array(COVERAGES)
    high = mean >= _HIGH_MEAN
    return np.stack([inside.sum(axis=0), inside[high].sum(axis=0)]), np.array([len(y), int(high.sum())])
