"""TODO docstring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from napari_srast.calibration.likelihood import PoolLikelihood, curvature_adjustment, newton_maximize
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.prior import CalibrationPriors, WeightPrior
from napari_srast.calibration.weights import FLOW, PROGRAM_EXPERT_NAMES, PoolWeights
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

if TYPE_CHECKING:
    pass


__all__ = ["fit_pool_weights", "fit_program_weights", "gain_per_gene"]


def gain_per_gene(log_ratio: np.ndarray, truth: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
    """Return nats per count over the even split of each field, sum y log(K r) / sum y, (F,); NaN without counts."""
    log_even = np.log(layout.n_pixels_of_spot[layout.parent])[:, None]
    total = truth.sum(axis=0)
    gain = (truth * (log_ratio + log_even)).sum(axis=0)
    return np.where(total > 0, gain / np.where(total > 0, total, 1), np.nan)


def fit_pool_weights(checks: Sequence[HoldoutPredictions], fleet: CalibrationPriors) -> PoolWeights:
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
    return PoolWeights(
        weights=low + trust * (high - low),
        check_weights=check_weights,
        source="slide",
        nats=sum(one.value(check_weights.ravel()) for one in likelihoods) / mass,
        nats_fleet=sum(one.value(fleet.pool.check_weights.ravel()) for one in likelihoods) / mass,
        trust=trust,
    )


def fit_program_weights(checks: Sequence[HoldoutPredictions], prior: WeightPrior) -> PoolWeights:
    """Fit the weights of the maps that genes share on a slide coarsened once, perhaps in several ways.

    Parameters
    ----------
    checks
        What :data:`PROGRAM_EXPERT_NAMES` say of some genes, one for each way that the slide was coarsened.
    prior
        The fleet's.

    Returns
    -------
    Calibration
        The fleet's average where nothing can be told or the fit did not converge.
    """
    average = PoolWeights(weights=prior.weights, check_weights=prior.check_weights, experts=PROGRAM_EXPERT_NAMES)
    likelihoods = [check.likelihood() for check in checks]
    mass = sum(one.mass for one in likelihoods)
    deviation = _deviation(likelihoods, prior) if mass > 0 else None
    if deviation is None:
        return average
    check_weights = prior.check_weights + deviation
    trust = _chance_of_gain(likelihoods, check_weights.ravel(), np.zeros(check_weights.size))
    check_weights = trust * check_weights
    return PoolWeights(
        weights=trust * (prior.weights + deviation),
        check_weights=check_weights,
        experts=PROGRAM_EXPERT_NAMES,
        source="slide",
        nats=sum(one.value(check_weights.ravel()) for one in likelihoods) / mass,
        nats_fleet=sum(one.value(prior.check_weights.ravel()) for one in likelihoods) / mass,
        trust=trust,
    )


def _deviation(likelihoods: Sequence[PoolLikelihood], prior: WeightPrior) -> np.ndarray | None:
    """Return how far a slide's weights go from the prior's, (2, E); None where the fit did not converge."""
    center = prior.check_weights.ravel()
    share = curvature_adjustment(likelihoods, center, prior.covariance)
    weights, converged = newton_maximize(
        likelihoods, [share] * len(likelihoods), center, np.linalg.inv(prior.covariance)
    )
    if not converged:
        return None
    return _chance_of_gain(likelihoods, weights, center) * (weights - center).reshape(2, -1)


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
