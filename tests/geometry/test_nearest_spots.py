"""Spots that are nearest to pixels or to other spots."""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.nearest_spots import nearest_other_spots


def test_nearest_other_spots_exclude_the_parent() -> None:
    spots = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    index, distance = nearest_other_spots(spots, np.array([[0.4, 0.0]]), np.array([0]), 2)
    assert index.tolist() == [[1, 2]]
    np.testing.assert_allclose(distance, [[0.6, 1.6]])
    index, distance = nearest_other_spots(spots[:2], np.array([[0.4, 0.0]]), np.array([0]), 3)
    assert index[0, 0] == 1
    assert np.isinf(distance[0, 1:]).all()


def test_spots_in_one_place_have_other_spots_as_neighbors() -> None:
    spots = np.array([[0.0, 0.0]] * 4 + [[1.0, 0.0], [2.0, 0.0]])
    index, distance = nearest_other_spots(spots, spots, np.arange(6), 2)
    assert index.shape == (6, 2)
    assert all(spot not in row for spot, row in enumerate(index.tolist()))
    np.testing.assert_array_equal(distance[:4], 0.0)
