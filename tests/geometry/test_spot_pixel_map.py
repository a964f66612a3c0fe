"""Tests of the map between spots and pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap


def three_spots() -> SpotPixelMap:
    """Return a map of spots with two, three and no pixels."""
    return SpotPixelMap(
        spots=np.array([[0.0, 0], [1, 0], [2, 0]]),
        pixels=np.array([[0.0, 0], [0.2, 0], [1, 0], [1.1, 0], [1.2, 0]]),
        parent=np.array([0, 0, 1, 1, 1]),
        pitch=1.0,
    )


def test_membership_sums_pixels_over_spots() -> None:
    layout = three_spots()
    np.testing.assert_array_equal(layout.n_pixels_per_spot, [2, 3, 0])
    np.testing.assert_array_equal(layout.membership @ np.arange(5.0), [1, 9, 0])


def test_padding_repeats_the_first_pixel_of_a_spot() -> None:
    index, mask = three_spots().padded_pixels()
    np.testing.assert_array_equal(index, [[0, 1, 0], [2, 3, 4], [0, 0, 0]])
    np.testing.assert_array_equal(mask, [[True, True, False], [True, True, True], [False, False, False]])


def test_padded_pixels_are_sorted_by_index() -> None:
    layout = SpotPixelMap(spots=np.zeros((2, 2)), pixels=np.zeros((3, 2)), parent=np.array([1, 0, 1]), pitch=1.0)
    index, mask = layout.padded_pixels()
    np.testing.assert_array_equal(index, [[1, 1], [0, 2]])
    np.testing.assert_array_equal(mask, [[True, False], [True, True]])


def test_map_without_pixels_has_padding_only() -> None:
    layout = SpotPixelMap(spots=np.zeros((2, 2)), pixels=np.zeros((0, 2)), parent=np.zeros(0, dtype=int), pitch=1.0)
    index, mask = layout.padded_pixels()
    assert index.shape == mask.shape == (2, 1)
    assert not mask.any()


@given(hnp.arrays(float, (5, 2), elements=st.floats(0, 1e6)))
def test_normalized_values_sum_to_one(values: np.ndarray) -> None:
    layout = three_spots()
    ratios = layout.normalize(values)
    assert (ratios >= 0).all()
    np.testing.assert_allclose(layout.membership @ ratios, [[1, 1], [1, 1], [0, 0]], rtol=1e-9)


def test_zeros_are_normalized_to_a_uniform_split() -> None:
    np.testing.assert_allclose(
        three_spots().normalize(np.array([[0.0], [0], [1], [2], [1]]))[:, 0], [0.5, 0.5, 0.25, 0.5, 0.25]
    )


def test_map_of_raster_keeps_offsets_to_parents() -> None:
    centers = np.array([[1000.0, 50], [1100, 50], [1000, 150], [1100, 150]])
    raster = make_raster(centers, factor=2)
    layout = SpotPixelMap.of_raster(centers, raster)
    assert layout.spots.min() == 0
    np.testing.assert_allclose(layout.pixels - layout.spots[layout.parent], raster.centers - centers[raster.parent])
