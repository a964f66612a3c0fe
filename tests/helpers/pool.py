"""Held-out predictions with a planted accurate expert, and priors of pool weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_srast.calibration.pooling import EXPERT_NAMES, PROGRAM_EXPERT_NAMES
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.weight_prior import CalibrationPriors, WeightPrior
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["N_EXPERTS", "PRIORS", "first_experts", "planted_predictions", "priors_around", "without_counts"]

N_EXPERTS = len(EXPERT_NAMES)


def priors_around(*first: float, spread: float = 0.1) -> CalibrationPriors:
    """Return priors around some weights."""
    return replace(
        CalibrationPriors.uninformed(),
        pool=WeightPrior.around(first, N_EXPERTS, spread),
        interpolations=WeightPrior.around(first[1:], N_EXPERTS - 1, spread),
    )


PRIORS = priors_around(0.5, 0.2)


def planted_predictions(n_spots: int, depth: float, seed: int = 0, right: int = 1) -> HoldoutPredictions:
    """Return a slide where one expert is right and the others are noise."""
    rng = np.random.default_rng(seed)
    parent = np.repeat(np.arange(n_spots), 4)
    layout = SpotPixelMap(spots=rng.random((n_spots, 2)), pixels=rng.random((4 * n_spots, 2)), parent=parent, pitch=1.0)
    ratios = layout.normalize(rng.gamma(2.0, size=(4 * n_spots, 6)))
    truth = rng.poisson(depth * ratios).astype(float)
    experts = [np.log(layout.normalize(rng.gamma(2.0, size=ratios.shape))) for _ in range(N_EXPERTS)]
    experts[right] = np.log(ratios)
    return HoldoutPredictions(
        log_experts=np.stack(experts), counts=layout.membership @ truth, truth=truth, layout=layout
    )


def without_counts(predictions: HoldoutPredictions) -> HoldoutPredictions:
    return HoldoutPredictions(
        log_experts=predictions.log_experts,
        counts=predictions.counts * 0,
        truth=predictions.truth * 0,
        layout=predictions.layout,
    )


def first_experts(predictions: HoldoutPredictions) -> HoldoutPredictions:
    """Return the predictions of the first two experts only."""
    return replace(predictions, log_experts=predictions.log_experts[: len(PROGRAM_EXPERT_NAMES)])
