"""Detection of the lattice of the spots: hexagonal, square or irregular, with its pitch and orientation.

Tilted and jittered lattices are common (spots of the original Spatial Transcriptomics platform are registered one by
one). The orientation therefore comes from the bond-orientational order of all neighbor pairs. The pitch comes from a
least-squares fit of the whole lattice if it is regular enough, or else from the median nearest-neighbor distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from napari_srast.errors import InputError

__all__ = ["Lattice", "LatticeKind", "detect_lattice", "lattice_vectors"]

LatticeKind = Literal["hex", "square", "irregular"]

_MAX_MISFIT = 0.2  # root mean square distance from the fitted lattice, in pitches, up to which spots are on it


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Lattice of spot centers.

    Parameters
    ----------
    kind
        "hex", "square" or "irregular".
    pitch
        Distance between neighboring spots, in the units of the centers.
    angle
        Direction of one lattice axis in radians: in (-pi/4, pi/4] for squares, (-pi/6, pi/6] for hexagons.
    center
        Middle of the lattice's extent, (x, y).
    extent
        Distance from the first to the last spot center, along the lattice axes (squares) or along x and y (others).
    misfit
        Root mean square distance of the spots from the fitted lattice, in pitches; NaN if no lattice was fitted.
    """

    kind: LatticeKind
    pitch: float
    angle: float
    center: tuple[float, float]
    extent: tuple[float, float]
    misfit: float


def lattice_vectors(pitch: float, angle: float, *, hexagonal: bool) -> np.ndarray:
    """Return the two lattice vectors as rows, 60 degrees apart on hexagonal lattices and 90 degrees on square ones."""
    second = angle + (np.pi / 3 if hexagonal else np.pi / 2)
    return pitch * np.array([[np.cos(angle), np.sin(angle)], [np.cos(second), np.sin(second)]])


def detect_lattice(centers: np.ndarray, spot_diameter: float | None = None) -> Lattice:
    """Detect the lattice of spot centers.

    Parameters
    ----------
    centers
        Spot centers, shape (n, 2).
    spot_diameter
        Diameter of a spot, in the units of ``centers``; the pitch of a single spot. None if unknown.

    Raises
    ------
    InputError
        The pitch is undefined: there is one spot of unknown size, or all spots have the same coordinates.
    """
    points = np.asarray(centers, dtype=float)
    order = np.lexsort(points.T)
    low = points.min(axis=0)
    points = points[order] - low  # sorted and shifted, so that no sum below depends on order or origin
    unique = np.unique(points, axis=0)
    middle, size = _bounding_box(points)
    if len(unique) < 2:
        if len(points) > 1:
            raise InputError(
                f"All {len(points)} spots have the same coordinates (x {low[0]:.6g}, y {low[1]:.6g}), so their "
                "positions were lost; export the slide again with them."
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
        raise InputError(
            "The spot centers are too close together or too far apart to define a pitch; check their units."
        )

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
    kind: LatticeKind = "hex" if fold == 6 else "square"
    if not misfit < _MAX_MISFIT:
        return _make(kind, pitch, angle, middle + low, size, np.nan)
    if kind == "hex":
        fitted_pitch = pitch  # arrays are often stretched by about 1%: the nearest-neighbor distance is more accurate
    else:
        first, last = indices.min(axis=0), indices.max(axis=0)
        extent = (last - first) * fitted_pitch
        if np.abs(np.sin(fitted_angle)) * extent.max() < 1e-3 * fitted_pitch:  # this tilt moves no pixel
            fitted_angle = 0.0
        axes = lattice_vectors(fitted_pitch, fitted_angle, hexagonal=False)
        middle = origin + (first + last) / 2 @ axes
        size = extent
    return _make(kind, fitted_pitch, fitted_angle, middle + low, size, misfit)


def _make(
    kind: LatticeKind,
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


def _bounding_box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, high - low


def _fit(
    points: np.ndarray, pitch: float, angle: float, fold: int
) -> tuple[float, float, np.ndarray, np.ndarray, float]:
    """Fit origin, pitch and angle by least squares, from the middle outwards so that index errors cannot accumulate.

    Parameters
    ----------
    points
        Spot centers, shape (n, 2).
    pitch, angle
        Initial values.
    fold
        Rotational symmetry: 6 for hexagonal, 4 for square lattices.

    Returns
    -------
    pitch, angle, indices, origin, misfit
        Fitted values, the lattice indices of the spots (n, 2), the position of index (0, 0), and the misfit.
    """
    seed = points[np.argmin(np.sum((points - np.median(points, axis=0)) ** 2, axis=1))]
    origin, reach = seed, 4.0 * pitch
    farthest = np.sqrt(np.max(np.sum((points - seed) ** 2, axis=1)))
    ideal = lattice_vectors(1.0, 0.0, hexagonal=fold == 6) @ np.array(
        [1, 1j]
    )  # lattice vectors as complex numbers, unrotated
    z = points @ np.array([1, 1j])
    while True:
        basis = lattice_vectors(pitch, angle, hexagonal=fold == 6)
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
    basis = lattice_vectors(pitch, angle_in_range, hexagonal=fold == 6)
    indices = np.rint(np.linalg.solve(basis.T, (points - origin).T).T)
    misfit = np.sqrt(np.mean(np.sum((points - origin - indices @ basis) ** 2, axis=1))) / pitch
    return pitch, float(angle_in_range), indices, origin, float(misfit)
