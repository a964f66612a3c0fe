"""Pseudo-spots with known truth: points (cells, beads, transcripts) binned onto a lattice of spots.

The raster alone defines which pixel and spot a point belongs to: the pixel that contains it, and that pixel's parent.
If points were assigned to the nearest spot first, pixels at the borders of cells would have unequal areas, and a model
would learn these areas. Shape legend: n points, N spots, Q pixels, G genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.errors import InputError, SettingsError, invalid_choice
from napari_srast.geometry.lattice import lattice_vectors
from napari_srast.geometry.raster import Raster, make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["BinnedSlide", "bin_points", "coarsen_points"]

_MAX_NODES = 20_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class BinnedSlide:
    """Low-resolution slide made from points, with the true counts of its pixels.

    Parameters
    ----------
    centers
        Spot centers, shape (N, 2).
    counts
        Low-resolution counts, the sums of ``truth`` over each spot's pixels, CSR, shape (N, G).
    raster
        Pixels and their parents.
    truth
        Counts of each pixel, CSR, shape (Q, G).
    """

    centers: np.ndarray
    counts: sparse.csr_matrix
    raster: Raster
    truth: sparse.csr_matrix

    @property
    def layout(self) -> SpotPixelMap:
        """Map between the spots and the pixels."""
        return SpotPixelMap.of_raster(self.centers, self.raster)


def bin_points(raster: Raster, points: np.ndarray, counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Sum the counts of points over the pixels that contain them.

    Parameters
    ----------
    raster
        Pixels to bin into.
    points
        Positions in the intrinsic frame, shape (n, 2); points outside all pixels are dropped.
    counts
        Counts of each point, shape (n, G).

    Returns
    -------
    scipy.sparse.csr_matrix
        Counts of each pixel, shape (Q, G).
    """
    pixel = raster.locate(points)
    inside = np.flatnonzero(pixel >= 0)
    shape = (raster.n_pixels, len(pixel))
    return sparse.csr_matrix(sparse.csr_matrix((np.ones(len(inside)), (pixel[inside], inside)), shape=shape) @ counts)


def coarsen_points(
    points: np.ndarray,
    counts: sparse.csr_matrix,
    *,
    pitch: float,
    lattice: Literal["square", "hex"] = "square",
    factor: float = 2.0,
    angle: float = 0.0,
    offset: tuple[float, float] = (0.0, 0.0),
    min_counts: float = 1,
) -> BinnedSlide:
    """Cover points with a lattice of spots, and bin them into the pixels of these spots.

    Parameters
    ----------
    points
        Positions of cells, beads or transcripts, shape (n, 2).
    counts
        Counts of each point, shape (n, G).
    pitch
        Distance between neighboring spots, in the units of ``points``.
    lattice
        "square" or "hex".
    factor
        Pixels per pitch.
    angle
        Direction of one lattice axis, in radians.
    offset
        Position of one spot relative to the lower left corner of the points' bounding box, in the units of ``points``.
    min_counts
        Spots with fewer counts are left out.

    Raises
    ------
    SettingsError
        The pitch or the lattice is invalid, or the pitch is too small for the extent of the points.
    InputError
        No spot has enough counts.
    """
    points = np.asarray(points, dtype=float)
    if not (np.isfinite(pitch) and pitch > 0):
        raise SettingsError(f"pitch is {pitch:g}, but must be above 0, in the units of the points' coordinates.")
    if lattice not in ("square", "hex"):
        raise invalid_choice("lattice", lattice, ("square", "hex"))
    if len(points) == 0:
        raise InputError("There are no points to bin; check that the table has observations.")
    total = np.asarray(counts.sum(axis=1), dtype=float).ravel()
    basis = lattice_vectors(pitch, angle, hexagonal=lattice == "hex")
    nodes = _nodes_over(points, basis, pitch, np.asarray(offset, dtype=float))
    _, nearest = cKDTree(nodes).query(points)
    centers = nodes[np.bincount(nearest, weights=total, minlength=len(nodes)) >= max(min_counts, 1)]
    # If the spot nearest to a point is left out, its pixel may belong to another spot: the counts change each time.
    while len(centers):
        raster = make_raster(centers, factor=factor, spot_diameter=pitch)
        truth = bin_points(raster, points, counts)
        coarse = sparse.csr_matrix(SpotPixelMap.of_raster(centers, raster).membership @ truth)
        enough = np.asarray(coarse.sum(axis=1)).ravel() >= max(min_counts, 1)
        if enough.all():
            return BinnedSlide(
                centers=centers, counts=coarse.astype(np.float32), raster=raster, truth=truth.astype(np.float32)
            )
        centers = centers[enough]
    raise InputError(f"No spot of pitch {pitch:g} has {min_counts:g} counts; use a larger pitch or fewer counts.")


def _nodes_over(points: np.ndarray, basis: np.ndarray, pitch: float, offset: np.ndarray) -> np.ndarray:
    """Return the positions of the lattice nodes within one pitch of the points' bounding box."""
    low, high = points.min(axis=0), points.max(axis=0)
    origin = low + offset
    corners = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])
    at_corners = (corners - origin) @ np.linalg.inv(basis)
    first, last = np.floor(at_corners.min(axis=0)) - 1, np.ceil(at_corners.max(axis=0)) + 1
    if np.prod(last - first + 1) > _MAX_NODES:
        raise SettingsError(f"A pitch of {pitch:g} is too fine for points that span {np.ptp(points, axis=0).max():g}.")
    i, j = np.meshgrid(np.arange(first[0], last[0] + 1), np.arange(first[1], last[1] + 1), indexing="ij")
    nodes = origin + np.column_stack([i.ravel(), j.ravel()]) @ basis
    return nodes[((nodes >= low - pitch) & (nodes <= high + pitch)).all(axis=1)]
