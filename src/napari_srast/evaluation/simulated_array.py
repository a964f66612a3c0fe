"""Measure a slide of fine bins as an array of spots would: discs with gaps or whole cells, and the truth of pixels.

Positions are in the frame of :class:`napari_srast.evaluation.fine_slide.FineSlide`: bins are squares along x and y, and
the first one has its lower left corner at (0, 0). Shape legend: n bins, N spots, Q pixels, G genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.errors import InputError, SettingsError, invalid_choice, value_out_of_range
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.raster import Raster

__all__ = ["SimulatedArray", "check_pixel_size", "pixels_are_whole_bins", "spot_membership", "thin", "truth_weights"]

_EDGE = 0.3  # in pitches: spots keep this distance from the far borders of the slide
_MAX_SPOTS = 1_000_000
_DECIMALS = 6  # of pixel coordinates, so that bin centers on a border of pixels are all on the same side of it
_WHOLE = 1e-3  # deviation from a whole number of bins per pixel that counts as rounding


@dataclass(frozen=True, kw_only=True)
class SimulatedArray:
    """Array of spots.

    Parameters
    ----------
    pitch
        Distance between neighboring spots, in the units of the bins' coordinates.
    lattice
        "square" or "hex".
    spot_diameter
        Diameter of the measured disc of every spot; None if spots measure their whole cells.
    min_counts
        Spots with fewer counts are left out.

    Raises
    ------
    SettingsError
        A length or the lattice is invalid, or discs overlap.
    """

    pitch: float
    lattice: Literal["square", "hex"] = "hex"
    spot_diameter: float | None = None
    min_counts: float = 20

    def __post_init__(self) -> None:
        if self.lattice not in ("square", "hex"):
            raise invalid_choice("lattice", self.lattice, ("square", "hex"))
        if not (np.isfinite(self.pitch) and self.pitch > 0):
            raise value_out_of_range("pitch", float(self.pitch), "above 0, in the units of the coordinates")
        if self.spot_diameter is not None and not 0 < self.spot_diameter <= self.pitch:
            raise value_out_of_range(
                "spot diameter", float(self.spot_diameter), f"above 0 and at most the pitch, {self.pitch:g}"
            )

    def centers(self, far_corner: np.ndarray) -> np.ndarray:
        """Return the spot centers (N, 2) that fit between (0, 0) and the last bin center (x, y).

        Raises
        ------
        SettingsError
            The pitch is too large for the slide, or far too small.
        """
        step = self.pitch * (np.sqrt(3) / 2 if self.lattice == "hex" else 1.0)
        if np.prod(np.asarray(far_corner, dtype=float) / self.pitch) > _MAX_SPOTS:
            raise SettingsError(f"A pitch of {self.pitch:g} gives over {_MAX_SPOTS:,} spots; use a larger one.")
        rows = np.arange(self.pitch / 2, far_corner[1] - _EDGE * self.pitch, step)
        shift = self.pitch / 2 if self.lattice == "hex" else 0.0
        lines = []
        for i, y in enumerate(rows):
            x = np.arange(self.pitch / 2 + shift * (i % 2), far_corner[0] - _EDGE * self.pitch, self.pitch)
            lines.append(np.column_stack([x, np.full_like(x, y)]))
        centers = np.concatenate(lines) if lines else np.empty((0, 2))
        if len(centers) < 2:
            width, height = far_corner
            raise SettingsError(
                f"Only {len(centers)} spots of pitch {self.pitch:g} fit in the slide of {width:g} x {height:g}; "
                "use a smaller pitch."
            )
        return centers


def spot_membership(array: SimulatedArray, centers: np.ndarray, points: np.ndarray) -> sparse.csr_matrix:
    """Return the matrix (N, n) of ones where a spot measures a bin; a bin belongs to the disc that holds its center.

    Parameters
    ----------
    array
        The array, which gives the shape of a spot.
    centers
        Spot centers, shape (N, 2).
    points
        Bin centers, shape (n, 2).
    """
    distance, nearest = cKDTree(centers).query(points)
    if array.spot_diameter is not None:
        inside = distance <= array.spot_diameter / 2
    elif array.lattice == "hex":
        inside = distance <= array.pitch / np.sqrt(3) * (1 + 1e-9)
    else:
        inside = np.abs(points - centers[nearest]).max(axis=1) <= array.pitch / 2 * (1 + 1e-9)
    measured = np.flatnonzero(inside)
    ones = np.ones(len(measured))
    return sparse.csr_matrix((ones, (nearest[measured], measured)), shape=(len(centers), len(points)))


def thin(counts: sparse.csr_matrix, seed: int) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Assign every count at random to one of two halves, float64, shape (n, G) each.

    Given the rates, Poisson counts of the two halves are independent. The draws follow the stored order of ``counts``.

    Parameters
    ----------
    counts
        Whole counts, shape (n, G).
    seed
        Random seed.

    Raises
    ------
    InputError
        The counts are not whole numbers.
    """
    whole = np.rint(counts.data)
    if not np.array_equal(whole, counts.data):
        raise InputError("The counts are not whole numbers, so they cannot be split into halves; put raw counts in X.")
    half = sparse.csr_matrix(counts, dtype=np.float64, copy=True)
    half.data = np.random.default_rng(seed).binomial(whole.astype(np.int64), 0.5).astype(np.float64)
    return half, sparse.csr_matrix(counts - half)


