"""Tests of the concentration: recovery from sampled counts, standard deviation, and fits to few counts."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.calibration.dispersion import (
    DEFAULT_CONCENTRATION,
    LEVEL_STEP,
    Concentration,
    Prediction,
    fit_concentration,
)
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap


@pytest.fixture(scope="module")
def layout() -> SpotPixelMap:
    centers = np.column_stack([a.ravel() for a in np.mgrid[:20, :20]]).astype(float)
    return SpotPixelMap.of_raster(centers, make_raster(centers, factor=2))


def sampled(layout: SpotPixelMap, concentration: Concentration, seed: int = 0, n_fields: int = 12) -> Prediction:
    rng = np.random.default_rng(seed)
    ratio = layout.normalize(rng.gamma(2.0, size=(layout.n_pixels, n_fields)))
    counts = rng.poisson(np.geomspace(2, 200, n_fields), (layout.n_spots, n_fields))
    return np.log(ratio), concentration.sample(ratio, counts, layout, seed).toarray(), layout


@pytest.mark.parametrize(
    "concentration", [Concentration(log_at_zero=1.0, slope=0.0), Concentration(log_at_zero=1.5, slope=1.0)]
)
def test_fit_recovers_the_concentration_of_samples(layout: SpotPixelMap, concentration: Concentration) -> None:
    fitted = fit_concentration([sampled(layout, concentration)])
    n = np.array([3.0, 30.0, 100.0])
    np.testing.assert_allclose(np.log(fitted.at(n)), np.log(concentration.at(n)), atol=0.15)


def test_several_variants_are_fitted_together(layout: SpotPixelMap) -> None:
    concentration = Concentration(log_at_zero=2.5, slope=-0.5)
    predictions = [sampled(layout, concentration, seed, n_fields=3) for seed in range(4)]
    n = np.array([3.0, 100.0])
    np.testing.assert_allclose(np.log(fit_concentration(predictions).at(n)), np.log(concentration.at(n)), atol=0.25)


def test_std_matches_the_samples(layout: SpotPixelMap) -> None:
    concentration = Concentration(log_at_zero=np.log(6.0), slope=0.3)
    ratio = layout.normalize(np.random.default_rng(0).gamma(2.0, size=(layout.n_pixels, 3)))
    counts = np.tile([1, 12, 90], (layout.n_spots, 1))
    samples = np.stack([concentration.sample(ratio, counts, layout, seed).toarray() for seed in range(60)])
    assert (np.stack([layout.membership @ one for one in samples]) == counts).all()
    spot_counts = counts[layout.parent]
    expected = concentration.std(ratio, spot_counts)
    np.testing.assert_allclose(
        (samples - ratio * spot_counts).std(axis=(0, 1)) / np.sqrt((expected**2).mean(axis=0)), 1, atol=0.05
    )


def test_fit_to_few_counts_keeps_the_prior(layout: SpotPixelMap) -> None:
    assert fit_concentration([]) is DEFAULT_CONCENTRATION
    log_ratio, truth, _ = sampled(layout, DEFAULT_CONCENTRATION)
    assert fit_concentration([(log_ratio, np.minimum(truth, 0), layout)]) is DEFAULT_CONCENTRATION
    few = np.zeros_like(truth)
    few[layout.parent == 0, 0] = 1.0
    near = fit_concentration([(log_ratio, few, layout)])
    assert abs(near.log_at_zero - DEFAULT_CONCENTRATION.log_at_zero) < 1
    impossible = np.full_like(log_ratio, -np.inf)
    assert np.isfinite(fit_concentration([(impossible, truth, layout)]).at(np.array([0.0, 1e6]))).all()


def test_subset_of_pairs_gives_a_similar_fit(layout: SpotPixelMap, monkeypatch: pytest.MonkeyPatch) -> None:
    concentration = Concentration(log_at_zero=1.0, slope=0.0)
    monkeypatch.setattr("napari_srast.calibration.dispersion._MAX_PAIRS", 1000)
    assert fit_concentration([sampled(layout, concentration)]).at(np.array([20.0]))[0] == pytest.approx(np.e, rel=0.2)


def test_finer_pixels_have_more_variance() -> None:
    n = np.array([1.0, 50.0])
    np.testing.assert_allclose(DEFAULT_CONCENTRATION.finer().at(n), DEFAULT_CONCENTRATION.at(n) * np.exp(LEVEL_STEP))
    assert (
        DEFAULT_CONCENTRATION.finer().std(np.full(2, 0.3), n)[1:] > DEFAULT_CONCENTRATION.std(np.full(2, 0.3), n)[1:]
    ).all()


def test_to_dict_has_plain_values() -> None:
    assert DEFAULT_CONCENTRATION.to_dict() == {
        "log_concentration_shallow": DEFAULT_CONCENTRATION.log_at_zero,
        "log_concentration_slope": DEFAULT_CONCENTRATION.slope,
    }
