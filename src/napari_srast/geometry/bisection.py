"""Deterministic partition of points into compact groups by recursive bisection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["bisect_points", "sample_patches"]


def bisect_points(
    points: np.ndarray, is_small: Callable[[np.ndarray], bool], members: np.ndarray | None = None
) -> list[np.ndarray]:
    """Bisect points across their widest side until every group is small.

    Parameters
    ----------
    points
        Positions, shape (n, d).
    is_small
        Returns whether a group, given by its indices, stays undivided. Single points always do.
    members
        Indices of the points to group; None for all.

    Returns
    -------
    list of np.ndarray
        Sorted indices of each group. The groups depend on the positions only, not on the order of the points.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> [group.tolist() for group in bisect_points(points, lambda group: len(group) <= 2)]
    [[0, 1], [2, 3]]
    """
    members = np.arange(len(points)) if members is None else members
    if len(members) <= 1 or is_small(members):
        return [np.sort(members)]
    positions = points[members]
    axis = int(np.argmax(np.ptp(positions, axis=0)))
    tie_breakers = [positions[:, d] for d in range(positions.shape[1]) if d != axis]
    order = members[np.lexsort((*tie_breakers, positions[:, axis]))]
    middle = len(order) // 2
    return [*bisect_points(points, is_small, order[:middle]), *bisect_points(points, is_small, order[middle:])]


def sample_patches(points: np.ndarray, n_points: int, n_patches: int) -> np.ndarray:
    """Choose compact patches of points, spread over all points.

    Parameters
    ----------
    points
        Positions, shape (n, d).
    n_points
        Approximate number of points to choose, never exceeded.
    n_patches
        Number of patches to spread them over.

    Returns
    -------
    np.ndarray
        Sorted indices of the chosen points; all indices if there are at most ``n_points`` points.
    """
    if len(points) <= n_points:
        return np.arange(len(points))
    size = n_points // n_patches
    groups = bisect_points(points, lambda group: len(group) <= size)
    n_chosen = min(len(groups), n_points // max(len(group) for group in groups))
    chosen = np.unique(np.linspace(0, len(groups) - 1, n_chosen).astype(int))
    return np.sort(np.concatenate([groups[i] for i in chosen]))
