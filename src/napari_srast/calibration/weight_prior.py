"""Fit the empirical-Bayes prior over expert weights from held-out studies.

A study is held out if no network was trained on it. The prior describes how the weights of its slides vary; it is
stored in the checkpoint.

Shape legend: E experts, J = 2 E weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from napari_srast.calibration.likelihood import PoolLikelihood, curvature_adjustment, newton_maximize
from napari_srast.calibration.pooling import EXPERT_NAMES, FLOW, PROGRAM_EXPERT_NAMES, PoolWeights

__all__ = ["CalibrationPriors", "LabeledSlide", "WeightPrior", "fit_prior", "fit_priors"]

_STUDY_MASS = 100.0  # tempered counts that a study weighs in the means
_START_PRECISION = 0.5  # of the initial prior in the means: only weights that no study informs stay there
_N_ROUNDS = 3
_MAX_VALUE = 1e6  # of a weight that is read from a file; weights are of the order of 1
_Likelihoods: TypeAlias = Mapping[str, Sequence[Sequence[PoolLikelihood]]]  # by study, for each slide


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightPrior:
    """Normal distribution of the weights of some experts over studies.

    Parameters
    ----------
    weights, coarse_weights
        Means for the slides' own pixels and for coarsened slides, shape (2, E) each.
    covariance
        Covariance of a slide's deviation from the mean, shape (J, J).
    """

    weights: np.ndarray
    coarse_weights: np.ndarray
    covariance: np.ndarray

    @classmethod
    def around(cls, first: Sequence[float], n_experts: int, variance: float) -> WeightPrior:
        """Return an initial prior.

        Parameters
        ----------
        first
            Weights of the first experts; those of the others are 0.
        n_experts
            Number of experts.
        variance
            Variance of every weight.
        """
        weights = np.zeros((2, n_experts))
        weights[0, : len(first)] = first
        return cls(weights=weights, coarse_weights=weights, covariance=variance * np.eye(weights.size))

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the checkpoint."""
        return {
            "weights": self.weights.round(6).tolist(),
            "check_weights": self.coarse_weights.round(6).tolist(),
            "covariance": self.covariance.round(8).tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object], n_experts: int) -> WeightPrior:
        """Rebuild a prior from :meth:`to_dict`.

        Raises
        ------
        ValueError
            The values have another number of experts, are not finite or too large, or are not a covariance.
        """
        weights, coarse_weights, covariance = (
            np.array(values[name], dtype=float) for name in ("weights", "check_weights", "covariance")
        )
        arrays = weights, coarse_weights, covariance
        shapes = (2, n_experts), (2, n_experts), (2 * n_experts, 2 * n_experts)
        if tuple(array.shape for array in arrays) != shapes:
            raise ValueError("the prior is for other experts")
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError("a weight of the prior is not finite")
        if any(np.abs(array).max() > _MAX_VALUE for array in arrays):
            raise ValueError("a weight of the prior is too large")
        if np.linalg.eigvalsh(covariance).min() <= 0:
            raise ValueError("the covariance of the prior is not positive definite")
        return cls(weights=weights, coarse_weights=coarse_weights, covariance=covariance)


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationPriors:
    """Priors of a slide's calibration, one for each pool.

    Parameters
    ----------
    pool
        Prior of all experts.
    interpolations
        Prior of the pool without the network.
    programs
        Prior of programs and totals.
    """

    pool: WeightPrior
    interpolations: WeightPrior
    programs: WeightPrior

    @property
    def mean_weights(self) -> PoolWeights:
        """Mean weights of all experts, for a slide that cannot be coarsened."""
        return PoolWeights(weights=self.pool.weights, coarse_weights=self.pool.coarse_weights)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the checkpoint."""
        return {
            "experts": list(EXPERT_NAMES),
            "pool": self.pool.to_dict(),
            "interpolations": self.interpolations.to_dict(),
            "shared": self.programs.to_dict(),
        }

    @classmethod
    def uninformed(cls) -> CalibrationPriors:
        """Return initial priors, for a network without scores: mostly the flow, with a large variance."""
        return cls(
            pool=WeightPrior.around([0.6, 0.2], len(EXPERT_NAMES), 0.1),
            interpolations=WeightPrior.around([0.8], len(EXPERT_NAMES) - 1, 0.1),
            programs=WeightPrior.around([0.3, 0.6], len(PROGRAM_EXPERT_NAMES), 0.1),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CalibrationPriors:
        """Rebuild priors from :meth:`to_dict`.

        Raises
        ------
        ValueError
            The values are for other experts, not finite, or not a covariance.
        """
        if tuple(values["experts"]) != EXPERT_NAMES:
            raise ValueError("the prior is for other experts")
        return cls(
            pool=WeightPrior.from_dict(values["pool"], len(EXPERT_NAMES)),
            interpolations=WeightPrior.from_dict(values["interpolations"], len(EXPERT_NAMES) - 1),
            programs=WeightPrior.from_dict(values["shared"], len(PROGRAM_EXPERT_NAMES)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LabeledSlide:
    """Likelihoods of a slide whose fine counts are known.

    Parameters
    ----------
    fine
        Likelihood of the slide's own pixels.
    coarse
        Likelihoods of its spots as pixels of the coarsened slide, one for each variant.
    """

    fine: PoolLikelihood
    coarse: Sequence[PoolLikelihood]


def fit_priors(studies: Mapping[str, Sequence[LabeledSlide]], start: CalibrationPriors) -> CalibrationPriors:
    """Fit the priors of all experts and of the interpolations (empirical Bayes).

    Every study has the same weight. The means maximize the likelihood of all studies together. The covariance of the
    slides' deviations comes from a few rounds of expectation maximization with Laplace's approximation, and is shrunk
    towards its diagonal.

    Parameters
    ----------
    studies
        Slides of each held-out study.
    start
        Initial priors, kept for weights that no study informs.
    """
    fine, coarse = _likelihoods(studies)

    def without_flow(likelihoods: _Likelihoods) -> _Likelihoods:
        return {
            name: [[one.without(FLOW) for one in variants] for variants in slides]
            for name, slides in likelihoods.items()
        }

    return replace(
        start,
        pool=_fit_prior(fine, coarse, start.pool),
        interpolations=_fit_prior(without_flow(fine), without_flow(coarse), start.interpolations),
    )


def fit_prior(studies: Mapping[str, Sequence[LabeledSlide]], start: WeightPrior) -> WeightPrior:
    """Fit the prior of one pool, as :func:`fit_priors` does; without studies, return the initial prior."""
    return _fit_prior(*_likelihoods(studies), start) if studies else start


def _likelihoods(studies: Mapping[str, Sequence[LabeledSlide]]) -> tuple[_Likelihoods, _Likelihoods]:
    """Return the likelihoods of the slides' own pixels, and of the coarsened slides."""
    fine = {name: [[slide.fine] for slide in slides] for name, slides in studies.items()}
    coarse = {name: [slide.coarse for slide in slides] for name, slides in studies.items()}
    return fine, coarse


