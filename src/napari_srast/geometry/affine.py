"""Affine transformations of points in the plane."""

from __future__ import annotations

import numpy as np

from napari_srast.arrays import Affine

__all__ = ["apply_affine"]


def apply_affine(matrix: Affine, points: np.ndarray) -> np.ndarray:
    """Apply an affine transformation to points.

    Parameters
    ----------
    matrix
        Transformation of (x, y) coordinates, shape (3, 3).
    points
        Points in (x, y) order, shape (n, 2).

    Returns
    -------
    np.ndarray
        Transformed points, float64, shape (n, 2).
    """
    return np.asarray(points, dtype=float) @ matrix[:2, :2].T + matrix[:2, 2]
