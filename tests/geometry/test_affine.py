"""Affine transformations."""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.affine import apply_affine


def test_matrix_maps_x_y_points_like_homogeneous_coordinates() -> None:
    matrix = np.array([[0.0, -2.0, 10.0], [3.0, 0.5, -1.0], [0.0, 0.0, 1.0]])
    points = np.array([[1, 2], [0, 0], [-4, 5]])
    expected = (matrix @ np.column_stack([points, np.ones(3)]).T)[:2].T
    np.testing.assert_array_equal(apply_affine(matrix, points), expected)
    np.testing.assert_allclose(apply_affine(np.linalg.inv(matrix), expected), points, atol=1e-12)
