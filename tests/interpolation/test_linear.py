"""Tests of linear weights and of clamping to the convex hull."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation.linear import clamp_to_hull, linear_weights


def test_points_are_moved_to_the_nearest_point_of_the_hull() -> None:
    square = np.array([[0.0, 0], [2, 0], [2, 2], [0, 2], [1, 1]])
    points = np.array([[1.0, 1.5], [3, 1], [3, 3], [-1, -2], [1, 2.5]])
    np.testing.assert_allclose(clamp_to_hull(square, points), [[1, 1.5], [2, 1], [2, 2], [0, 0], [1, 2]])


def test_hull_of_points_on_a_line_is_a_segment() -> None:
    line = np.array([[0.0, 0], [2, 2], [1, 1]])
    np.testing.assert_allclose(clamp_to_hull(line, np.array([[0.0, 1], [5, 5]])), [[0.5, 0.5], [2, 2]])


@pytest.mark.parametrize("kind", ["square", "gaps", "random"])
def test_weights_are_convex(kind: str) -> None:
    rng = np.random.default_rng(0)
    spots = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), axis=-1).reshape(-1, 2)
    if kind == "gaps":
        spots = spots[rng.random(81) < 0.7]
    if kind == "random":
        spots = rng.uniform(0, 9, (81, 2))
    parent = np.repeat(np.arange(len(spots)), 5)
    pixels = spots[parent] + rng.uniform(-0.5, 0.5, (len(parent), 2))
    weights = linear_weights(SpotPixelMap(spots=spots, pixels=pixels, parent=parent, pitch=1.0))
    np.testing.assert_allclose(np.asarray(weights.sum(axis=1)).ravel(), 1)
    assert weights.data.min() >= 0
