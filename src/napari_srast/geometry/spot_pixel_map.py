"""Map between spots and pixels: the geometry that an upsampling method needs.

A raster yields such a map. A coarsened slide yields one too; its pixels are the original spots.
Shape legend: N spots, Q pixels, F fields, K pixels of a spot, E pairs of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.arrays import PixelCenters, PixelParents, PixelRatios, SpotCenters
from napari_srast.geometry.raster import Raster

__all__ = ["PaddedPixels", "SpotPixelMap"]


class PaddedPixels(NamedTuple):
    """Pixels of every spot as a rectangular table.

    Parameters
    ----------
    pixel_index
        Pixel indices in ascending order, int64, shape (N, K). Padding repeats the spot's first pixel; a spot without
        pixels has index 0.
    mask
        True where an index is a pixel of the spot, False where it is padding, shape (N, K).
    """

    pixel_index: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class SpotPixelMap:
    """Spots and the pixels that their counts are distributed to.

    Parameters
    ----------
    spots
        Spot centers, shape (N, 2). Spots without pixels serve as neighbors only.
    pixels
        Pixel centers, shape (Q, 2).
    parent
        Spot of each pixel, shape (Q,).
    pitch
        Distance between neighboring spots, in the same units.
    """

    spots: SpotCenters
    pixels: PixelCenters
    parent: PixelParents
    pitch: float

    @classmethod
    def of_raster(cls, centers: SpotCenters, raster: Raster) -> SpotPixelMap:
        """Build the map of a raster over (N, 2) spot centers, shifted to the origin for accuracy."""
        origin = centers.min(axis=0)
        return cls(
            spots=centers - origin, pixels=raster.centers - origin, parent=raster.parent, pitch=raster.lattice.pitch
        )

    @classmethod
    def without_pixels(cls, centers: SpotCenters, pitch: float) -> SpotPixelMap:
        """Build the map of (N, 2) spot centers alone, shifted to the origin as those of a raster."""
        none = np.zeros(0, dtype=np.int64)
        return cls(spots=centers - centers.min(axis=0), pixels=np.zeros((0, 2)), parent=none, pitch=pitch)

    @property
    def n_spots(self) -> int:
        """Number of spots, N."""
        return len(self.spots)

    @property
    def n_pixels(self) -> int:
        """Number of pixels, Q."""
        return len(self.pixels)

    @cached_property
    def n_pixels_per_spot(self) -> np.ndarray:
        """Number of pixels K of each spot, shape (N,)."""
        return np.bincount(self.parent, minlength=self.n_spots)

    @cached_property
    def membership(self) -> sparse.csr_matrix:
        """Membership matrix of ones, shape (N, Q): ``membership @ values`` sums pixel values over each spot."""
        ones = np.ones(self.n_pixels)
        return sparse.csr_matrix((ones, (self.parent, np.arange(self.n_pixels))), shape=(self.n_spots, self.n_pixels))

    def padded_pixels(self) -> PaddedPixels:
        """Return the pixels of every spot, padded to the largest number of pixels K of a spot (at least 1)."""
        n_pixels = self.n_pixels_per_spot
        mask = np.arange(n_pixels.max(initial=1)) < n_pixels[:, None]
        first = np.cumsum(n_pixels) - n_pixels
        first[n_pixels == 0] = 0
        by_spot = np.argsort(self.parent, kind="stable")
        if len(by_spot) == 0:
            return PaddedPixels(np.zeros(mask.shape, dtype=np.int64), mask)
        return PaddedPixels(by_spot[np.where(mask, first[:, None] + np.arange(mask.shape[1]), first[:, None])], mask)

    @cached_property
    def adjacent_pixels(self) -> np.ndarray:
        """Pairs of pixels that are side by side, on any lattice, shape (2, E)."""
        if self.n_pixels < 2:
            return np.zeros((2, 0), dtype=np.int64)
        tree = cKDTree(self.pixels)
        side = float(np.median(tree.query(self.pixels, k=[2])[0]))
        return np.ascontiguousarray(tree.query_pairs(1.2 * side, output_type="ndarray").T)

    def normalize(self, values: np.ndarray) -> PixelRatios:
        """Scale non-negative (Q, F) values to sum to 1 within each spot; a spot of zeros gets a uniform split."""
        values = np.asarray(values, dtype=np.float64)
        total = (self.membership @ values)[self.parent]
        even = (1.0 / self.n_pixels_per_spot[self.parent])[:, None]
        return np.where(total > 0, values / np.where(total > 0, total, 1.0), even)
