"""Own-slide calibration: how far to trust each expert, decided on the user's own slide.

The slide is coarsened once; its own spots then are known fine pixels. The experts (interpolations and the flow) predict
them, and a geometric pool log r = sum_e w_e(n) log r_e + const is fitted by its posterior mode. The prior, the fleet's,
is how weights were spread over studies that no network had seen; the likelihood is scaled to what the spots agree on.
So a small or noisy slide keeps the fleet's average, the problem is concave, and no optimiser can collapse. Sums of
weights below 1 soften the split towards even.

The same is done without the network. How surely the pool with it is better on the slide's own spots, Phi(gain / its
standard error), is how far the weights go from the pool without to that with it: half-way where the check is silent.

Shape legend: N spots, Q pixels, F fields, E experts, J = 2 E weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy.stats import norm

from napari_srast.geometry.layout import Layout
from napari_srast.models.pooling import MOST_PAIRS, PoolLikelihood, count_depth, information_share, maximise

__all__ = [
    "POOL",
    "Calibration",
    "Check",
    "Fleet",
    "KnownSlide",
    "Prior",
    "calibration_from_dict",
    "fit_calibration",
    "fit_fleet",
    "gain_per_gene",
    "pool_ratios",
]

POOL = ("pcfm", "gp_denoised", "gp", "pycnophylactic_denoised", "bilinear", "gp_totals")
"""The experts of the pool, in the order of the weights."""
_FLOW = POOL.index("pcfm")
_STUDY_MASS = 100.0  # tempered counts that a study weighs in the fleet's means
_LOOSE = 0.5  # precision around the start: only what no study tells stays there
_ROUNDS = 3
_Told: TypeAlias = Mapping[str, Sequence[Sequence[PoolLikelihood]]]  # of the slides of studies


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Weights of the pool.

    Parameters
    ----------
    weights
        Shape (2, E): at no counts, and the change up to 100 counts; linear in log(1 + n) in between and beyond.
    check_weights
        The same for the slide coarsened once, where the experts are worth something else.
    experts
        Names, length E.
    source
        "slide" where it was fitted on the slide itself, "fleet" where it is the average.
    nats, nats_fleet
        Nats per (tempered) count in the check on the slide, with these weights and with the fleet's; NaN for "fleet".
    trust_in_network
        From 0, the pool of interpolations alone, to 1, the pool with the network.
    """

    weights: np.ndarray
    check_weights: np.ndarray
    experts: tuple[str, ...] = POOL
    source: str = "fleet"
    nats: float = float("nan")
    nats_fleet: float = float("nan")
    trust_in_network: float = 1.0

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
            "trust_in_network": self.trust_in_network,
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """How the weights of some experts are spread over studies.

    Parameters
    ----------
    weights, check_weights
        Means at the slides' own level and for slides coarsened once, shape (2, E) each.
    covariance
        Of the deviation of a slide's weights from the mean, shape (J, J).
    """

    weights: np.ndarray
    check_weights: np.ndarray
    covariance: np.ndarray

    @classmethod
    def around(cls, first: Sequence[float], n_experts: int, variance: float) -> Prior:
        """Return a prior around given weights of the first experts and nothing for the others."""
        weights = np.zeros((2, n_experts))
        weights[0, : len(first)] = first
        return cls(weights=weights, check_weights=weights, covariance=variance * np.eye(weights.size))

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the checkpoint."""
        return {
            "weights": self.weights.round(6).tolist(),
            "check_weights": self.check_weights.round(6).tolist(),
            "covariance": self.covariance.round(8).tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object], n_experts: int) -> Prior:
        """Rebuild from :meth:`to_dict`.

        Raises
        ------
        ValueError
            The values are of another number of experts, not finite, or no covariance.
        """
        weights, check_weights, covariance = (
            np.array(values[name], dtype=float) for name in ("weights", "check_weights", "covariance")
        )
        shapes = (2, n_experts), (2, n_experts), (2 * n_experts, 2 * n_experts)
        if (weights.shape, check_weights.shape, covariance.shape) != shapes:
            raise ValueError("other experts")
        if not all(np.isfinite(array).all() for array in (weights, check_weights, covariance)):
            raise ValueError("weights that are not finite")
        if np.linalg.eigvalsh(covariance).min() <= 0:
            raise ValueError("a covariance that is not positive")
        return cls(weights=weights, check_weights=check_weights, covariance=covariance)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fleet:
    """What other studies taught: the priors of a slide's calibration.

    Parameters
    ----------
    pool
        Of all experts.
    interpolations
        Of the pool without the network.
    """

    pool: Prior
    interpolations: Prior

    @property
    def calibration(self) -> Calibration:
        """The average, for a slide that cannot be coarsened."""
        return Calibration(weights=self.pool.weights, check_weights=self.pool.check_weights)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the checkpoint."""
        return {
            "experts": list(POOL),
            "pool": self.pool.to_dict(),
            "interpolations": self.interpolations.to_dict(),
        }

    @classmethod
    def untried(cls) -> Fleet:
        """Return the priors of a network that was scored on nothing: mostly the flow, and loosely so."""
        return cls(
            pool=Prior.around([0.6, 0.2], len(POOL), 0.1), interpolations=Prior.around([0.8], len(POOL) - 1, 0.1)
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fleet:
        """Rebuild from :meth:`to_dict`.

        Raises
        ------
        ValueError
            The values are of other experts, not finite, or no covariance.
        """
        if tuple(values["experts"]) != POOL:
            raise ValueError("other experts")
        return cls(
            pool=Prior.from_dict(values["pool"], len(POOL)),
            interpolations=Prior.from_dict(values["interpolations"], len(POOL) - 1),
        )


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
    without = _deviation([one.without(_FLOW) for one in likelihoods], fleet.interpolations)
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
        trust_in_network=trust,
    )


