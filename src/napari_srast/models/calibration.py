"""Own-slide calibration: how far to trust each expert, decided on the user's own slide.

The slide is coarsened once; its own spots then are known fine pixels. The experts (interpolations and the flow) predict
them, and a geometric pool log r = sum_e w_e(n) log r_e + const is fitted by penalised maximum likelihood. The weights
are linear in the count depth, the problem is convex, and the penalty draws towards the fleet's average, so a small or
noisy slide keeps the average and no optimiser can collapse. Sums of weights below 1 soften the split towards even.

Shape legend: N spots, Q pixels, F fields, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from napari_srast.geometry.layout import Layout

__all__ = ["POOL", "Calibration", "fit_calibration", "gain_per_gene", "pool_ratios"]

POOL = ("pcfm", "gp_denoised", "gp", "pycnophylactic_denoised", "bilinear", "gp_totals")
"""The experts of the pool, in the order of the weights."""
_DEEP = np.log1p(100.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Weights of the pool.

    Parameters
    ----------
    weights
        Shape (2, E): at no counts, and the change up to 100 counts; linear in log(1 + n) in between and beyond.
    experts
        Names, length E.
    source
        "slide" where it was fitted on the slide itself, "fleet" where it is the average.
    nats, nats_fleet
        Nats per count in the check on the slide, with these weights and with the fleet's; NaN for "fleet".
    """

    weights: np.ndarray
    experts: tuple[str, ...] = POOL
    source: str = "fleet"
    nats: float = float("nan")
    nats_fleet: float = float("nan")

    def at(self, n: np.ndarray) -> np.ndarray:
        """Return the weights at counts n (...), shape (..., E), none below 0."""
        depth = np.minimum(np.log1p(n) / _DEEP, 1.5)[..., None]
        return np.maximum(self.weights[0] + depth * self.weights[1], 0.0)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the provenance."""
        return {
            "source": self.source,
            "experts": list(self.experts),
            "weights_shallow": self.weights[0].round(5).tolist(),
            "weights_slope": self.weights[1].round(5).tolist(),
            "nats_per_count": self.nats,
            "nats_per_count_fleet": self.nats_fleet,
        }


def pool_ratios(log_experts: np.ndarray, counts: np.ndarray, layout: Layout, calibration: Calibration) -> np.ndarray:
    """Pool experts geometrically; returns log ratios, float64, shape (Q, F).

    Parameters
    ----------
    log_experts
        Log ratios of the experts, shape (E, Q, F).
    counts
        Counts of the spots, shape (N, F): they set the depth.
    """
    weight = np.moveaxis(calibration.at(counts), -1, 0)[:, layout.parent]  # (E, Q, F)
    return _log_normalise(np.einsum("eqf,eqf->qf", weight, log_experts), layout)


def _log_normalise(score: np.ndarray, layout: Layout) -> np.ndarray:
    """Return score - log sum exp over each spot's pixels."""
    peak = np.full((layout.n_spots, score.shape[1]), -np.inf)
    np.maximum.at(peak, layout.parent, score)
    shifted = score - peak[layout.parent]
    total = layout.membership @ np.exp(shifted)
    return shifted - np.log(np.maximum(total, 1e-300))[layout.parent]  # spots without pixels are never looked up


def gain_per_gene(log_ratio: np.ndarray, truth: np.ndarray, layout: Layout) -> np.ndarray:
    """Return nats per count over the even split of each field, sum y log(K r) / sum y, (F,); NaN without counts."""
    log_even = np.log(layout.n_pixels_of_spot[layout.parent])[:, None]
    total = truth.sum(axis=0)
    gain = (truth * (log_ratio + log_even)).sum(axis=0)
    return np.where(total > 0, gain / np.where(total > 0, total, 1), np.nan)


def fit_calibration(
    log_experts: np.ndarray,
    counts: np.ndarray,
    truth: np.ndarray,
    layout: Layout,
    prior: Calibration,
    *,
    strength: float = 200.0,
) -> Calibration:
    """Fit the pool's weights on a slide coarsened once.

    Parameters
    ----------
    log_experts
        Log ratios of the experts on the coarsened layout, shape (E, Q, F).
    counts, truth
        Counts of the coarse spots (N, F) and of their pixels (Q, F).
    prior
        The fleet's weights.
    strength
        The penalty on a weight's squared distance from the fleet's, in effective counts.

    Returns
    -------
    Calibration
        The fleet's where the fit did not converge or did not gain.
    """
    log_even = np.log(layout.n_pixels_of_spot[layout.parent])[:, None]
    spot_counts = counts[layout.parent]
    # Counts of one pair are far from independent: deep pairs are tempered as in training.
    y = truth / (1 + spot_counts / 10.0)
    total = y.sum()
    if total <= 0:
        return prior
    depth = np.minimum(np.log1p(spot_counts) / _DEEP, 1.5)
    n_experts = len(log_experts)
    mass = layout.membership @ y

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(2, n_experts)
        score = np.einsum("e,eqf->qf", weights[0], log_experts)
        score += depth * np.einsum("e,eqf->qf", weights[1], log_experts)
        log_ratio = _log_normalise(score, layout)
        value = -(y * (log_ratio + log_even)).sum()
        residual = np.exp(log_ratio) * mass[layout.parent] - y
        slope = np.stack(
            [np.einsum("qf,eqf->e", residual, log_experts), np.einsum("qf,eqf->e", residual * depth, log_experts)]
        )
        distance = weights - prior.weights
        value += 0.5 * strength * (distance**2).sum()
        return float(value), (slope + strength * distance).ravel()

    bounds = [(0.0, 2.0)] * n_experts + [(-1.0, 1.0)] * n_experts
    fit = minimize(
        value_and_slope, prior.weights.ravel(), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}
    )
    fitted = Calibration(weights=fit.x.reshape(2, n_experts), experts=prior.experts, source="slide")
    gains = []
    for candidate in (fitted, prior):
        gain = pool_ratios(log_experts, counts, layout, candidate) + log_even
        gains.append(float((y * gain).sum() / total))
    if not np.isfinite(fit.fun) or gains[0] < gains[1]:
        fitted = prior
    return Calibration(
        weights=fitted.weights, experts=prior.experts, source="slide", nats=max(gains), nats_fleet=gains[1]
    )


def mean_calibration(calibrations: Sequence[Calibration]) -> Calibration:
    """Average the weights of several slides: the fleet's."""
    return Calibration(weights=np.mean([c.weights for c in calibrations], axis=0), experts=calibrations[0].experts)


def calibration_from_dict(values: Mapping[str, object]) -> Calibration:
    """Rebuild a calibration from :meth:`Calibration.to_dict`."""
    weights = np.array([values["weights_shallow"], values["weights_slope"]], dtype=float)
    return Calibration(weights=weights, experts=tuple(values["experts"]))  # type: ignore[arg-type]