def check_pixel_size(pixel_size: float, bin_side: float) -> None:
    """Check that bins are not larger than pixels, because then they hold no truth at that scale.

    Parameters
    ----------
    pixel_size, bin_side
        Sides of a pixel and of a bin.

    Raises
    ------
    SettingsError
        The bins are larger.
    """
    if bin_side > pixel_size * (1 + _WHOLE):
        raise SettingsError(
            f"The bins have sides of {bin_side:.4g}, more than the pixels' {pixel_size:.4g}; use a smaller factor, a "
            "larger pitch or smaller bins."
        )


def pixels_are_whole_bins(pixel_size: float, bin_side: float) -> bool:
    """Return whether the side of a pixel is a whole number of bins, so that every pixel holds as many bin centers.

    Parameters
    ----------
    pixel_size, bin_side
        Sides of a pixel and of a bin; a side of 0 stands for points, which have no area.
    """
    if bin_side == 0:
        return True
    ratio = pixel_size / bin_side
    return abs(ratio - round(ratio)) < _WHOLE


def truth_weights(raster: Raster, points: np.ndarray, bin_side: float) -> sparse.csr_matrix:
    """Return the matrix (Q, n) that sums bins over pixels without aliasing.

    If a pixel's side is a whole number of bins, each bin goes as a whole to the pixel that contains its center: then
    every pixel holds the same number of bins. Otherwise each bin is divided by the area that it shares with each pixel.

    Parameters
    ----------
    raster
        The pixels, along x and y.
    points
        Bin centers, shape (n, 2).
    bin_side
        Side of a bin; 0 for points, which go to the pixel that contains them.

    Raises
    ------
    SettingsError
        Bins are larger than pixels, so they hold no truth at that scale.
    """
    check_pixel_size(raster.pixel_size, bin_side)
    middle = np.round(apply_affine(np.linalg.inv(raster.affine), points), _DECIMALS)
    whole = pixels_are_whole_bins(raster.pixel_size, bin_side)
    half = 0.0 if whole else bin_side / (2 * raster.pixel_size)
    low, high = middle - half, middle + half
    first = np.floor(low).astype(np.int64)
    rows, columns, weights = [], [], []
    for right, down in [(0, 0)] if whole else [(0, 0), (1, 0), (0, 1), (1, 1)]:
        pixel = first + np.array([right, down])
        shared = np.ones(len(points)) if whole else _overlap(low, high, pixel) / (4 * half * half)
        inside = ((pixel >= 0) & (pixel < raster.shape[::-1])).all(axis=1)
        index = np.full(len(points), -1, dtype=np.int64)
        index[inside] = raster.index_image[pixel[inside, 1], pixel[inside, 0]]
        used = np.flatnonzero((index >= 0) & (shared > 0))
        rows.append(index[used])
        columns.append(used)
        weights.append(shared[used])
    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(raster.n_pixels, len(points)))


def _overlap(low: np.ndarray, high: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Return the areas (n,) that rectangles from ``low`` to ``high`` (n, 2) share with unit squares at ``pixel``."""
    sides = np.maximum(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0.0)
    return sides[:, 0] * sides[:, 1]
