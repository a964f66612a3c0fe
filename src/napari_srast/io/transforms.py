"""Between SpatialData's transformations and plain (3, 3) matrices in (x, y) order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.errors import InputError
from napari_srast.geometry.affine import apply_affine

if TYPE_CHECKING:
    from spatialdata.transformations import Affine, BaseTransformation

__all__ = ["element_matrices", "fit_affine", "to_affine", "to_affines", "to_matrix"]

_AXES = ("x", "y")


def to_matrix(transformation: BaseTransformation) -> np.ndarray:
    """Return any SpatialData transformation (affine, scale, rotation, sequence, ...) as a (3, 3) matrix on (x, y).

    Channels and z, where the transformation has them, are left out.
    """
    try:
        matrix = transformation.to_affine_matrix(_AXES, _AXES)
    except ValueError:  # the transformation mixes in a further axis, which must then be given to it
        axes = ("c", "y", "x")
        whole = transformation.to_affine_matrix(axes, axes)
        pick = [axes.index("x"), axes.index("y"), len(axes)]
        matrix = whole[np.ix_(pick, pick)]
    return np.asarray(matrix, dtype=float)


def element_matrices(element: Any, name: str) -> dict[str, np.ndarray]:
    """Return the (3, 3) matrix of an element to each of its coordinate systems.

    Raises
    ------
    InputError
        A transformation collapses the plane, or holds numbers that are not finite or beyond all reckoning.
    """
    from spatialdata.transformations import get_transformation

    found = get_transformation(element, get_all=True)
    matrices = {}
    for system, transformation in sorted(found.items()):
        matrix = to_matrix(transformation)
        area = abs(np.linalg.det(matrix[:2, :2]))  # of what was one unit square
        if not np.isfinite(matrix).all() or not 1e-200 < area < 1e200:
            raise InputError(
                f"The transformation of '{name}' to coordinate system '{system}' cannot be inverted; "
                "set it again in the store."
            )
        matrices[system] = matrix
    return matrices


def to_affine(matrix: np.ndarray) -> Affine:
    """Return a (3, 3) matrix as a SpatialData transformation."""
    from spatialdata.transformations import Affine

    return Affine(np.asarray(matrix, dtype=float), input_axes=_AXES, output_axes=_AXES)


def to_affines(matrices: Mapping[str, np.ndarray], first: np.ndarray | None = None) -> dict[str, BaseTransformation]:
    """Return matrices as SpatialData transformations, each after the (3, 3) matrix ``first`` where it is given."""
    before = np.eye(3) if first is None else first
    return {system: to_affine(matrix @ before) for system, matrix in matrices.items()}


def fit_affine(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit the affine that takes (n, 2) source points to target points, by least squares.

    Returns
    -------
    tuple
        The (3, 3) matrix and the root mean square misfit in units of the target.

    Raises
    ------
    InputError
        The points are fewer than three or lie on one line.
    """
    source, target = np.asarray(source, dtype=float), np.asarray(target, dtype=float)
    middle = source.mean(axis=0)
    spread = source - middle
    if len(source) < 3 or np.linalg.matrix_rank(spread) < 2:
        raise InputError(
            "obsm['spatial_px'] has fewer than three spots off one line, so the image cannot be placed; "
            "give the pixel size instead."
        )
    solution, *_ = np.linalg.lstsq(spread, target - target.mean(axis=0), rcond=None)
    matrix = np.eye(3)
    matrix[:2, :2] = solution.T
    matrix[:2, 2] = target.mean(axis=0) - solution.T @ middle
    residual = apply_affine(matrix, source) - target
    return matrix, float(np.sqrt(np.mean(np.sum(residual**2, axis=1))))
