"""How well weights of experts explain known pixels: a convex problem, its curvature, and how much spots agree on it.

The pool is log r = sum_j w_j x_j + const within each spot and field, with x_j the experts' log ratios, once as they are
and once times the count depth. Its multinomial log-likelihood is concave in w. Counts of one pair are far from
independent, nor are the genes of a spot: pairs are tempered (n / (1 + n / 10), as in training), and
:func:`curvature_adjustment` tells from the scatter of the spots' gradients what part of the likelihood may be believed
(the magnitude adjustment of Pauli, Racugno and Ventura 2011 for composite likelihoods).

Shape legend: N spots, Q pixels, F fields, E experts, J = 2 E weights, B pairs of a spot and a field that holds counts,
K pixels of a spot (padded, masked).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["MAX_PAIRS", "PoolLikelihood", "curvature_adjustment", "newton_maximize", "scaled_log_count"]

_DEEP = np.log1p(100.0)
_TEMPER = 10.0
_MOST_STEPS = 30
_PAIRS_AT_ONCE = 1024  # a part that stays in the cache
MAX_PAIRS = 30_000


def scaled_log_count(n: np.ndarray) -> np.ndarray:
    """Return the depth of counts: 0 at none, 1 at 100, linear in log(1 + n), at most 1.5."""
    return np.minimum(np.log1p(n) / _DEEP, 1.5)


class PoolLikelihood:
    """Tempered log-likelihood of weights on one layout whose pixels are known.

    Parameters
    ----------
    log_experts
        Log ratios of the experts, shape (E, Q, F).
    counts, truth
        Counts of the spots (N, F) and of their pixels (Q, F).
    layout
        Gives each pixel's spot.
    most_pairs
        Of more pairs an even choice is looked at: what the others say is mostly the same.
    """

    def __init__(
        self,
        log_experts: np.ndarray,
        counts: np.ndarray,
        truth: np.ndarray,
        layout: SpotPixelMap,
        *,
        max_pairs: int = MAX_PAIRS,
    ) -> None:
        owners = np.flatnonzero(layout.n_pixels_per_spot)
        n_pixels = layout.n_pixels_per_spot[owners]
        order = np.argsort(layout.parent, kind="stable")
        starts = np.cumsum(n_pixels) - n_pixels
        slot = np.arange(n_pixels.max(initial=1))
        mask = slot < n_pixels[:, None]
        pixel = order[np.where(mask, starts[:, None] + slot, 0)]
        held = layout.membership @ truth
        spot, field = np.nonzero((held[owners] > 0) & (counts[owners] > 0))
        if len(spot) > max_pairs:
            some = np.linspace(0, len(spot) - 1, max_pairs).astype(np.int64)
            spot, field = spot[some], field[some]
        self._spot, self._mask = spot, mask[spot]
        n = counts[owners][spot, field]
        known = truth[pixel[spot], field[:, None]] * self._mask
        self._known = known / (1 + known.sum(axis=1, keepdims=True) / _TEMPER)
        self._mass = self._known.sum(axis=1)
        self._n_pixels = self._mask.sum(axis=1)
        told = log_experts[:, pixel[spot], field[:, None]].transpose(1, 2, 0) * self._mask[..., None]
        self._features = np.concatenate([told, told * scaled_log_count(n)[:, None, None]], axis=2)  # (B, K, J)

    @property
    def mass(self) -> float:
        """Sum of the tempered counts."""
        return float(self._mass.sum())

    def _shares(self, weights: np.ndarray) -> np.ndarray:
        score = np.where(self._mask, self._features @ weights, -np.inf)
        share = np.exp(score - score.max(axis=1, keepdims=True))
        return np.asarray(share / share.sum(axis=1, keepdims=True))

    def without(self, expert: int) -> PoolLikelihood:
        """Return the same without one of the experts; weights have its two entries less."""
        other = copy.copy(self)
        other._features = np.delete(self._features, [expert, expert + self._features.shape[2] // 2], axis=2)
        return other

    def _gains(self, weights: np.ndarray) -> np.ndarray:
        gain = np.log(np.maximum(self._shares(weights), 1e-300) * self._n_pixels[:, None])
        return np.asarray((self._known * np.where(self._mask, gain, 0.0)).sum(axis=1))

    def value(self, weights: np.ndarray) -> float:
        """Return nats gained over the even split, summed."""
        return float(self._gains(weights).sum())

    def gain_of_spots(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each spot's nats gained over the even split, and its tempered counts, shape (N',) each."""
        n_spots = int(self._spot.max(initial=-1)) + 1
        gain, mass = (np.bincount(self._spot, values, n_spots) for values in (self._gains(weights), self._mass))
        return gain, mass

    def derivatives(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return each spot's gradient (N', J), their sum (J,), and the negative curvature (J, J)."""
        share = self._shares(weights)
        mean = np.matmul(share[:, None], self._features)[:, 0]
        of_pairs = np.matmul(self._known[:, None], self._features)[:, 0] - self._mass[:, None] * mean
        gradient = np.zeros((int(self._spot.max(initial=-1)) + 1, len(weights)))
        first = np.flatnonzero(np.diff(self._spot, prepend=-1))  # pairs are in order of their spots
        if len(first):
            gradient[self._spot[first]] = np.add.reduceat(of_pairs, first)
        spread = -mean.T @ (self._mass[:, None] * mean)
        root = np.sqrt(share * self._mass[:, None])[..., None]
        for start in range(0, len(root), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            weighted = (self._features[part] * root[part]).reshape(-1, len(weights))
            spread += weighted.T @ weighted
        return gradient, of_pairs.sum(axis=0), spread


def curvature_adjustment(likelihoods: Sequence[PoolLikelihood], weights: np.ndarray, covariance: np.ndarray) -> float:
    """Return by how much log-likelihoods must be scaled so that their curvature equals the scatter of the spots.

    Parameters
    ----------
    likelihoods
        Of layouts of one slide.
    weights
        Where to look, shape (J,).
    covariance
        Prior covariance of the weights (J, J): directions that it leaves open count most.
    """
    curved, scattered = 0.0, 0.0
    for likelihood in likelihoods:
        of_spots, _, curvature = likelihood.derivatives(weights)
        curved += float(np.trace(covariance @ curvature))
        scattered += float(np.einsum("nj,jl,nl->", of_spots, covariance, of_spots))
    return min(1.0, curved / scattered) if scattered > 0 else 0.0


def newton_maximize(
    likelihoods: Sequence[PoolLikelihood], scales: Sequence[float], center: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, bool]:
    """Maximize sum_i scale_i L_i(w) - (w - center)' precision (w - center) / 2 by Newton's method.

    Returns
    -------
    weights, converged
        Shape (J,), and whether the last step gained next to nothing.
    """

    def objective(weights: np.ndarray) -> float:
        told = sum(scale * one.value(weights) for one, scale in zip(likelihoods, scales, strict=True))
        return told - 0.5 * float((weights - center) @ precision @ (weights - center))

    weights, value = center.copy(), objective(center)
    for _ in range(_MOST_STEPS):
        gradient, curvature = -precision @ (weights - center), precision.copy()
        for one, scale in zip(likelihoods, scales, strict=True):
            _, slope, curved = one.derivatives(weights)
            gradient += scale * slope
            curvature += scale * curved
        step, length = np.linalg.solve(curvature, gradient), 1.0
        while length > 1e-4 and not objective(weights + length * step) >= value:
            length /= 2
        if length <= 1e-4:
            return weights, float(gradient @ step) < 1e-4 * (1 + abs(value))
        weights = weights + length * step
        gained, value = objective(weights) - value, objective(weights)
        if gained < 1e-7 * (1 + abs(value)):
            return weights, True
    return weights, False
