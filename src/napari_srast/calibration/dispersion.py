"""Fit the dispersion of true counts around predicted ratios: a Dirichlet-multinomial with one concentration per slide.

The counts y of a spot's K pixels, n in all, are Dirichlet-multinomial around the predicted ratios r with concentration
A: y | p ~ Multinomial(n, p), p ~ Dirichlet(A r) (Mosimann 1962, doi:10.1093/biomet/49.1-2.65). Then

    E[y] = n r,    Var[y] = n r (1 - r) (n + A) / (1 + A),

which is between the variance of a multinomial (A infinite: the ratios are exact) and n^2 r (1 - r) (A = 0: all counts
are in one pixel). A includes all deviations from the ratios, biological or not, so that intervals and standard
deviations of y follow from one number, and sampled counts still add up to n. It is fitted by maximum likelihood on the
coarsened slide, where the true counts are known.

Shape legend: N spots, Q pixels, F fields, K pixels per spot, B spot-field pairs, E pixels with counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import digamma, gammaln

from napari_srast.calibration.count_sampling import SampleKeys, sample_counts
from napari_srast.calibration.likelihood import scaled_log_count
from napari_srast.calibration.pooling import PoolWeights, pool_ratios
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = [
    "DEFAULT_CONCENTRATION",
    "LEVEL_STEP",
    "Concentration",
    "Prediction",
    "fit_concentration",
    "fit_holdout_concentration",
]

Prediction = tuple[np.ndarray, np.ndarray, SpotPixelMap]
"""Predicted log ratios, shape (Q, F), true counts, shape (Q, F), and their layout."""

_MIN_LOG_A, _MAX_LOG_A = -1.0, 8.0
_PRIOR_SD = np.array([1.0, 0.5])
_MAX_PAIRS = 50_000


@dataclass(frozen=True, kw_only=True)
class Concentration:
    """Concentration A of a slide, log-linear in the count of a spot: log A = log_at_zero + slope log(1 + n) / log(101).

    Parameters
    ----------
    log_at_zero
        log A for no counts.
    slope
        Change of log A from no counts to 100.

    Examples
    --------
    >>> import numpy as np
    >>> concentration = Concentration(log_at_zero=np.log(9.0), slope=0.0)
    >>> concentration.at(np.array([1.0, 50.0])).round(6)
    array([9., 9.])
    >>> concentration.std(np.array([0.5, 0.5]), np.array([1.0, 91.0]))
    array([ 0.5       , 15.08310313])
    """

    log_at_zero: float
    slope: float

    def at(self, n: np.ndarray) -> np.ndarray:
        """Return A for spots with ``n`` counts, in the shape of ``n``."""
        return np.exp(np.clip(self.log_at_zero + self.slope * scaled_log_count(n), _MIN_LOG_A, _MAX_LOG_A))

    def std(self, ratio: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Return the standard deviation of true counts around their mean ``n * ratio``.

        Up to one count it is that of a single count, which is in one pixel or another for any A.

        Parameters
        ----------
        ratio
            Predicted ratios of pixels, any shape.
        n
            Counts of their spots, same shape.
        """
        a = self.at(n)
        ratio = np.clip(ratio, 0.0, 1.0)
        return np.sqrt(n * ratio * (1 - ratio) * (np.maximum(n, 1.0) + a) / (1 + a))

    def sample(
        self, ratio: np.ndarray, counts: np.ndarray, layout: SpotPixelMap, seed: int, keys: SampleKeys | None = None
    ) -> sparse.csc_matrix:
        """Sample integer counts of pixels from the Dirichlet-multinomial.

        Parameters
        ----------
        ratio
            Predicted ratios, shape (Q, F).
        counts
            Integer counts of the spots, shape (N, F).
        layout, seed, keys
            As for :func:`napari_srast.calibration.count_sampling.sample_counts`.

        Returns
        -------
        scipy.sparse.csc_matrix
            Counts of the pixels, shape (Q, F).
        """
        return sample_counts(ratio, counts, layout, seed, keys=keys, concentration=self.at(counts))

    def finer(self) -> Concentration:
        """Convert the concentration of the coarsened slide to that of the slide's own pixels, by :data:`LEVEL_STEP`."""
        return Concentration(log_at_zero=self.log_at_zero + LEVEL_STEP, slope=self.slope)

    def to_dict(self) -> dict[str, float]:
        """Return plain values for the provenance."""
        return {
            "log_concentration_shallow": round(self.log_at_zero, 5),
            "log_concentration_slope": round(self.slope, 5),
        }


