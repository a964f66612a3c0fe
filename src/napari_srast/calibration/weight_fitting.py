"""Calibrate the weights of the pool on the slide itself.

The slide is coarsened once, so that its own spots become pixels with measured counts. The experts predict them, and the
weights of the pool are fitted by their posterior mode. The prior describes how weights vary over studies that the
network was not trained on (:mod:`napari_srast.calibration.weight_prior`); the likelihood is tempered and scaled by the
agreement of the spots (:mod:`napari_srast.calibration.likelihood`). A small or noisy slide therefore keeps the mean of
the prior; the problem is concave, so the fit cannot end in a local optimum.

Weights are interpolated by the probability that one set is better than another on the slide's own spots,
Phi(gain / standard error of the gain): from the mean of the prior to the fitted weights, and from a pool without the
network, fitted in the same way, to the pool with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from napari_srast.calibration.likelihood import PoolLikelihood, curvature_adjustment, newton_maximize
from napari_srast.calibration.pooling import FLOW, PROGRAM_EXPERT_NAMES, PoolWeights
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.skill import skill_with_error
from napari_srast.calibration.weight_prior import CalibrationPriors, WeightPrior

__all__ = ["fit_pool_weights", "fit_program_weights"]


def fit_pool_weights(predictions: Sequence[HoldoutPredictions], priors: CalibrationPriors) -> PoolWeights:
    """Fit the weights of the pool on the coarsened slide.

    Parameters
    ----------
    predictions
        Predictions on the coarsened slide, one for each variant in which it was coarsened.
    priors
        Priors of the weights.

    Returns
    -------
    PoolWeights
        The mean of the prior if there are no counts to fit or the fit did not converge.
    """
    likelihoods = [one.likelihood() for one in predictions]
    mass = sum(one.mass for one in likelihoods)
    if mass <= 0:
        return priors.mean_weights
    with_flow = _fit_deviation(likelihoods, priors.pool)
    without_flow = _fit_deviation([one.without(FLOW) for one in likelihoods], priors.interpolations)
    if with_flow is None or without_flow is None:
        return priors.mean_weights
    plain = priors.interpolations
    low, low_coarse = (_insert_flow(weights + without_flow) for weights in (plain.weights, plain.coarse_weights))
    high, high_coarse = priors.pool.weights + with_flow, priors.pool.coarse_weights + with_flow
    confidence = _probability_of_gain(likelihoods, high_coarse.ravel(), low_coarse.ravel())
    coarse_weights = low_coarse + confidence * (high_coarse - low_coarse)
    return PoolWeights(
        weights=low + confidence * (high - low),
        coarse_weights=coarse_weights,
        source="slide",
        nats=sum(one.value(coarse_weights.ravel()) for one in likelihoods) / mass,
        nats_prior=sum(one.value(priors.pool.coarse_weights.ravel()) for one in likelihoods) / mass,
        confidence=confidence,
    )


def fit_program_weights(predictions: Sequence[HoldoutPredictions], prior: WeightPrior) -> PoolWeights:
    """Fit the weights of programs and totals on the coarsened slide.

    Parameters
    ----------
    predictions
        Predictions of :data:`PROGRAM_EXPERT_NAMES` for some genes, one for each variant in which the slide was
        coarsened.
    prior
        Prior of the weights.

    Returns
    -------
    PoolWeights
        The mean of the prior if there are no counts to fit or the fit did not converge.
    """
    likelihoods = [one.likelihood() for one in predictions]
    mass = sum(one.mass for one in likelihoods)
    deviation = _fit_deviation(likelihoods, prior) if mass > 0 else None
    if deviation is None:
        return PoolWeights(weights=prior.weights, coarse_weights=prior.coarse_weights, experts=PROGRAM_EXPERT_NAMES)
    coarse_weights = prior.coarse_weights + deviation
    confidence = _probability_of_gain(likelihoods, coarse_weights.ravel(), np.zeros(coarse_weights.size))
    coarse_weights = confidence * coarse_weights
    return PoolWeights(
        weights=confidence * (prior.weights + deviation),
        coarse_weights=coarse_weights,
        experts=PROGRAM_EXPERT_NAMES,
        source="slide",
        nats=sum(one.value(coarse_weights.ravel()) for one in likelihoods) / mass,
        nats_prior=sum(one.value(prior.coarse_weights.ravel()) for one in likelihoods) / mass,
        confidence=confidence,
    )


def _fit_deviation(likelihoods: Sequence[PoolLikelihood], prior: WeightPrior) -> np.ndarray | None:
    """Return the deviation of a slide's weights from the mean of the prior, (2, E); None without convergence."""
    center = prior.coarse_weights.ravel()
    scale = curvature_adjustment(likelihoods, center, prior.covariance)
    weights, converged = newton_maximize(
        likelihoods, [scale] * len(likelihoods), center, np.linalg.inv(prior.covariance)
    )
    if not converged:
        return None
    return _probability_of_gain(likelihoods, weights, center) * (weights - center).reshape(2, -1)


def _insert_flow(weights: np.ndarray) -> np.ndarray:
    """Return weights of the interpolations as weights of all experts, (2, E), with 0 for the flow."""
    return np.insert(weights, FLOW, 0.0, axis=1)


def _probability_of_gain(likelihoods: Sequence[PoolLikelihood], new: np.ndarray, old: np.ndarray) -> float:
    """Return the probability that new weights explain the spots better than old ones: Phi(gain / standard error)."""
    gains, masses = [], []
    for likelihood in likelihoods:
        gain, mass = likelihood.gain_of_spots(new)
        gains.append(gain - likelihood.gain_of_spots(old)[0])
        masses.append(mass)
    mean, error = skill_with_error(gains, masses)
    return float(norm.cdf(mean / error)) if error > 0 else 0.5
