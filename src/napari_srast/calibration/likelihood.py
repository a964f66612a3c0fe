"""Compute the likelihood of pool weights, given pixels with measured counts, and maximize it.

The pool is log r = sum_j w_j x_j + const within each spot and field. The features x_j are the experts' log ratios, once
unchanged and once times the scaled log count of the spot. The multinomial log-likelihood is concave in w. Counts of
one pair are far from independent, and so are the genes of a spot: the counts of a pair are tempered
(n / (1 + n / 10), as in training), and :func:`curvature_adjustment` estimates a scale of the likelihood from the
scatter of the spots' gradients (the magnitude adjustment of Pauli, Racugno and Ventura 2011 for composite likelihoods).

Shape legend: N spots, Q pixels, F fields, E experts, J = 2 E weights, B spot-field pairs with counts, K pixels per spot
(padded).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["MAX_PAIRS", "PoolLikelihood", "curvature_adjustment", "newton_maximize", "scaled_log_count"]

MAX_PAIRS = 30_000
"""Spot-field pairs that a likelihood uses by default at most."""
_LOG_UNIT = np.log1p(100.0)
_TEMPERING_COUNT = 10.0
_MAX_STEPS = 30
_PAIRS_PER_BATCH = 1024  # few enough to stay in the cache


def scaled_log_count(n: np.ndarray) -> np.ndarray:
    """Return log(1 + n) / log(101): 0 for no counts, 1 for 100, and at most 1.5."""
    return np.minimum(np.log1p(n) / _LOG_UNIT, 1.5)


class PoolLikelihood:
    """Tempered log-likelihood of pool weights on a layout whose pixels have measured counts.

    Parameters
    ----------
    log_experts
        Log ratios of the experts, shape (E, Q, F).
    counts, truth
        Counts of the spots, shape (N, F), and measured counts of their pixels, shape (Q, F).
    layout
        Spots and pixels.
    max_pairs
        Number of spot-field pairs that are used at most, chosen at even intervals; more add little information.
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
        owners, pixels = np.flatnonzero(layout.n_pixels_per_spot), layout.padded_pixels()
        pixel, mask = pixels.pixel_index[owners], pixels.mask[owners]
        measured = layout.membership @ truth
        spot, field = np.nonzero((measured[owners] > 0) & (counts[owners] > 0))
        if len(spot) > max_pairs:
            chosen = np.linspace(0, len(spot) - 1, max_pairs).astype(np.int64)
            spot, field = spot[chosen], field[chosen]
        self._spot, self._mask = spot, mask[spot]
        n = counts[owners][spot, field]
        pair_counts = truth[pixel[spot], field[:, None]] * self._mask
        self._counts = pair_counts / (1 + pair_counts.sum(axis=1, keepdims=True) / _TEMPERING_COUNT)
        self._mass = self._counts.sum(axis=1)
        self._n_pixels = self._mask.sum(axis=1)
        log_ratios = log_experts[:, pixel[spot], field[:, None]].transpose(1, 2, 0) * self._mask[..., None]
        scaled_n = scaled_log_count(n)[:, None, None]
        self._features = np.concatenate([log_ratios, log_ratios * scaled_n], axis=2)  # (B, K, J)

    @property
    def mass(self) -> float:
        """Sum of the tempered counts."""
        return float(self._mass.sum())

    def _shares(self, weights: np.ndarray) -> np.ndarray:
        """Return the pooled ratios, (B, K); 0 for padding."""
        score = np.where(self._mask, self._features @ weights, -np.inf)
        share = np.exp(score - score.max(axis=1, keepdims=True))
        return np.asarray(share / share.sum(axis=1, keepdims=True))

    def without(self, expert: int) -> PoolLikelihood:
        """Return the likelihood of a pool without one expert; its two weights are removed."""
        other = copy.copy(self)
        other._features = np.delete(self._features, [expert, expert + self._features.shape[2] // 2], axis=2)
        return other

    def _gains(self, weights: np.ndarray) -> np.ndarray:
        """Return the nats of each pair over the uniform split, (B,)."""
        gain = np.log(np.maximum(self._shares(weights), 1e-300) * self._n_pixels[:, None])
        return np.asarray((self._counts * np.where(self._mask, gain, 0.0)).sum(axis=1))

    def value(self, weights: np.ndarray) -> float:
        """Return the nats over the uniform split, summed over all pairs."""
        return float(self._gains(weights).sum())

    def gain_of_spots(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the nats over the uniform split, and the tempered counts, of each spot, (N,) each."""
        n_spots = int(self._spot.max(initial=-1)) + 1
        gain, mass = (np.bincount(self._spot, values, n_spots) for values in (self._gains(weights), self._mass))
        return gain, mass

    def derivatives(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the gradient of each spot, (N, J), their sum, (J,), and the negative Hessian, (J, J)."""
        share = self._shares(weights)
        mean = np.matmul(share[:, None], self._features)[:, 0]
        pair_gradient = np.matmul(self._counts[:, None], self._features)[:, 0] - self._mass[:, None] * mean
        gradient = np.zeros((int(self._spot.max(initial=-1)) + 1, len(weights)))
        first = np.flatnonzero(np.diff(self._spot, prepend=-1))  # pairs are sorted by spot
        if len(first):
            gradient[self._spot[first]] = np.add.reduceat(pair_gradient, first)
        curvature = -mean.T @ (self._mass[:, None] * mean)
        root = np.sqrt(share * self._mass[:, None])[..., None]
        for start in range(0, len(root), _PAIRS_PER_BATCH):
            batch = slice(start, start + _PAIRS_PER_BATCH)
            weighted = (self._features[batch] * root[batch]).reshape(-1, len(weights))
            curvature += weighted.T @ weighted
        return gradient, pair_gradient.sum(axis=0), curvature


def curvature_adjustment(likelihoods: Sequence[PoolLikelihood], weights: np.ndarray, covariance: np.ndarray) -> float:
    """Return the scale of the log-likelihoods at which their curvature equals the scatter of the spots' gradients.

    Parameters
    ----------
    likelihoods
        Likelihoods on layouts of one slide.
    weights
        Weights to evaluate at, shape (J,).
    covariance
        Prior covariance of the weights, shape (J, J); directions with a large variance count most.
    """
    curvature, scatter = 0.0, 0.0
    for likelihood in likelihoods:
        gradients, _, hessian = likelihood.derivatives(weights)
        curvature += float(np.trace(covariance @ hessian))
        scatter += float(np.einsum("nj,jl,nl->", gradients, covariance, gradients))
    return min(1.0, curvature / scatter) if scatter > 0 else 0.0


def newton_maximize(
    likelihoods: Sequence[PoolLikelihood], scales: Sequence[float], center: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, bool]:
    """Maximize sum_i scale_i L_i(w) - (w - center)' precision (w - center) / 2 by Newton's method.

    Parameters
    ----------
    likelihoods, scales
        Log-likelihoods L_i and their scales.
    center, precision
        Mean, shape (J,), and precision, shape (J, J), of the normal prior; the search starts at the mean.

    Returns
    -------
    weights, converged
        Weights, shape (J,), and whether the last step gained next to nothing.
    """

    def objective(weights: np.ndarray) -> float:
        value = sum(scale * one.value(weights) for one, scale in zip(likelihoods, scales, strict=True))
        return value - 0.5 * float((weights - center) @ precision @ (weights - center))

    weights, value = center.copy(), objective(center)
    for _ in range(_MAX_STEPS):
        gradient, curvature = -precision @ (weights - center), precision.copy()
        for one, scale in zip(likelihoods, scales, strict=True):
            _, slope, hessian = one.derivatives(weights)
            gradient += scale * slope
            curvature += scale * hessian
        step, length = np.linalg.solve(curvature, gradient), 1.0
        while length > 1e-4 and not objective(weights + length * step) >= value:
            length /= 2
        if length <= 1e-4:
            return weights, float(gradient @ step) < 1e-4 * (1 + abs(value))
        weights = weights + length * step
        gain, value = objective(weights) - value, objective(weights)
        if gain < 1e-7 * (1 + abs(value)):
            return weights, True
    return weights, False
