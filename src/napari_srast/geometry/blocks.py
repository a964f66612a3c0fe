"""Divide points into square blocks.

Shape legend: n points.
"""

from __future__ import annotations

import numpy as np

__all__ = ["square_blocks"]


def square_blocks(points: np.ndarray, side: float) -> np.ndarray:
    """Return the index of the square block of each point, shape (n,); blocks without points have no index.

    Parameters
    ----------
    points
        Positions (x, y), shape (n, 2).
    side
        Side of the blocks, in the unit of the points.
    """
    place = np.floor((points - points.min(axis=0)) / side).astype(np.int64)
    index: np.ndarray = np.unique(place, axis=0, return_inverse=True)[1].ravel()
    return index
