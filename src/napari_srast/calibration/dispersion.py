"""How far true counts scatter around the predicted split: a Dirichlet-multinomial whose spread the slide itself tells.

The counts y of a spot's K pixels, n in all, are taken as Dirichlet-multinomial around the predicted ratios r with a
concentration A: y | p ~ Multinomial(n, p), p ~ Dirichlet(A r) (Mosimann 1962, doi:10.1093/biomet/49.1-2.65). Then

    E[y] = n r,    Var[y] = n r (1 - r) (n + A) / (1 + A),

between a multinomial's variance (A infinite: the ratios are exact) and n^2 r (1 - r) (A = 0: everything lies in one
pixel). A absorbs whatever the ratios miss, be it biology or error, so intervals and standard deviations of y follow
from one number, and counts drawn so still add up to n. It is fitted by maximum likelihood where the truth is known: on
the slide coarsened once.

Shape legend: N spots, Q pixels, F fields, K pixels of a spot, B pairs of a spot and a field, E pixels with counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import digamma, gammaln

from napari_srast.calibration.count_sampling import SampleKeys, draw_counts
from napari_srast.calibration.likelihood import scaled_log_count
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.weights import PoolWeights, pool_ratios
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
"""Predicted log ratios (Q, F), true counts (Q, F), and their layout."""

_LEAST, _MOST = -1.0, 8.0  # of log A
_PRIOR_SD = np.array([1.0, 0.5])
_MOST_PAIRS = 50_000


@dataclass(frozen=True, kw_only=True)
class Concentration:
    """The concentration A of a slide, log-linear in the depth: log A = shallow + slope log(1 + n) / log(101).

    Parameters
    ----------
    shallow
        log A at no counts.
    slope
        Change of log A up to 100 counts.

    Examples
    --------
    >>> import numpy as np
    >>> known = Concentration(shallow=np.log(9.0), slope=0.0)
    >>> known.at(np.array([1.0, 50.0])).round(6)
    array([9., 9.])
    >>> known.std(np.array([0.5]), np.array([1.0])), known.std(np.array([0.5]), np.array([91.0]))
    (array([0.5]), array([15.08310313]))
    """

    shallow: float
    slope: float

    def at(self, n: np.ndarray) -> np.ndarray:
        """Return A for spots with n counts, same shape."""
        return np.exp(np.clip(self.shallow + self.slope * scaled_log_count(n), _LEAST, _MOST))

    def std(self, ratio: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Return the standard deviation of true counts around n r, for pixels with ratios r in spots with n counts.

        Up to one count it is that of a count which lies in one pixel or another, whatever A is.
        """
        a = self.at(n)
        ratio = np.clip(ratio, 0.0, 1.0)
        return np.sqrt(n * ratio * (1 - ratio) * (np.maximum(n, 1.0) + a) / (1 + a))

    def draw(
        self, ratio: np.ndarray, counts: np.ndarray, layout: SpotPixelMap, seed: int, keys: SampleKeys | None = None
    ) -> sparse.csc_matrix:
        """Draw whole counts of pixels as they might truly be, shape (Q, F).

        Parameters
        ----------
        ratio
            Predicted ratios, shape (Q, F).
        counts
            Counts of the spots, whole, shape (N, F).
        layout, seed, keys
            As for :func:`napari_srast.calibration.count_sampling.draw_counts`.
        """
        return draw_counts(ratio, counts, layout, seed, keys=keys, concentration=self.at(counts))

    def finer(self) -> Concentration:
        """Return the concentration one level down, for the slide's own pixels: see :data:`LEVEL_STEP`."""
        return Concentration(shallow=self.shallow + LEVEL_STEP, slope=self.slope)

    def to_dict(self) -> dict[str, float]:
        """Return plain values for the provenance."""
        return {"log_concentration_shallow": round(self.shallow, 5), "log_concentration_slope": round(self.slope, 5)}


LEVEL_STEP = -0.5
"""Fine pixels hold fewer cells than the coarse ones of the check, so counts scatter more: log A is less by so much.

The median over pseudo-slides whose fine truth is known; docs/results/uncertainty.md has the spread and the command.
"""
DEFAULT_CONCENTRATION = Concentration(shallow=1.9, slope=0.6)
"""Of a middling slide's check: what fits are drawn to, and what a slide too small for a check is given."""


def fit_concentration(predictions: Sequence[Prediction], prior: Concentration = DEFAULT_CONCENTRATION) -> Concentration:
    """Fit the concentration where the truth is known, by penalized maximum likelihood.

    Parameters
    ----------
    predictions
        For each check of a slide: predicted log ratios (Q, F), true counts of the pixels (Q, F), and the layout.
    prior
        What the fit is drawn to, by as much as few dozen counts: see there.

    Returns
    -------
    Concentration
        At the level of the checks; the prior where no spot has two counts of a field.
    """
    pairs = [found for found in starmap(_pairs, predictions) if len(found[0])]
    if not pairs:
        return prior
    start = np.array([prior.shallow, prior.slope])

    def value_and_slope(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = 0.5 * float((((x - start) / _PRIOR_SD) ** 2).sum()), (x - start) / _PRIOR_SD**2
        for n, y, ratio, pair in pairs:
            depth = scaled_log_count(n)
            a = np.exp(np.clip(x[0] + x[1] * depth, _LEAST, _MOST))
            alpha = a[pair] * ratio
            value -= float((gammaln(y + alpha) - gammaln(alpha)).sum() - (gammaln(n + a) - gammaln(a)).sum())
            by_pair = np.bincount(pair, ratio * (digamma(y + alpha) - digamma(alpha)), minlength=len(n))
            by_log = a * (by_pair - digamma(n + a) + digamma(a))
            slope = slope - np.array([by_log.sum(), by_log @ depth])
        return value, slope

    fit = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", bounds=[(_LEAST, _MOST), (-2.0, 2.0)])
    if not np.isfinite(fit.fun):
        return prior
    return Concentration(shallow=float(fit.x[0]), slope=float(fit.x[1]))


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
    step = max(1, -(-len(spot) // _MOST_PAIRS))  # evenly spread ones are enough of a large slide
    spot, field = spot[::step], field[::step]
    index = np.full(n.shape, -1)
    index[spot, field] = np.arange(len(spot))
    pixel, column = np.nonzero((truth > 0) & (index[layout.parent] >= 0))
    ratio = np.maximum(np.exp(log_ratio[pixel, column]), 1e-6)
    return n[spot, field], truth[pixel, column], ratio, index[layout.parent[pixel], column]