def _fit_prior(fine: _Likelihoods, coarse: _Likelihoods, start: WeightPrior) -> WeightPrior:
    """Fit the prior of one pool; see :func:`fit_priors`."""
    weights, coarse_weights = _mean_weights(fine, start.weights), _mean_weights(coarse, start.coarse_weights)
    center, covariance = coarse_weights.ravel(), start.covariance
    for _ in range(_N_ROUNDS):
        precision = np.linalg.inv(covariance)
        scatter, n_studies = np.zeros_like(covariance), 0
        for slides in coarse.values():
            informative = [variants for variants in slides if sum(one.mass for one in variants) > 0]
            n_studies += bool(informative)
            for variants in informative:
                scale = curvature_adjustment(variants, center, covariance)
                mode, _ = newton_maximize(variants, [scale] * len(variants), center, precision)
                curvature = precision + scale * sum(one.derivatives(mode)[2] for one in variants)
                deviation = mode - center
                scatter += (np.outer(deviation, deviation) + np.linalg.inv(curvature)) / len(informative)
        if n_studies == 0:
            break
        covariance = scatter / n_studies
        covariance = 0.7 * covariance + 0.3 * np.diag(np.diag(covariance)) + 1e-4 * np.eye(len(covariance))
    return WeightPrior(weights=weights, coarse_weights=coarse_weights, covariance=covariance)


def _mean_weights(studies: _Likelihoods, start: np.ndarray) -> np.ndarray:
    """Return the weights that maximize the likelihood of all studies; studies, and slides of a study, count equally."""
    likelihoods: list[PoolLikelihood] = []
    scales: list[float] = []
    for slides in studies.values():
        for variants in slides:
            mass = sum(one.mass for one in variants)
            if mass > 0:
                likelihoods += variants
                scales += [_STUDY_MASS / len(slides) / mass] * len(variants)
    weights, _ = newton_maximize(likelihoods, scales, start.ravel(), _START_PRECISION * np.eye(start.size))
    return weights.reshape(start.shape)
