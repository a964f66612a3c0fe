from __future__ import annotations

import numpy as np
import pytest
from spatialdata.transformations import Affine, Identity, MapAxis, Scale, Sequence, Translation

from napari_srast.errors import InputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.io.transforms import fit_affine, to_affine, to_matrix


@pytest.mark.parametrize(
    ("transformation", "expected"),
    [
        (Identity(), np.eye(3)),
        (Scale([3.0, 2.0], axes=("y", "x")), np.diag([2.0, 3.0, 1.0])),
        (Translation([5.0, 7.0], axes=("x", "y")), np.array([[1, 0, 5], [0, 1, 7], [0, 0, 1]])),
        (MapAxis({"x": "y", "y": "x"}), np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])),
        (
            # in (y, x) order, as other programs often write it
            Affine(np.array([[4.0, 5, 6], [1, 2, 3], [0, 0, 1]]), ("y", "x"), ("y", "x")),
            np.array([[2, 1, 3], [5, 4, 6], [0, 0, 1]]),
        ),
        (
            Sequence([Scale([2.0, 2.0], axes=("x", "y")), Translation([1.0, 0.0], axes=("x", "y"))]),
            np.array([[2, 0, 1], [0, 2, 0], [0, 0, 1]]),
        ),
        (
            Affine(np.diag([1.0, 3.0, 2.0, 1.0]), ("c", "y", "x"), ("c", "y", "x")),
            np.diag([2.0, 3.0, 1.0]),
        ),
    ],
)
def test_every_transformation_becomes_an_xy_matrix(transformation, expected):
    np.testing.assert_allclose(to_matrix(transformation), expected)


def test_matrix_survives_conversion_and_back():
    matrix = np.array([[1.3, 0.4, -3.0], [0.1, -0.8, 55.5], [0, 0, 1]])
    np.testing.assert_allclose(to_matrix(to_affine(matrix)), matrix)


def test_fit_affine_recovers_rotation_shear_and_mirror():
    rng = np.random.default_rng(0)
    source = rng.uniform(0, 3000, size=(50, 2))
    matrix = np.array([[-0.3, 0.12, 900.0], [0.2, 0.41, -77.0], [0, 0, 1]])
    fitted, misfit = fit_affine(source, apply_affine(matrix, source))
    np.testing.assert_allclose(fitted, matrix, atol=1e-9)
    assert misfit == pytest.approx(0, abs=1e-9)


def test_fit_affine_refuses_collinear_points():
    line = np.column_stack([np.arange(9.0), 2 * np.arange(9.0)])
    with pytest.raises(InputError, match="pixel size"):
        fit_affine(line, line)
