"""Find the spots that are nearest to pixels or to other spots.

Shape legend: N spots, Q pixels, M neighbors.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

__all__ = ["nearest_other_spots"]


def nearest_other_spots(
    spots: np.ndarray, pixels: np.ndarray, parent: np.ndarray, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the spots nearest to each pixel, other than its parent; a spot is the parent of its own center.

    Parameters
    ----------
    spots
        Spot centers, shape (N, 2).
    pixels
        Pixel centers, shape (Q, 2).
    parent
        Spot of each pixel, shape (Q,).
    n_neighbors
        Number of spots to find, M.

    Returns
    -------
    index, distance
        Spots in order of their distance from the pixel, and the distances, shape (Q, M) each. If the slide has too few
        spots, the remaining entries are the parent with infinite distance.
    """
    k = min(n_neighbors + 1, len(spots))
    distance, index = cKDTree(spots).query(pixels, k=k)
    distance, index = distance.reshape(len(pixels), k), index.reshape(len(pixels), k)
    dropped = index == parent[:, None]
    dropped[~dropped.any(axis=1), -1] = True  # the parent is not among them: drop the farthest instead
    order = np.argsort(dropped, axis=1, kind="stable")[:, : k - 1]
    index, distance = np.take_along_axis(index, order, 1), np.take_along_axis(distance, order, 1)
    n_missing = n_neighbors - (k - 1)
    if n_missing > 0:
        index = np.hstack([index, np.repeat(parent[:, None], n_missing, axis=1)])
        distance = np.hstack([distance, np.full((len(pixels), n_missing), np.inf)])
    return index, distance
