"""Tests of local kriging weights."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation.local_kriging import LocalKriging, cubic, matern32


def make_layout(n_spots: int, seed: int = 0) -> SpotPixelMap:
    rng = np.random.default_rng(seed)
    spots = rng.uniform(0, 5, (n_spots, 2))
    parent = np.repeat(np.arange(0, n_spots, 2), 3)
    return SpotPixelMap(
        spots=spots, pixels=spots[parent] + rng.normal(scale=0.3, size=(len(parent), 2)), parent=parent, pitch=0.7
    )


def test_small_slide_agrees_with_dense_kriging() -> None:
    layout = make_layout(25)
    kernel = matern32(1.7)
    system = kernel(cdist(layout.spots, layout.spots) / 0.7) + 0.3 * np.eye(25)
    expected = kernel(cdist(layout.pixels, layout.spots) / 0.7) @ np.linalg.inv(system)
    np.testing.assert_allclose(LocalKriging(layout).weights(kernel, 0.3).toarray(), expected, atol=1e-5)


def test_large_slide_uses_nearest_spots_only() -> None:
    layout = make_layout(120)
    weights = LocalKriging(layout).weights(matern32(3.0), 0.5)
    assert weights.shape == (layout.n_pixels, 120)
    assert (np.diff(weights.indptr) == 30).all()


def test_cubic_kernel_with_trend_is_exact_for_lines() -> None:
    layout = make_layout(25)
    at_spots = SpotPixelMap(spots=layout.spots, pixels=layout.spots, parent=np.arange(25), pitch=0.7)
    weights = LocalKriging(at_spots).weights(cubic, 0.0, linear=True).toarray()
    np.testing.assert_allclose(weights, np.eye(25), atol=1e-4)
    trend = LocalKriging(layout).weights(cubic, 0.0, linear=True) @ layout.spots
    np.testing.assert_allclose(trend, layout.pixels, atol=1e-3)


def test_equal_arrangements_get_equal_weights() -> None:
    spots = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2)
    parent = np.repeat(np.arange(400), 2)
    pixels = spots[parent] + np.tile([[0.25, 0.1], [-0.25, 0.1]], (400, 1))
    weights = LocalKriging(SpotPixelMap(spots=spots, pixels=pixels, parent=parent, pitch=1.0)).weights(matern32(3), 0.2)
    middle = [2 * 210, 2 * 211]
    rows = [np.sort(weights[i].data) for i in middle]
    np.testing.assert_allclose(rows[0], rows[1])
    assert len(rows[0]) >= 30


def test_pixels_may_have_a_covariance_of_their_own() -> None:
    spots = np.argwhere(np.ones((3, 3))).astype(float)
    layout = SpotPixelMap(spots=spots, pixels=spots + 0.2, parent=np.arange(9), pitch=1.0)
    kernel, to_pixels = matern32(2.0), matern32(0.5)
    weights = LocalKriging(layout).weights(kernel, 0.3, to_pixels=to_pixels).toarray()
    expected = np.linalg.solve(kernel(cdist(spots, spots)) + 0.3 * np.eye(9), to_pixels(cdist(spots, spots + 0.2))).T
    np.testing.assert_allclose(weights, expected, atol=1e-5)
