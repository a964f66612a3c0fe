"""Convert SpatialData transformations to (3, 3) matrices in (x, y) order, and back."""

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
    """Convert a SpatialData transformation of any kind to a (3, 3) matrix on (x, y).

    Parameters
    ----------
    transformation
        The transformation; its channels and z are dropped.
    """
    try:
        matrix = transformation.to_affine_matrix(_AXES, _AXES)
    except ValueError:  # the transformation includes the channel axis
        axes = ("c", "y", "x")
        with_channels = transformation.to_affine_matrix(axes, axes)
        xy = [axes.index("x"), axes.index("y"), len(axes)]
        matrix = with_channels[np.ix_(xy, xy)]
    return np.asarray(matrix, dtype=float)


def element_matrices(element: Any, name: str) -> dict[str, np.ndarray]:
    """Return the transformations of an element as (3, 3) matrices, by coordinate system.

    Parameters
    ----------
    element
        A SpatialData element.
    name
        Name of the element, for messages.

    Raises
    ------
    InputError
        A transformation is singular, or contains numbers that are not finite, or too large or small to compute with.
    """
    from spatialdata.transformations import get_transformation

    matrices = {}
    for system, transformation in sorted(get_transformation(element, get_all=True).items()):
        matrix = to_matrix(transformation)
        area = abs(np.linalg.det(matrix[:2, :2]))  # of the transformed unit square
        if not np.isfinite(matrix).all() or not 1e-200 < area < 1e200:
            raise InputError(
                f"The transformation of '{name}' to coordinate system '{system}' cannot be inverted; "
                "set it again in the store."
            )
        matrices[system] = matrix
    return matrices


def to_affine(matrix: np.ndarray) -> Affine:
    """Convert a (3, 3) matrix on (x, y) to a SpatialData transformation."""
    from spatialdata.transformations import Affine

    return Affine(np.asarray(matrix, dtype=float), input_axes=_AXES, output_axes=_AXES)


def to_affines(matrices: Mapping[str, np.ndarray], first: np.ndarray | None = None) -> dict[str, BaseTransformation]:
    """Convert (3, 3) matrices to SpatialData transformations, by coordinate system.

    Parameters
    ----------
    matrices
        The matrices by coordinate system.
    first
        A (3, 3) matrix that is applied before each of them; None for the identity.
    """
    inner = np.eye(3) if first is None else first
    return {system: to_affine(matrix @ inner) for system, matrix in matrices.items()}


def fit_affine(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit an affine transformation from source points to target points by least squares.

    Parameters
    ----------
    source, target
        Corresponding points (x, y), shape (n, 2).

    Returns
    -------
    tuple
        The (3, 3) matrix, and the root mean square distance of the transformed points from the target points.

    Raises
    ------
    InputError
        There are fewer than three points, or all of them are collinear.
    """
    source, target = np.asarray(source, dtype=float), np.asarray(target, dtype=float)
    mean = source.mean(axis=0)
    centered = source - mean
    if len(source) < 3 or np.linalg.matrix_rank(centered) < 2:
        raise InputError(
            "All spots in obsm['spatial_px'] are on one line, so the position of the image is undetermined; "
            "give the pixel size instead."
        )
    solution, *_ = np.linalg.lstsq(centered, target - target.mean(axis=0), rcond=None)
    matrix = np.eye(3)
    matrix[:2, :2] = solution.T
    matrix[:2, 2] = target.mean(axis=0) - solution.T @ mean
    residual = apply_affine(matrix, source) - target
    return matrix, float(np.sqrt(np.mean(np.sum(residual**2, axis=1))))
