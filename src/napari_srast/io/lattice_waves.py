"""Recognize many lattices in one frame by plane waves in which the spots of each lattice agree.

A wave across a lattice has the same phase at all of its spots if its crests follow the rows of the lattice. Such a wave
is longer than the mean distance of the spots only if spots of other lattices are between those rows. No other
arrangement of spots has sharp waves of this length: those of cells, of clusters, and of gaps are blurred.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import next_fast_len, rfft2
from scipy.spatial import cKDTree

__all__ = ["pitch_of_waves"]

_SHORTEST, _LONGEST = 1.25, 4.2  # waves that are looked at, in mean distances: of 2 to 20 lattices
_CELL = 0.25  # side of a cell of the grid, in mean distances
_MAX_CELLS = 1024  # along a side of the grid; spots further from the middle are left out
_N_NEIGHBORS = 16  # that give the mean distance
_MIN_SPOTS = 100
_MIN_STRENGTH = 30.0  # of a wave, compared with those of random spots, of which the strongest has about 12
_MIN_EQUAL = 0.4  # strength of the waves of other lattices, compared with the strongest one
_STRETCH = 0.03  # relative difference of lengths in two directions
_MIN_COVERED = 0.5  # of the spots, that are on the lattices of the waves
_N_RINGS = 8  # of waves of similar length, whose typical strength is the background


def pitch_of_waves(points: np.ndarray) -> float | None:
    """Return the pitch of lattices that overlap in one frame, by their waves; None if there are no such waves.

    Parameters
    ----------
    points
        Spot centers (x, y), shape (N, 2), without repeated ones.
    """
    if len(points) < _MIN_SPOTS:
        return None
    distance, _ = cKDTree(points).query(points, k=_N_NEIGHBORS + 1)
    spacing = float(np.median(distance[:, -1])) * np.sqrt(np.pi / _N_NEIGHBORS)
    if not np.isfinite(spacing) or spacing <= 0:
        return None
    points = (points - np.median(points, axis=0)) / spacing
    points = points[np.abs(points).max(axis=1) < _MAX_CELLS * _CELL / 2]
    if len(points) < _MIN_SPOTS:
        return None
    waves, strength = _waves(points)
    length = np.hypot(*waves.T)  # crests per mean distance
    ring = ((length - 1 / _LONGEST) / (1 / _SHORTEST - 1 / _LONGEST) * _N_RINGS).astype(int).clip(0, _N_RINGS - 1)
    background = np.array([np.median(strength[ring == i]) if (ring == i).any() else 1.0 for i in range(_N_RINGS)])
    background = np.maximum(background / np.log(2), 1.0)  # the mean of an exponential distribution, from its median
    power, strength = strength, strength / background[ring]
    if strength.max() < _MIN_STRENGTH:
        return None
    longest = length[strength > _MIN_EQUAL * strength.max()].min()  # the others may be across other rows
    resolution = 1 / np.ptp(points, axis=0).min()
    off = max(_STRETCH, resolution / longest)
    ring = (np.abs(length / longest - 1) < off) & (strength > _MIN_EQUAL * _MIN_STRENGTH)
    peaks, power = _peaks(waves[ring], power[ring], 3 * resolution)
    spots = np.sqrt(power * len(points))  # on the lattices of each peak
    angle = np.arctan2(peaks[:, 1], peaks[:, 0])
    between = np.abs(angle[:, None] - angle) % np.pi  # the wave of the opposite direction is the same
    between = np.minimum(between, np.pi - between)
    covered = {n: spots[(np.abs(between - np.pi / n) < off).any(axis=1)].sum() / n for n in (2, 3)}
    n_directions = max(covered, key=lambda n: covered[n])
    if covered[n_directions] < _MIN_COVERED * len(points):
        return None
    return float((1.0 if n_directions == 2 else 2 / np.sqrt(3)) / longest * spacing)


def _peaks(waves: np.ndarray, power: np.ndarray, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the waves (x, y) of highest power that are some distance from each other, from the strongest on."""
    found, left = [], np.ones(len(waves), dtype=bool)
    while left.any():
        best = int(np.argmax(np.where(left, power, -1)))
        found.append(best)
        for sign in (1, -1):
            left &= np.hypot(*(waves - sign * waves[best]).T) > apart
    return waves[found], power[found]


def _waves(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the waves (x, y) in crests per unit, shape (n, 2), and their strength, 1 on average for random points."""
    places = np.floor((points - points.min(axis=0)) / _CELL).astype(int)
    sides = [next_fast_len(2 * int(side) + 2, real=True) for side in places.max(axis=0) + 1]
    grid = np.zeros(sides, dtype=np.float32)
    np.add.at(grid, tuple(places.T), 1)
    strength = np.abs(rfft2(grid)) ** 2 / len(points)
    along_x, along_y = np.fft.fftfreq(sides[0], _CELL), np.fft.rfftfreq(sides[1], _CELL)
    length = np.hypot(along_x[:, None], along_y)
    i, j = np.nonzero((length > 1 / _LONGEST) & (length < 1 / _SHORTEST))
    return np.column_stack([along_x[i], along_y[j]]), strength[i, j]
