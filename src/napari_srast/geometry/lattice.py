"""The lattice of the spots: hexagonal, square or none, its pitch and its orientation.

A tilted or jittered lattice is common (legacy ST spots are registered one by one), so orientation comes from the
bond-orientational order of all neighbor pairs and the pitch from a least-squares fit of the whole lattice where it
is regular enough, else from the median distance to the nearest neighbor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from napari_srast.errors import InputError

__all__ = ["Lattice", "detect_lattice"]

_REGULAR = 0.2  # root mean square misfit, in pitches, up to which spots count as lying on a lattice


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Layout of the spots.

    Parameters
    ----------
    kind
        "hex", "square" or "irregular".
    pitch
        Distance between neighboring spots.
    angle
        Direction of one lattice axis in radians: in (-pi/4, pi/4] for squares, (-pi/6, pi/6] for hexagons.
    center
        Middle of the lattice's extent, (x, y).
    extent
        Size of the lattice along its own axes (squares) or along x and y, from first to last spot center.
    misfit
        Root mean square distance of the spots from the fitted lattice, in pitches; NaN where none was fitted.
    """

    kind: Literal["hex", "square", "irregular"]
    pitch: float
    angle: float
    center: tuple[float, float]
    extent: tuple[float, float]
    misfit: float


def detect_lattice(centers: np.ndarray, spot_diameter: float | None = None) -> Lattice:
    """Find the lattice that the (n, 2) spot centers lie on.

    A single spot takes its own diameter as pitch.

    Raises
    ------
    InputError
        No distance can be told: one spot of unknown size, or several at one place.
    """
    points = np.asarray(centers, dtype=float)
    order = np.lexsort(points.T)
    low = points.min(axis=0)
    points = points[order] - low  # the order and the shift keep every sum below independent of both
    unique = np.unique(points, axis=0)
    middle, size = _box(points)
    if len(unique) < 2:
        if len(points) > 1:
            raise InputError(
                f"All {len(points)} spots lie at one place (x {low[0]:.6g}, y {low[1]:.6g}), so their coordinates were "
                "lost; export the slide again with them."
            )
        if not spot_diameter:
            raise InputError(
                "The slide has a single spot of unknown size; give the spot diameter when importing the slide "
                "(--spot-diameter)."
            )
        return _make("irregular", float(spot_diameter), 0.0, middle + low, size, np.nan)
    tree = cKDTree(unique)
    n_neighbors = min(9, len(unique))
    distance, index = tree.query(unique, k=n_neighbors)
    pitch = float(np.median(distance[:, 1]))
    if not np.isfinite(pitch) or pitch <= 0:
        raise InputError("The spot centers are too close together or too far apart to tell a pitch; check their units.")

    near = distance[:, 1:] < 1.3 * pitch
    bond = (unique[index[:, 1:]] - unique[:, None])[near]
    theta = np.arctan2(bond[:, 1], bond[:, 0])
    order4, order6 = np.mean(np.exp(4j * theta)), np.mean(np.exp(6j * theta))
    fold = 6 if abs(order6) > abs(order4) else 4
    strength, phase = max((abs(order4), np.angle(order4)), (abs(order6), np.angle(order6)))
    if len(unique) < 4 or strength < 0.5:
        return _make("irregular", pitch, 0.0, middle + low, size, np.nan)
    angle = float(phase / fold)
    fitted_pitch, fitted_angle, indices, origin, misfit = _fit(unique, pitch, angle, fold)
    kind: Literal["hex", "square"] = "hex" if fold == 6 else "square"
    if not misfit < _REGULAR:
        return _make(kind, pitch, angle, middle + low, size, np.nan)
    if kind == "hex":
        fitted_pitch = pitch  # arrays are often stretched by a percent: the nearest neighbors say it best
    else:
        first, last = indices.min(axis=0), indices.max(axis=0)
        extent = (last - first) * fitted_pitch
        if np.abs(np.sin(fitted_angle)) * extent.max() < 1e-3 * fitted_pitch:  # a tilt that moves no pixel is no tilt
            fitted_angle = 0.0
        axes = _basis(fitted_pitch, fitted_angle, 4)
        middle = origin + (first + last) / 2 @ axes
        size = extent
    return _make(kind, fitted_pitch, fitted_angle, middle + low, size, misfit)


def _make(
    kind: Literal["hex", "square", "irregular"],
    pitch: float,
    angle: float,
    center: np.ndarray,
    extent: np.ndarray,
    misfit: float,
) -> Lattice:
    return Lattice(
        kind=kind,
        pitch=float(pitch),
        angle=float(angle),
        center=(float(center[0]), float(center[1])),
        extent=(float(extent[0]), float(extent[1])),
        misfit=float(misfit),
    )


def _box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, high - low


def _basis(pitch: float, angle: float, fold: int) -> np.ndarray:
    """Rows are the two lattice vectors."""
    second = angle + (np.pi / 3 if fold == 6 else np.pi / 2)
    return pitch * np.array([[np.cos(angle), np.sin(angle)], [np.cos(second), np.sin(second)]])


def _fit(
    points: np.ndarray, pitch: float, angle: float, fold: int
) -> tuple[float, float, np.ndarray, np.ndarray, float]:
    """Fit origin, pitch and angle by least squares, growing outwards so that index errors cannot build up."""
    seed = points[np.argmin(np.sum((points - np.median(points, axis=0)) ** 2, axis=1))]
    origin, reach = seed, 4.0 * pitch
    farthest = np.sqrt(np.max(np.sum((points - seed) ** 2, axis=1)))
    ideal = _basis(1.0, 0.0, fold) @ np.array([1, 1j])  # lattice vectors as complex numbers, unrotated
    z = points @ np.array([1, 1j])
    while True:
        basis = _basis(pitch, angle, fold)
        indices = np.rint(np.linalg.solve(basis.T, (points - origin).T).T)
        use = np.sum((points - seed) ** 2, axis=1) <= reach**2
        w = indices @ ideal
        w_mean, z_mean = w[use].mean(), z[use].mean()
        spread = np.sum(np.abs(w[use] - w_mean) ** 2)
        if spread > 0:
            factor = np.sum(np.conj(w[use] - w_mean) * (z[use] - z_mean)) / spread
            if 0.7 < abs(factor) / pitch < 1.4:
                pitch, angle = float(abs(factor)), float(np.angle(factor))
                shifted = z_mean - factor * w_mean
                origin = np.array([shifted.real, shifted.imag])
        if reach > farthest:
            break
        reach *= 1.5
    turn = 2 * np.pi / fold
    angle_in_range = (angle + turn / 2) % turn - turn / 2
    if np.isclose(angle_in_range, -turn / 2, atol=1e-6):
        angle_in_range = turn / 2
    basis = _basis(pitch, angle_in_range, fold)
    indices = np.rint(np.linalg.solve(basis.T, (points - origin).T).T)
    misfit = np.sqrt(np.mean(np.sum((points - origin - indices @ basis) ** 2, axis=1))) / pitch
    return pitch, float(angle_in_range), indices, origin, float(misfit)
