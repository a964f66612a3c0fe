"""TODO docstring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass


__all__ = ["apply_affine"]


def apply_affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a (3, 3) affine matrix to (n, 2) points in (x, y) order."""
    return np.asarray(points, dtype=float) @ matrix[:2, :2].T + matrix[:2, 2]
