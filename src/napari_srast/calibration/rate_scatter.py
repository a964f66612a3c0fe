"""Estimate how far the rates of spots scatter around what the other spots predict.

Given the predicted rate m of a spot that was left out, in counts, its rate has mean m and variance ``a m + b m^2``: a
is the size of clusters of counts, such as cells, and b the squared relative error of the prediction. Its count is then
negative binomial with the variance ``m + a m + b m^2``. Both parameters of a gene are posterior means on a grid, whose
prior is the distribution of the parameters over the genes (nonparametric empirical Bayes by the EM algorithm), so that
a gene of few counts gets the scatter that is common on the slide.

Shape legend: N spots, F genes, Q pixels, S points of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

__all__ = ["RateScatter", "fit_rate_scatter"]

_CLUSTERS = (0.0, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # values of a
_RELATIVE = (0.0, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0)  # values of b
_MIN_RATE = 1e-3  # counts of a spot
_MIN_SCATTER = 1e-4  # of a rate, relative to Poisson noise
_ITERATIONS = 20
_VALUES_PER_BLOCK = 200_000  # spots x genes


@dataclass(frozen=True, kw_only=True, eq=False)
class RateScatter:
    """Scatter of the rates of each gene.

    Parameters
    ----------
    clusters
        Variance of the rate per mean, in counts of a spot, shape (F,).
    relative
        Squared relative error of the predicted rate, shape (F,).
    """

    clusters: np.ndarray
    relative: np.ndarray

    def variances(self, rates: np.ndarray) -> np.ndarray:
        """Return the variances of rates around predicted rates (Q, F), both in counts of a spot."""
        return np.asarray(rates * (self.clusters + self.relative * rates))


def fit_rate_scatter(means: np.ndarray, counts: np.ndarray) -> RateScatter:
    """Fit the scatter of each gene, given predictions of spots from other spots.

    Parameters
    ----------
    means
        Predicted rates of the spots in counts, shape (N, F).
    counts
        Counts of the same spots, shape (N, F).
    """
    relative, clusters = (grid.ravel() for grid in np.meshgrid(_RELATIVE, _CLUSTERS, indexing="ij"))
    size = max(1, _VALUES_PER_BLOCK // max(len(means), 1))
    log_likelihood = np.concatenate(
        [
            _log_likelihood(means[:, start : start + size], counts[:, start : start + size], relative, clusters)
            for start in range(0, means.shape[1], size)
        ],
        axis=1,
    )
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=0))
    uniform = 1.0 / len(relative)
    prior = np.full(len(relative), uniform)
    for _ in range(_ITERATIONS):
        posterior = _posterior(prior, likelihood)
        prior = (posterior.sum(axis=1) + uniform) / (posterior.shape[1] + 1)  # one uniform pseudo-gene
    posterior = _posterior(prior, likelihood)
    return RateScatter(clusters=clusters @ posterior, relative=relative @ posterior)


def _posterior(prior: np.ndarray, likelihood: np.ndarray) -> np.ndarray:
    posterior = prior[:, None] * likelihood
    return np.asarray(posterior / posterior.sum(axis=0))


def _log_likelihood(means: np.ndarray, counts: np.ndarray, relative: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return the negative binomial log likelihood of each gene and point of the grid, up to a constant: (S, F)."""
    means = np.maximum(np.asarray(means, dtype=np.float64), _MIN_RATE)
    counts = np.asarray(counts, dtype=np.float64)
    values = np.empty((len(relative), means.shape[1]))
    for i, (b, a) in enumerate(zip(relative, clusters, strict=True)):
        shape = means / np.maximum(a + b * means, _MIN_SCATTER)
        terms = gammaln(counts + shape) - gammaln(shape)
        values[i] = (terms - shape * np.log1p(means / shape) - counts * np.log(shape + means)).sum(axis=0)
    return values
