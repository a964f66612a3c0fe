"""Own-slide calibration: how far to trust each expert, decided on the user's own slide.

The slide is coarsened once; its own spots then are known fine pixels. The experts (interpolations and the flow) predict
them, and a geometric pool log r = sum_e w_e(n) log r_e + const is fitted by its posterior mode. The prior, the fleet's,
is how weights were spread over studies that no network had seen; the likelihood is scaled to what the spots agree on.
So a small or noisy slide keeps the fleet's average, the problem is concave, and no optimiser can collapse. Sums of
weights below 1 soften the split towards even.

How surely one set of weights is better than another on the slide's own spots, Phi(gain / its standard error), is how
far the weights go from the other to the one, half-way where the check is silent: from the fleet's to the slide's, and
from a pool without the network, fitted in the same way, to that with it.

Shape legend: N spots, Q pixels, F fields, E experts, J = 2 E weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from napari_srast.geometry.layout import Layout
from napari_srast.models.pooling import MOST_PAIRS, PoolLikelihood, count_depth, information_share, maximise

if TYPE_CHECKING:
    from napari_srast.models.fleet import Fleet, Prior

__all__ = [
    "FLOW",
    "POOL",
    "SHARED",
    "Calibration",
    "Check",
    "calibration_from_dict",
    "fit_calibration",
    "fit_shared",
    "gain_per_gene",
    "pool_ratios",
]

POOL = ("pcfm", "gp_denoised", "gp", "pycnophylactic_denoised", "bilinear", "gp_totals")
"""The experts of the pool, in the order of the weights."""
FLOW = POOL.index("pcfm")
"""Place of the network among them."""
SHARED = ("programs", "totals")
"""The experts of genes that are not split one by one: see :mod:`napari_srast.models.shared`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Weights of the pool.

    Parameters
    ----------
    weights
        Shape (2, E): at no counts, and the change up to 100 counts; linear in log(1 + n), up to 1,000 counts.
    check_weights
        The same for the slide coarsened once, where the experts are worth something else.
    experts
        Names, length E.
    source
        "slide" where it was fitted on the slide itself, "fleet" where it is the average.
    nats, nats_fleet
        Nats per (tempered) count in the check on the slide, with these weights and with the fleet's; NaN for "fleet".
    trust
        How far the weights go from those of a plainer pool, 0, to those of all experts, 1: from the interpolations
        alone to the pool with the network; of maps that genes share, from the even split.
    """

    weights: np.ndarray
    check_weights: np.ndarray
    experts: tuple[str, ...] = POOL
    source: str = "fleet"
    nats: float = float("nan")
    nats_fleet: float = float("nan")
    trust: float = 1.0

    def at(self, n: np.ndarray, *, check: bool = False) -> np.ndarray:
        """Return the weights at counts n (...), shape (..., E); with ``check`` those for the slide coarsened once."""
        weights = self.check_weights if check else self.weights
        return np.asarray(weights[0] + count_depth(n)[..., None] * weights[1])

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the provenance."""
        return {
            "source": self.source,
            "experts": list(self.experts),
            "weights_shallow": self.weights[0].round(5).tolist(),
            "weights_slope": self.weights[1].round(5).tolist(),
            "nats_per_count": self.nats,
            "nats_per_count_fleet": self.nats_fleet,
            "trust_in_network" if self.experts == POOL else "trust": self.trust,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Check:
    """One layout whose pixels are known, with what the experts say of it.

    Parameters
    ----------
    log_experts
        Shape (E, Q, F).
    counts, truth
        Counts of the spots (N, F) and of their pixels (Q, F).
    layout
        Gives each pixel's spot.
    """

    log_experts: np.ndarray
    counts: np.ndarray
    truth: np.ndarray
    layout: Layout

    def likelihood(self, most_pairs: int = MOST_PAIRS) -> PoolLikelihood:
        """Return how well weights explain the pixels."""
        return PoolLikelihood(self.log_experts, self.counts, self.truth, self.layout, most_pairs=most_pairs)


def pool_ratios(
    log_experts: np.ndarray, counts: np.ndarray, layout: Layout, calibration: Calibration, *, check: bool = False
) -> np.ndarray:
    """Pool experts geometrically; returns log ratios, float64, shape (Q, F).

    Parameters
    ----------
    log_experts
        Log ratios of the experts, shape (E, Q, F).
    counts
        Counts of the spots, shape (N, F): they set the depth.
    check
        Whether the layout is the slide coarsened once.
    """
    weight = np.moveaxis(calibration.at(counts, check=check), -1, 0)[:, layout.parent]  # (E, Q, F)
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


def fit_calibration(checks: Sequence[Check], fleet: Fleet) -> Calibration:
    """Fit the pool's weights on a slide coarsened once, perhaps in several ways.

    Parameters
    ----------
    checks
        The coarsened slide, one for each way that it was coarsened.
    fleet
        The prior.

    Returns
    -------
    Calibration
        The fleet's average where nothing can be told or the fit did not converge.
    """
    likelihoods = [check.likelihood() for check in checks]
    mass = sum(one.mass for one in likelihoods)
    if mass <= 0:
        return fleet.calibration
    with_flow = _deviation(likelihoods, fleet.pool)
    without = _deviation([one.without(FLOW) for one in likelihoods], fleet.interpolations)
    if with_flow is None or without is None:
        return fleet.calibration
    interpolations = fleet.interpolations
    low, low_check = _no_flow(interpolations.weights + without), _no_flow(interpolations.check_weights + without)
    high, high_check = fleet.pool.weights + with_flow, fleet.pool.check_weights + with_flow
    trust = _chance_of_gain(likelihoods, high_check.ravel(), low_check.ravel())
    check_weights = low_check + trust * (high_check - low_check)
    return Calibration(
        weights=low + trust * (high - low),
        check_weights=check_weights,
        source="slide",
        nats=sum(one.value(check_weights.ravel()) for one in likelihoods) / mass,
        nats_fleet=sum(one.value(fleet.pool.check_weights.ravel()) for one in likelihoods) / mass,
        trust=trust,
    )


def fit_shared(checks: Sequence[Check], prior: Prior) -> Calibration:
    """Fit the weights of the maps that genes share on a slide coarsened once, perhaps in several ways.

    Parameters
    ----------
    checks
        What :data:`SHARED` say of some genes, one for each way that the slide was coarsened.
    prior
        The fleet's.

    Returns
    -------
    Calibration
        The fleet's average where nothing can be told or the fit did not converge.
    """
    average = Calibration(weights=prior.weights, check_weights=prior.check_weights, experts=SHARED)
    likelihoods = [check.likelihood() for check in checks]
    mass = sum(one.mass for one in likelihoods)
    deviation = _deviation(likelihoods, prior) if mass > 0 else None
    if deviation is None:
        return average
    check_weights = prior.check_weights + deviation
    trust = _chance_of_gain(likelihoods, check_weights.ravel(), np.zeros(check_weights.size))
    check_weights = trust * check_weights
    return Calibration(
        weights=trust * (prior.weights + deviation),
        check_weights=check_weights,
        experts=SHARED,
        source="slide",
        nats=sum(one.value(check_weights.ravel()) for one in likelihoods) / mass,
        nats_fleet=sum(one.value(prior.check_weights.ravel()) for one in likelihoods) / mass,
        trust=trust,
    )


def _deviation(likelihoods: Sequence[PoolLikelihood], prior: Prior) -> np.ndarray | None:
    """Return how far a slide's weights go from the prior's, (2, E); None where the fit did not converge."""
    centre = prior.check_weights.ravel()
    share = information_share(likelihoods, centre, prior.covariance)
    weights, converged = maximise(likelihoods, [share] * len(likelihoods), centre, np.linalg.inv(prior.covariance))
    if not converged:
        return None
    return _chance_of_gain(likelihoods, weights, centre) * (weights - centre).reshape(2, -1)


def _no_flow(weights: np.ndarray) -> np.ndarray:
    """Return weights of the interpolations as weights of all experts, (2, E)."""
    return np.insert(weights, FLOW, 0.0, axis=1)


def _chance_of_gain(likelihoods: Sequence[PoolLikelihood], one: np.ndarray, other: np.ndarray) -> float:
    """Return how surely weights explain the spots better than others do: Phi(gain / its standard error over spots).

    Several ways of coarsening show the same spots again: the error is as of one.
    """
    gains, masses = [], []
    for likelihood in likelihoods:
        better, mass = likelihood.gain_of_spots(one)
        gains.append(better - likelihood.gain_of_spots(other)[0])
        masses.append(mass)
    gain, mass = np.concatenate(gains), np.concatenate(masses)
    mean = gain.sum() / mass.sum()
    error = np.sqrt(len(likelihoods) * ((gain - mean * mass) ** 2).sum()) / mass.sum()
    return float(norm.cdf(mean / error)) if error > 0 else 0.5


def calibration_from_dict(values: Mapping[str, object]) -> Calibration:
    """Rebuild a result's calibration from :meth:`Calibration.to_dict`; the weights for its check are not kept."""
    weights = np.array([values["weights_shallow"], values["weights_slope"]], dtype=float)
    return Calibration(weights=weights, check_weights=weights, experts=tuple(values["experts"]))  # type: ignore[arg-type]