def _deviation(likelihoods: Sequence[PoolLikelihood], prior: Prior) -> np.ndarray | None:
    """Return by how much a slide's weights differ from the prior's, (2, E); None where the fit did not converge."""
    centre = prior.check_weights.ravel()
    share = information_share(likelihoods, centre, prior.covariance)
    weights, converged = maximise(likelihoods, [share] * len(likelihoods), centre, np.linalg.inv(prior.covariance))
    return (weights - centre).reshape(2, -1) if converged else None


def _no_flow(weights: np.ndarray) -> np.ndarray:
    """Return weights of the interpolations as weights of all experts, (2, E)."""
    return np.insert(weights, _FLOW, 0.0, axis=1)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownSlide:
    """A slide whose fine truth is known: what explains its own pixels, and its spots when it is coarsened once more."""

    own: PoolLikelihood
    above: Sequence[PoolLikelihood]


def fit_fleet(studies: Mapping[str, Sequence[KnownSlide]], start: Fleet) -> Fleet:
    """Learn from studies that the networks had not seen how weights are spread (empirical Bayes).

    Every study weighs the same. The means maximise the likelihood of all studies together; the covariance of the
    slides' deviations comes of a few rounds of expectation maximisation with Laplace's approximation, and is drawn
    towards its diagonal.

    Parameters
    ----------
    studies
        For each study its slides.
    start
        Where what nobody tells stays.
    """
    own = {name: [[slide.own] for slide in slides] for name, slides in studies.items()}
    above = {name: [slide.above for slide in slides] for name, slides in studies.items()}

    def others(told: _Told) -> _Told:
        return {name: [[one.without(_FLOW) for one in parts] for parts in slides] for name, slides in told.items()}

    return Fleet(
        pool=_fit_prior(own, above, start.pool),
        interpolations=_fit_prior(others(own), others(above), start.interpolations),
    )


def _fit_prior(own: _Told, above: _Told, start: Prior) -> Prior:
    """Fit the prior of one pool; see :func:`fit_fleet`."""
    weights, check_weights = _mean_weights(own, start.weights), _mean_weights(above, start.check_weights)
    centre, covariance = check_weights.ravel(), start.covariance
    for _ in range(_ROUNDS):
        precision = np.linalg.inv(covariance)
        spread, n_studies = np.zeros_like(covariance), 0
        for slides in above.values():
            told = [checks for checks in slides if sum(one.mass for one in checks) > 0]
            n_studies += bool(told)
            for checks in told:
                share = information_share(checks, centre, covariance)
                mode, _ = maximise(checks, [share] * len(checks), centre, precision)
                curvature = precision + share * sum(one.derivatives(mode)[2] for one in checks)
                deviation = mode - centre
                spread += (np.outer(deviation, deviation) + np.linalg.inv(curvature)) / len(told)
        if n_studies == 0:
            break
        covariance = spread / n_studies
        covariance = 0.7 * covariance + 0.3 * np.diag(np.diag(covariance)) + 1e-4 * np.eye(len(covariance))
    return Prior(weights=weights, check_weights=check_weights, covariance=covariance)


def _mean_weights(studies: _Told, start: np.ndarray) -> np.ndarray:
    """Return the weights that serve all studies best, each slide of a study and each study weighing the same."""
    likelihoods: list[PoolLikelihood] = []
    scales: list[float] = []
    for slides in studies.values():
        for parts in slides:
            mass = sum(one.mass for one in parts)
            if mass > 0:
                likelihoods += parts
                scales += [_STUDY_MASS / len(slides) / mass] * len(parts)
    weights, _ = maximise(likelihoods, scales, start.ravel(), _LOOSE * np.eye(start.size))
    return weights.reshape(start.shape)


def calibration_from_dict(values: Mapping[str, object]) -> Calibration:
    """Rebuild a result's calibration from :meth:`Calibration.to_dict`; the weights for its check are not kept."""
    weights = np.array([values["weights_shallow"], values["weights_slope"]], dtype=float)
    return Calibration(weights=weights, check_weights=weights, experts=tuple(values["experts"]))  # type: ignore[arg-type]
