"""Recognize spots of several sections by geometry alone: lattices that overlap, repeated places, or a volume.

The spots of one lattice are at least a pitch apart, in steps that repeat all over the slide. Spots of several lattices
have such steps, too, but many of them are closer to a spot of another lattice than to those of their own.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from napari_srast.errors import InputError
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.lattice_frame import lattice_frame
from napari_srast.io.lattice_waves import pitch_of_waves

__all__ = [
    "close_share",
    "groups_by_order",
    "has_depth",
    "is_one_lattice",
    "mixed_pitch",
    "repeated_places",
    "starts_on_lattice",
]

_CLOSE = 0.75  # in pitches: any place is nearer than this to a node of a square or hexagonal lattice
_MIN_SHARE = 0.05  # of the spots that are closer to another one than those of one lattice can be
_MIN_COINCIDING = 0.2  # of the spots, at the very place of another one
_MAX_SECTIONS = 20  # that share the places of an array
_MIN_RUN = 12  # consecutive spots on one lattice
_RUN_DOUBLINGS = 9
_MAX_GROUPS = 20
_MIN_SPOTS = 24  # of two lattices
_MAX_SPOTS = 5_000  # that are looked at, those in the middle
_MAX_SPOTS_OF_WAVES = 50_000
_N_NEIGHBORS = 48
_STEP_BINS = 0.04  # side of a bin of the histogram of steps, in mean distances
_MIN_PEAK = 0.6  # of the highest peak: own steps of the lattices, not those between two of them
_MIN_REPEATED = 0.1  # of the spots, that have the step of the highest peak
_EXACT = 0.05  # distance of spots from their lattice, in pitches
_MIN_PAIRS = 12  # with this step
_MIN_EXCESS = 8.0  # of the highest peak over the mean of the histogram, in standard deviations
_AROUND = 0.5  # radius around a peak, in mean distances
_MIN_SHARPNESS = 0.22  # of the steps in this radius, those of the peak
_MIN_ROUNDED = 0.15  # ratio of the step to which places are rounded and their mean distance, that hides the lattices
_N_UNITS = 10**7  # in which coordinates are compared, over their whole range
_TOLERANCE = 0.01  # of the steps of rounded coordinates
_ROUNDED_MISFIT = 0.6  # of rounded places from their lattice, in steps
_MIN_DEEP = 0.3  # of the spots, whose neighbor in (x, y) is farther away in depth


def mixed_pitch(points: np.ndarray) -> float | None:
    """Return the pitch of lattices that overlap in one frame; None if the spots are on one lattice, or on none.

    Parameters
    ----------
    points
        Spot centers (x, y), shape (N, 2), in any order.
    """
    if len(points) < _MIN_SPOTS:
        return None
    middle = np.median(points, axis=0)
    from_middle = points[np.argsort(np.abs(points - middle).max(axis=1), kind="stable")[:_MAX_SPOTS_OF_WAVES]]
    points = np.unique(from_middle[:_MAX_SPOTS], axis=0)  # repeated places are counted by another function
    step = _rounding(points)
    if step > _MIN_ROUNDED * np.sqrt(np.prod(np.ptp(points, axis=0)) / len(points)):
        return None
    pitch = _repeated_step(points)
    if pitch is None:  # of many lattices, each has too few of the steps
        pitch = pitch_of_waves(np.unique(from_middle, axis=0))
    if pitch is None or close_share(points, pitch) <= _MIN_SHARE:
        return None
    lattice = detect_lattice(points)
    return None if lattice.misfit < _EXACT + _ROUNDED_MISFIT * step / lattice.pitch else pitch


def close_share(points: np.ndarray, pitch: float) -> float:
    """Return the share of the spots that are nearer to another one than spots of one lattice can be.

    Parameters
    ----------
    points
        Spot centers (x, y), shape (N, 2).
    pitch
        Pitch of the lattice.
    """
    if len(points) < 2:
        return 0.0
    distance, _ = cKDTree(points).query(points, k=2)
    return float(np.mean(distance[:, 1] < _CLOSE * pitch))


def repeated_places(points: np.ndarray, array: np.ndarray | None) -> int:
    """Return how many spots repeat the place of another one, by position or by row and column; 0 for a few of them.

    Parameters
    ----------
    points
        Spot centers (x, y), shape (N, 2).
    array
        Column and row of each spot on its array, shape (N, 2); None if they are unknown.
    """
    found = 0
    for places, least in ((points, _MIN_COINCIDING), (array, _MIN_SHARE)):
        if places is None or len(places) < _MIN_SPOTS:
            continue
        number = len(np.unique(places[:, 0] + 1j * places[:, 1]))
        # Columns without content have a single place for all.
        if len(places) - number > least * len(places) and len(places) <= _MAX_SECTIONS * number:
            found = max(found, len(places) - number)
    return found


def has_depth(points: np.ndarray, depth: np.ndarray) -> bool:
    """Return whether spots are in a volume: next to each other in (x, y), but not in depth.

    Parameters
    ----------
    points
        Spot centers (x, y), shape (N, 2).
    depth
        Third coordinate of each spot, shape (N,), in the unit of the others.
    """
    finite = np.isfinite(depth)
    if finite.sum() < _MIN_SPOTS:
        return False
    distance, index = cKDTree(points[finite]).query(points[finite], k=2)
    apart = np.abs(depth[finite] - depth[finite][index[:, 1]])
    return bool(np.mean(apart > np.maximum(distance[:, 1], np.median(distance[:, 1]))) > _MIN_DEEP)


def groups_by_order(points: np.ndarray) -> np.ndarray | None:
    """Divide spots into consecutive runs that are on one lattice each; return None if there are no such runs.

    Parameters
    ----------
    points
        Spot centers (x, y), shape (N, 2), section after section.
    """
    codes, start, group = np.zeros(len(points), dtype=int), 0, 0
    while start < len(points):
        length = _first_run(points[start:])
        if length == 0 or group > _MAX_GROUPS:
            return None
        if start == 0 and close_share(points, detect_lattice(points[:length]).pitch) <= _MIN_SHARE:
            return None
        low, high = start + length, len(points) + 1  # a run ends at low, and does not reach high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if is_one_lattice(points[start:middle]) else (low, middle)
        codes[start:low] = group
        start, group = low, group + 1
    return codes if group > 1 else None


def is_one_lattice(points: np.ndarray, codes: np.ndarray | None = None) -> bool:
    """Return whether all spots are on one lattice, each on a node of its own and as far apart as in their groups.

    Parameters
    ----------
    points
        Spot centers (x, y), shape (N, 2).
    codes
        Number of the group of each spot, shape (N,); None for a single group.
    """
    try:
        lattice = detect_lattice(points)
        if lattice.kind == "irregular" or not np.isfinite(lattice.misfit):
            return False
        largest = points if codes is None else points[codes == np.bincount(codes).argmax()]
        alone = detect_lattice(largest).pitch
    except InputError:
        return False
    nodes = lattice_frame(points, lattice).nodes
    return len(np.unique(nodes, axis=0)) == len(points) and alone < 1.2 * lattice.pitch


def starts_on_lattice(points: np.ndarray) -> bool:
    """Return whether the first spots are on one lattice, as those of a whole section are.

    Parameters
    ----------
    points
        Spot centers (x, y), shape (N, 2).
    """
    return _first_run(points) > 0


def _rounding(points: np.ndarray) -> float:
    """Return the step to which all coordinates are rounded, such as a pixel; 0 if there is none."""
    found = []
    for values in points.T:
        unit = max(float(np.ptp(values)), 1e-300) / _N_UNITS
        steps = np.unique(np.diff(np.unique(np.rint((values - values.min()) / unit))))
        candidates = np.concatenate([steps, np.diff(steps)])
        smallest = candidates[candidates > _TOLERANCE / 2 * steps.max(initial=0)].min(initial=_N_UNITS)
        if np.abs(steps / smallest - np.rint(steps / smallest)).max(initial=0) > _TOLERANCE:
            return 0.0
        found.append(float(smallest * unit))
    return min(found)


def _first_run(points: np.ndarray) -> int:
    """Return how many of the first spots are needed to recognize their lattice; 0 if they are on none."""
    lengths = [int(n) for n in _MIN_RUN * 2.0 ** np.arange(_RUN_DOUBLINGS) if n <= len(points)]
    return next((length for length in lengths if is_one_lattice(points[:length])), 0)


def _repeated_step(points: np.ndarray) -> float | None:
    """Return the length of the shortest step between spots that repeats all over the slide; None if none does."""
    n_neighbors = min(_N_NEIGHBORS, len(points) - 1)
    if n_neighbors < 4:
        return None
    distance, index = cKDTree(points).query(points, k=n_neighbors + 1)
    radius = float(np.median(distance[:, -1]))
    side = _STEP_BINS * radius * np.sqrt(np.pi / n_neighbors)
    if not np.isfinite(side) or side <= 0:
        return None
    steps = (points[index[:, 1:]] - points[:, None]).reshape(-1, 2)
    steps = steps[(steps[:, 0] > 0) | ((steps[:, 0] == 0) & (steps[:, 1] > 0))]
    columns, rows = np.floor(steps / side).astype(np.int64).T
    width = 2 * int(np.abs(rows).max()) + 5
    cells, counts = np.unique(columns * width + rows, return_counts=True)
    around = np.zeros(len(cells), dtype=np.int64)  # counts of 3 x 3 cells: a step may be at the border of one
    for offset in (i * width + j for i in (-1, 0, 1) for j in (-1, 0, 1)):
        place = np.minimum(np.searchsorted(cells, cells + offset), len(cells) - 1)
        around += np.where(cells[place] == cells + offset, counts[place], 0)
    best = int(np.argmax(around))
    peak = int(around[best])
    column, row = _cell_place(cells, width)
    near = np.hypot(*(steps - (np.array([column[best], row[best]]) + 0.5) * side).T) < _AROUND * side / _STEP_BINS
    mean = 9 * len(steps) / (np.pi * (radius / side) ** 2 / 2)
    if peak < max(_MIN_PAIRS, _MIN_REPEATED * len(points), mean + _MIN_EXCESS * np.sqrt(mean)):
        return None
    if peak < _MIN_SHARPNESS * near.sum():  # whole numbers, or places that are jittered
        return None
    high = around >= _MIN_PEAK * peak
    return float(np.hypot(column + 0.5, row + 0.5)[high].min() * side)


def _cell_place(cells: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return column and row of the cells of a histogram from their numbers."""
    column = np.floor_divide(cells + width // 2, width)
    return column, cells - column * width
