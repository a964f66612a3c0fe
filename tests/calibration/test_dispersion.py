"""The concentration is found again in drawn counts, tells their spread, and is never carried away by little data."""

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


def drawn(layout: SpotPixelMap, known: Concentration, seed: int = 0, n_fields: int = 12) -> Prediction:
    rng = np.random.default_rng(seed)
    ratio = layout.normalize(rng.gamma(2.0, size=(layout.n_pixels, n_fields)))
    counts = rng.poisson(np.geomspace(2, 200, n_fields), (layout.n_spots, n_fields))
    return np.log(ratio), known.sample(ratio, counts, layout, seed).toarray(), layout


@pytest.mark.parametrize("known", [Concentration(shallow=1.0, slope=0.0), Concentration(shallow=1.5, slope=1.0)])
def test_the_concentration_of_drawn_counts_is_found_again(layout: SpotPixelMap, known: Concentration) -> None:
    found = fit_concentration([drawn(layout, known)])
    n = np.array([3.0, 30.0, 100.0])
    np.testing.assert_allclose(np.log(found.at(n)), np.log(known.at(n)), atol=0.15)


def test_several_checks_are_as_good_as_one_larger(layout: SpotPixelMap) -> None:
    known = Concentration(shallow=2.5, slope=-0.5)
    checks = [drawn(layout, known, seed, n_fields=3) for seed in range(4)]
    n = np.array([3.0, 100.0])
    np.testing.assert_allclose(np.log(fit_concentration(checks).at(n)), np.log(known.at(n)), atol=0.25)


def test_the_standard_deviation_is_that_of_the_draws(layout: SpotPixelMap) -> None:
    known = Concentration(shallow=np.log(6.0), slope=0.3)
    ratio = layout.normalize(np.random.default_rng(0).gamma(2.0, size=(layout.n_pixels, 3)))
    counts = np.tile([1, 12, 90], (layout.n_spots, 1))
    draws = np.stack([known.sample(ratio, counts, layout, seed).toarray() for seed in range(60)])
    assert (np.stack([layout.membership @ one for one in draws]) == counts).all()
    own = counts[layout.parent]
    told = known.std(ratio, own)
    np.testing.assert_allclose((draws - ratio * own).std(axis=(0, 1)) / np.sqrt((told**2).mean(axis=0)), 1, atol=0.05)


def test_little_data_leaves_the_prior_and_no_ratio_breaks_the_fit(layout: SpotPixelMap) -> None:
    assert fit_concentration([]) is DEFAULT_CONCENTRATION
    log_ratio, truth, _ = drawn(layout, DEFAULT_CONCENTRATION)
    assert fit_concentration([(log_ratio, np.minimum(truth, 0), layout)]) is DEFAULT_CONCENTRATION
    few = np.zeros_like(truth)
    few[layout.parent == 0, 0] = 1.0
    near = fit_concentration([(log_ratio, few, layout)])
    assert abs(near.shallow - DEFAULT_CONCENTRATION.shallow) < 1
    impossible = np.full_like(log_ratio, -np.inf)
    assert np.isfinite(fit_concentration([(impossible, truth, layout)]).at(np.array([0.0, 1e6]))).all()


def test_a_large_slide_is_thinned_without_harm(layout: SpotPixelMap, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Concentration(shallow=1.0, slope=0.0)
    monkeypatch.setattr("napari_srast.calibration.dispersion._MOST_PAIRS", 1000)
    assert fit_concentration([drawn(layout, known)]).at(np.array([20.0]))[0] == pytest.approx(np.e, rel=0.2)


def test_one_level_down_scatters_more() -> None:
    n = np.array([1.0, 50.0])
    np.testing.assert_allclose(DEFAULT_CONCENTRATION.finer().at(n), DEFAULT_CONCENTRATION.at(n) * np.exp(LEVEL_STEP))
    assert (
        DEFAULT_CONCENTRATION.finer().std(np.full(2, 0.3), n)[1:] > DEFAULT_CONCENTRATION.std(np.full(2, 0.3), n)[1:]
    ).all()


def test_the_record_is_plain() -> None:
    assert DEFAULT_CONCENTRATION.to_dict() == {
        "log_concentration_shallow": DEFAULT_CONCENTRATION.shallow,
        "log_concentration_slope": DEFAULT_CONCENTRATION.slope,
    }
