"""The fleet: what studies that no network had seen taught of how far to trust each expert, a slide's prior.

Shape legend: E experts, J = 2 E weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from napari_srast.calibration.likelihood import PoolLikelihood, curvature_adjustment, newton_maximize
from napari_srast.calibration.weights import EXPERT_NAMES, FLOW, PROGRAM_EXPERT_NAMES, PoolWeights

__all__ = ["CalibrationPriors", "LabeledSlide", "WeightPrior", "fit_prior", "fit_priors"]

_STUDY_MASS = 100.0  # tempered counts that a study weighs in the fleet's means
_LOOSE = 0.5  # precision around the start: only what no study tells stays there
_ROUNDS = 3
_LARGEST = 1e6  # weight that is read back; a weight is of the order of 1
_Told: TypeAlias = Mapping[str, Sequence[Sequence[PoolLikelihood]]]  # of the slides of studies


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightPrior:
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
    def around(cls, first: Sequence[float], n_experts: int, variance: float) -> WeightPrior:
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
    def from_dict(cls, values: Mapping[str, object], n_experts: int) -> WeightPrior:
        """Rebuild from :meth:`to_dict`.

        Raises
        ------
        ValueError
            The values are of another number of experts, not finite, too large, or no covariance.
        """
        weights, check_weights, covariance = (
            np.array(values[name], dtype=float) for name in ("weights", "check_weights", "covariance")
        )
        shapes = (2, n_experts), (2, n_experts), (2 * n_experts, 2 * n_experts)
        if (weights.shape, check_weights.shape, covariance.shape) != shapes:
            raise ValueError("other experts")
        if not all(np.isfinite(array).all() for array in (weights, check_weights, covariance)):
            raise ValueError("weights that are not finite")
        if any(np.abs(array).max() > _LARGEST for array in (weights, check_weights, covariance)):
            raise ValueError("weights beyond all use")
        if np.linalg.eigvalsh(covariance).min() <= 0:
            raise ValueError("a covariance that is not positive")
        return cls(weights=weights, check_weights=check_weights, covariance=covariance)


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationPriors:
    """What other studies taught: the priors of a slide's calibration.

    Parameters
    ----------
    pool
        Of all experts.
    interpolations
        Of the pool without the network.
    shared
        Of the maps that genes share.
    """

    pool: WeightPrior
    interpolations: WeightPrior
    shared: WeightPrior

    @property
    def calibration(self) -> PoolWeights:
        """The average, for a slide that cannot be coarsened."""
        return PoolWeights(weights=self.pool.weights, check_weights=self.pool.check_weights)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the checkpoint."""
        return {
            "experts": list(EXPERT_NAMES),
            "pool": self.pool.to_dict(),
            "interpolations": self.interpolations.to_dict(),
            "shared": self.shared.to_dict(),
        }

    @classmethod
    def untried(cls) -> CalibrationPriors:
        """Return the priors of a network that was scored on nothing: mostly the flow, and loosely so."""
        return cls(
            pool=WeightPrior.around([0.6, 0.2], len(EXPERT_NAMES), 0.1),
            interpolations=WeightPrior.around([0.8], len(EXPERT_NAMES) - 1, 0.1),
            shared=WeightPrior.around([0.3, 0.6], len(PROGRAM_EXPERT_NAMES), 0.1),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CalibrationPriors:
        """Rebuild from :meth:`to_dict`.

        Raises
        ------
        ValueError
            The values are of other experts, not finite, or no covariance.
        """
        if tuple(values["experts"]) != EXPERT_NAMES:
            raise ValueError("other experts")
        return cls(
            pool=WeightPrior.from_dict(values["pool"], len(EXPERT_NAMES)),
            interpolations=WeightPrior.from_dict(values["interpolations"], len(EXPERT_NAMES) - 1),
            shared=WeightPrior.from_dict(values["shared"], len(PROGRAM_EXPERT_NAMES)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LabeledSlide:
    """A slide whose fine truth is known: what explains its own pixels, and its spots when it is coarsened once more."""

    own: PoolLikelihood
    above: Sequence[PoolLikelihood]


def fit_priors(studies: Mapping[str, Sequence[LabeledSlide]], start: CalibrationPriors) -> CalibrationPriors:
    """Learn from studies that the networks had not seen how weights are spread (empirical Bayes).

    Every study weighs the same. The means maximize the likelihood of all studies together; the covariance of the
    slides' deviations comes of a few rounds of expectation maximization with Laplace's approximation, and is drawn
    towards its diagonal.

    Parameters
    ----------
    studies
        For each study its slides.
    start
        Where what nobody tells stays.
    """
    own, above = _told(studies)

    def others(told: _Told) -> _Told:
        return {name: [[one.without(FLOW) for one in parts] for parts in slides] for name, slides in told.items()}

    return replace(
        start,
        pool=_fit_prior(own, above, start.pool),
        interpolations=_fit_prior(others(own), others(above), start.interpolations),
    )


def fit_prior(studies: Mapping[str, Sequence[LabeledSlide]], start: WeightPrior) -> WeightPrior:
    """Learn how the weights of one pool are spread over studies; as :func:`fit_priors` does for each of its pools."""
    return _fit_prior(*_told(studies), start) if studies else start


def _told(studies: Mapping[str, Sequence[LabeledSlide]]) -> tuple[_Told, _Told]:
    """Return the likelihoods of the slides' own pixels, and of the slides coarsened once more."""
    own = {name: [[slide.own] for slide in slides] for name, slides in studies.items()}
    above = {name: [slide.above for slide in slides] for name, slides in studies.items()}
    return own, above


def _fit_prior(own: _Told, above: _Told, start: WeightPrior) -> WeightPrior:
    """Fit the prior of one pool; see :func:`fit_priors`."""
    weights, check_weights = _mean_weights(own, start.weights), _mean_weights(above, start.check_weights)
    center, covariance = check_weights.ravel(), start.covariance
    for _ in range(_ROUNDS):
        precision = np.linalg.inv(covariance)
        spread, n_studies = np.zeros_like(covariance), 0
        for slides in above.values():
            told = [checks for checks in slides if sum(one.mass for one in checks) > 0]
            n_studies += bool(told)
            for checks in told:
                share = curvature_adjustment(checks, center, covariance)
                mode, _ = newton_maximize(checks, [share] * len(checks), center, precision)
                curvature = precision + share * sum(one.derivatives(mode)[2] for one in checks)
                deviation = mode - center
                spread += (np.outer(deviation, deviation) + np.linalg.inv(curvature)) / len(told)
        if n_studies == 0:
            break
        covariance = spread / n_studies
        covariance = 0.7 * covariance + 0.3 * np.diag(np.diag(covariance)) + 1e-4 * np.eye(len(covariance))
    return WeightPrior(weights=weights, check_weights=check_weights, covariance=covariance)


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
    weights, _ = newton_maximize(likelihoods, scales, start.ravel(), _LOOSE * np.eye(start.size))
    return weights.reshape(start.shape)
