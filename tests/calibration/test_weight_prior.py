"""Priors of the pool weights, fitted to studies, and as plain values."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pool import N_EXPERTS, PRIORS, first_experts, planted_predictions

from napari_srast.calibration.pooling import PROGRAM_EXPERT_NAMES
from napari_srast.calibration.weight_fitting import fit_pool_weights
from napari_srast.calibration.weight_prior import CalibrationPriors, LabeledSlide, WeightPrior, fit_prior, fit_priors


def test_priors_recover_mean_and_variance_of_studies() -> None:
    """Half the studies follow the first expert, half the second: both vary, the others do not."""
    studies = {}
    for i in range(6):
        predictions = planted_predictions(80, 20, seed=i, right=i % 2)
        studies[f"study{i}"] = [LabeledSlide(fine=predictions.likelihood(), coarse=[predictions.likelihood()])]
    fitted = fit_priors(studies, CalibrationPriors.uninformed())
    mean = fitted.mean_weights.at(np.array(20.0))
    assert mean[:2].min() > 0.25
    assert np.abs(mean[2:]).max() < 0.1
    spread = np.sqrt(np.diag(fitted.pool.covariance))
    assert spread[:2].min() > 2 * spread[2:N_EXPERTS].max()
    follows = [
        np.argmax(fit_pool_weights([planted_predictions(30, 10, 50 + k, right=k)], fitted).at(np.array(10.0)))
        for k in (0, 1)
    ]
    assert follows == [0, 1]


def test_single_prior_is_fitted_like_all() -> None:
    start = WeightPrior.around([0.3, 0.6], len(PROGRAM_EXPERT_NAMES), 0.1)
    assert fit_prior({}, start) is start
    one = first_experts(planted_predictions(80, 20, right=0)).likelihood()
    fitted = fit_prior({"one": [LabeledSlide(fine=one, coarse=[one])]}, start)
    assert fitted.weights[0, 0] + 0.66 * fitted.weights[1, 0] > 0.5
    np.testing.assert_array_equal(fitted.weights, fitted.coarse_weights)


def test_studies_count_equally() -> None:
    many = [planted_predictions(60, 20, seed=i, right=0) for i in range(5)]
    one = planted_predictions(60, 20, seed=9, right=1)
    restored = [LabeledSlide(fine=c.likelihood(), coarse=[c.likelihood()]) for c in (*many, one)]
    mean = fit_priors({"many": restored[:5], "one": restored[5:]}, CalibrationPriors.uninformed()).mean_weights.at(
        np.array(20.0)
    )
    assert mean[0] == pytest.approx(mean[1], abs=0.15)


def test_priors_and_weights_round_trip() -> None:
    described = PRIORS.mean_weights.to_dict()
    np.testing.assert_allclose([described["weights_shallow"], described["weights_slope"]], PRIORS.pool.weights)
    values = PRIORS.to_dict()
    restored = CalibrationPriors.from_dict(values)
    np.testing.assert_allclose(restored.pool.covariance, PRIORS.pool.covariance)
    np.testing.assert_allclose(restored.interpolations.weights, PRIORS.interpolations.weights)
    with pytest.raises(ValueError, match="experts"):
        CalibrationPriors.from_dict({**values, "experts": ["pcfm"]})
    for damage in (
        {"covariance": [[1.0]]},
        {"covariance": (-np.eye(2 * N_EXPERTS)).tolist()},
        {"weights": [[float("nan")] * N_EXPERTS] * 2},
    ):
        with pytest.raises(ValueError, match=r"experts|finite|covariance"):
            CalibrationPriors.from_dict({**values, "pool": {**PRIORS.pool.to_dict(), **damage}})
