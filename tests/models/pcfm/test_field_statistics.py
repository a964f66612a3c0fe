"""Descriptors of fields, and the spots of a local level."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.models.pcfm.field_statistics import describe_fields, level_neighbors


def grid(side: int, pitch: float = 100.0) -> SpotPixelMap:
    return SpotPixelMap.without_pixels(pitch * np.argwhere(np.ones((side, side))).astype(float), pitch)


def test_smooth_field_differs_from_noise_and_constant_fields() -> None:
    layout, rng = grid(12), np.random.default_rng(0)
    smooth = np.round(20 + 20 * np.sin(layout.spots[:, 0] / 300))
    raw = np.column_stack([smooth, rng.permutation(smooth), np.full(144, 5.0)])
    level = level_neighbors(layout, np.zeros(144))
    smoothness, with_totals, log_mean = describe_fields(raw, raw[level].mean(axis=1), level.shape[1], raw[:, 0]).T
    assert smoothness[0] > 0.7
    assert abs(smoothness[1]) < 0.4
    assert smoothness[2] == 0
    assert with_totals[0] == pytest.approx(1)
    assert with_totals[2] == 0
    np.testing.assert_allclose(log_mean, np.log(raw.mean(axis=0) + 0.01))


def test_own_count_is_left_out_of_its_level() -> None:
    rng = np.random.default_rng(1)
    raw = rng.poisson(5.0, (144, 1)).astype(float)
    level = level_neighbors(grid(12), np.zeros(144))
    smoothness = describe_fields(raw, raw[level].mean(axis=1), level.shape[1], raw[:, 0])[0, 0]
    others = np.array([[raw[level[i][level[i] != i], 0].mean()] for i in range(144)])
    assert smoothness == pytest.approx(np.corrcoef(np.log1p(raw[:, 0]), np.log1p(others[:, 0]))[0, 1])


def test_level_has_the_spot_first_and_totals_break_ties() -> None:
    layout = grid(5)
    totals = np.random.default_rng(2).permutation(25).astype(float)
    level = level_neighbors(layout, totals)
    assert level.shape == (25, 7)
    np.testing.assert_array_equal(level[:, 0], np.arange(25))
    center = 12
    assert set(level[center, 1:5]) == {7, 11, 13, 17}
    assert list(level[center, 1:5]) == sorted(level[center, 1:5], key=lambda spot: totals[spot])
    diagonal = sorted((6, 8, 16, 18), key=lambda spot: totals[spot])
    assert list(level[center, 5:]) == diagonal[:2]


def test_level_of_a_tiny_slide_has_all_its_spots() -> None:
    assert level_neighbors(grid(2), np.zeros(4)).shape == (4, 4)
