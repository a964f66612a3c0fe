"""Comparisons of maps match closed forms: normalization, noise ceiling, similarity and seams."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.evaluation.map_comparison import Seams, correlate, log_normalize, log_scale, noise_ceiling, similarity
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap


def test_log_normalization_uses_the_pixels_totals_and_keeps_empty_pixels_at_zero() -> None:
    values = np.array([[1.0, 3], [0, 0]])
    normalized = log_normalize(values, np.array([4.0, 0]))
    np.testing.assert_allclose(normalized, [[np.log1p(2500), np.log1p(7500)], [0, 0]])


def test_scaled_maps_keep_the_totals_of_their_pixels() -> None:
    values = np.array([[1.0, 3.0], [2.0, 6.0], [0.0, 0.0]])
    scaled = log_scale(values, values.sum(axis=1))
    np.testing.assert_allclose(np.expm1(scaled), values * 10_000 / 4)


def test_correlation_of_flat_columns() -> None:
    truth = np.array([[-1.0, 0, -1], [1, 0, 1]])
    prediction = np.array([[-2.0, -1, 0], [2, 1, 0]])
    np.testing.assert_allclose(correlate(truth, prediction), [1, np.nan, 0])


def test_noise_ceiling_is_what_the_signal_itself_reaches() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(20_000, 1))
    half, other = (signal + 2 * rng.normal(size=signal.shape) for _ in range(2))
    expected = np.sqrt(1 / 5)  # a fifth of each half's variance is signal
    assert noise_ceiling(half, other)[0] == pytest.approx(expected, abs=0.02)
    reached = correlate(half - half.mean(axis=0), signal - signal.mean(axis=0))[0]
    assert reached == pytest.approx(expected, abs=0.02)
    assert noise_ceiling(half, -half)[0] == 0
    assert np.isnan(noise_ceiling(np.ones((4, 1)), np.arange(4.0)[:, None])[0])


def test_similarity_is_one_for_equal_maps_and_small_for_noise() -> None:
    row, col = (a.ravel().astype(float) for a in np.mgrid[:8, :8])
    raster = make_raster(np.column_stack([col, row]), factor=2)
    truth = np.sin(raster.centers[:, 0]) + raster.centers[:, 1]
    assert similarity(raster, truth, truth) == pytest.approx(1)
    noise = np.random.default_rng(0).normal(size=raster.n_pixels)
    assert similarity(raster, truth, noise) < 0.3


def test_seams_of_a_plane_and_of_blocks() -> None:
    row, col = (a.ravel().astype(float) for a in np.mgrid[:5, :5])
    centers = np.column_stack([col, row])
    layout = SpotPixelMap.of_raster(centers, make_raster(centers, factor=2))
    seams = Seams(layout)
    across, inside = seams.jumps(layout.pixels[:, :1])
    assert across == pytest.approx(inside) == pytest.approx(0.25)  # half of the pairs are along x, 0.5 apart
    across, inside = seams.jumps(layout.parent[:, None].astype(float))
    assert across > 0
    assert inside == 0