LEVEL_STEP = -0.5
"""Difference in log A between the slide's own pixels and those of the coarsened slide.

Fine pixels have fewer cells, so their counts vary more. The value is the median over pseudo-slides whose fine counts
are known; docs/results/uncertainty.md has its distribution and the command.
"""
DEFAULT_CONCENTRATION = Concentration(log_at_zero=1.9, slope=0.6)
"""Concentration of a typical coarsened slide: the prior mean of a fit, and the value for slides that are too small."""


def fit_concentration(predictions: Sequence[Prediction], prior: Concentration = DEFAULT_CONCENTRATION) -> Concentration:
    """Fit the concentration to predictions with known counts, by penalized maximum likelihood.

    Parameters
    ----------
    predictions
        Predicted log ratios, true counts and layout, one for each variant in which the slide was coarsened.
    prior
        Prior mean of the fit, with the weight of a few dozen counts.

    Returns
    -------
    Concentration
        Concentration at the level of the predictions; the prior if no spot has two counts of a field.
    """
    pairs = [pair for pair in starmap(_pairs, predictions) if len(pair[0])]
    if not pairs:
        return prior
    start = np.array([prior.log_at_zero, prior.slope])

    def value_and_slope(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = 0.5 * float((((x - start) / _PRIOR_SD) ** 2).sum()), (x - start) / _PRIOR_SD**2
        for n, y, ratio, pair in pairs:
            scaled_n = scaled_log_count(n)
            a = np.exp(np.clip(x[0] + x[1] * scaled_n, _MIN_LOG_A, _MAX_LOG_A))
            alpha = a[pair] * ratio
            value -= float((gammaln(y + alpha) - gammaln(alpha)).sum() - (gammaln(n + a) - gammaln(a)).sum())
            by_pair = np.bincount(pair, ratio * (digamma(y + alpha) - digamma(alpha)), minlength=len(n))
            by_log = a * (by_pair - digamma(n + a) + digamma(a))
            slope = slope - np.array([by_log.sum(), by_log @ scaled_n])
        return value, slope

    fit = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", bounds=[(_MIN_LOG_A, _MAX_LOG_A), (-2.0, 2.0)])
    if not np.isfinite(fit.fun):
        return prior
    return Concentration(log_at_zero=float(fit.x[0]), slope=float(fit.x[1]))


def fit_holdout_concentration(predictions: Sequence[HoldoutPredictions], weights: PoolWeights) -> Concentration:
    """Fit the concentration on the coarsened slide, and return it for the slide's own pixels.

    Parameters
    ----------
    predictions
        Predictions on the coarsened slide, one for each variant in which it was coarsened; none for a slide that is too
        small.
    weights
        Weights of the pool that counts scatter around.
    """
    pooled = [
        (pool_ratios(one.log_experts, one.counts, one.layout, weights, level="coarse"), one.truth, one.layout)
        for one in predictions
    ]
    return fit_concentration(pooled).finer()


def _pairs(
    log_ratio: np.ndarray, truth: np.ndarray, layout: SpotPixelMap
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the counts (B,) of pairs with at least two, and counts, ratios and pairs (E,) of their pixels with any."""
    n = layout.membership @ truth
    spot, field = np.nonzero(n >= 2)
    step = max(1, -(-len(spot) // _MAX_PAIRS))  # a subset at even intervals is enough for a large slide
    spot, field = spot[::step], field[::step]
    index = np.full(n.shape, -1)
    index[spot, field] = np.arange(len(spot))
    pixel, column = np.nonzero((truth > 0) & (index[layout.parent] >= 0))
    ratio = np.maximum(np.exp(log_ratio[pixel, column]), 1e-6)
    return n[spot, field], truth[pixel, column], ratio, index[layout.parent[pixel], column]
