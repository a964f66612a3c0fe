"""Cutting points into compact groups by halving, always the same way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["bisect_points", "sample_patches"]


def bisect_points(
    points: np.ndarray, is_small: Callable[[np.ndarray], bool], members: np.ndarray | None = None
) -> list[np.ndarray]:
    """Halve points (n, d) across their widest side until every group is small.

    Parameters
    ----------
    points
        Positions, shape (n, d).
    is_small
        Tells of a group's indices whether it is left as it is; single points always are.
    members
        Indices of the points to group; None for all.

    Returns
    -------
    list of numpy.ndarray
        Sorted indices of each group. They depend on the positions alone.

    Examples
    --------
    >>> import numpy as np
    >>> [group.tolist() for group in halve(np.array([[0.0], [1.0], [2.0], [3.0]]), lambda group: len(group) <= 2)]
    [[0, 1], [2, 3]]
    """
    members = np.arange(len(points)) if members is None else members
    if len(members) <= 1 or is_small(members):
        return [np.sort(members)]
    places = points[members]
    axis = int(np.argmax(np.ptp(places, axis=0)))
    others = [places[:, d] for d in range(places.shape[1]) if d != axis]
    order = members[np.lexsort((*others, places[:, axis]))]
    middle = len(order) // 2
    return [*bisect_points(points, is_small, order[:middle]), *bisect_points(points, is_small, order[middle:])]


def sample_patches(points: np.ndarray, n_points: int, n_patches: int) -> np.ndarray:
    """Return the sorted indices of about ``n_points`` of some points (n, d), in compact patches all over them.

    All of them where there are no more.
    """
    if len(points) <= n_points:
        return np.arange(len(points))
    size = n_points // n_patches
    groups = bisect_points(points, lambda group: len(group) <= size)
    n_taken = min(len(groups), n_points // max(len(group) for group in groups))
    taken = np.unique(np.linspace(0, len(groups) - 1, n_taken).astype(int))
    return np.sort(np.concatenate([groups[i] for i in taken]))
