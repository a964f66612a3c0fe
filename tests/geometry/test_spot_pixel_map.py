"""A layout adds pixels up over spots and scales them to ratios."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap


def three_spots() -> SpotPixelMap:
    return SpotPixelMap(
        spots=np.array([[0.0, 0], [1, 0], [2, 0]]),
        pixels=np.array([[0.0, 0], [0.2, 0], [1, 0], [1.1, 0], [1.2, 0]]),
        parent=np.array([0, 0, 1, 1, 1]),
        pitch=1.0,
    )


def test_membership_adds_up_pixels() -> None:
    layout = three_spots()
    np.testing.assert_array_equal(layout.n_pixels_of_spot, [2, 3, 0])
    np.testing.assert_array_equal(layout.membership @ np.arange(5.0), [1, 9, 0])


@given(hnp.arrays(float, (5, 2), elements=st.floats(0, 1e6)))
def test_normalized_values_sum_to_one(values: np.ndarray) -> None:
    layout = three_spots()
    ratios = layout.normalize(values)
    assert (ratios >= 0).all()
    np.testing.assert_allclose(layout.membership @ ratios, [[1, 1], [1, 1], [0, 0]], rtol=1e-9)


def test_a_spot_of_zeros_is_split_evenly() -> None:
    np.testing.assert_allclose(
        three_spots().normalize(np.array([[0.0], [0], [1], [2], [1]]))[:, 0], [0.5, 0.5, 0.25, 0.5, 0.25]
    )


def test_of_a_raster_keeps_relative_places() -> None:
    centers = np.array([[1000.0, 50], [1100, 50], [1000, 150], [1100, 150]])
    raster = make_raster(centers, factor=2)
    layout = SpotPixelMap.of_raster(centers, raster)
    assert layout.spots.min() == 0
    np.testing.assert_allclose(layout.pixels - layout.spots[layout.parent], raster.centers - centers[raster.parent])
