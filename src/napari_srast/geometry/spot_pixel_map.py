"""What a splitting method needs to know of the geometry: spots, pixels, and which pixel belongs to which spot.

A raster gives one; so does a slide coarsened once, whose own spots then play the pixels.
Shape legend: N spots, Q pixels, F fields, K pixels of a spot, E pairs of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.geometry.raster import Raster

__all__ = ["SpotPixelMap"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SpotPixelMap:
    """Spots and the pixels that they are split into.

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

    spots: np.ndarray
    pixels: np.ndarray
    parent: np.ndarray
    pitch: float

    @classmethod
    def of_raster(cls, centers: np.ndarray, raster: Raster) -> SpotPixelMap:
        """Return the layout of a raster over (N, 2) spot centers, shifted to the origin for accuracy."""
        origin = centers.min(axis=0)
        return cls(
            spots=centers - origin, pixels=raster.centers - origin, parent=raster.parent, pitch=raster.lattice.pitch
        )

    @property
    def n_spots(self) -> int:
        """Number of spots, N."""
        return len(self.spots)

    @property
    def n_pixels(self) -> int:
        """Number of pixels, Q."""
        return len(self.pixels)

    @cached_property
    def n_pixels_of_spot(self) -> np.ndarray:
        """Number of pixels K of each spot, shape (N,)."""
        return np.bincount(self.parent, minlength=self.n_spots)

    @cached_property
    def membership(self) -> sparse.csr_matrix:
        """Indicator matrix, shape (N, Q): ``membership @ values`` adds up pixels over their spots."""
        ones = np.ones(self.n_pixels)
        return sparse.csr_matrix((ones, (self.parent, np.arange(self.n_pixels))), shape=(self.n_spots, self.n_pixels))

    @cached_property
    def touching(self) -> np.ndarray:
        """Pairs of pixels that lie side by side, on any lattice, shape (2, E)."""
        if self.n_pixels < 2:
            return np.zeros((2, 0), dtype=np.int64)
        tree = cKDTree(self.pixels)
        side = float(np.median(tree.query(self.pixels, k=[2])[0]))
        return np.ascontiguousarray(tree.query_pairs(1.2 * side, output_type="ndarray").T)

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """Scale non-negative (Q, F) values so that they sum to 1 within each spot; a spot of zeros is split evenly."""
        values = np.asarray(values, dtype=np.float64)
        total = (self.membership @ values)[self.parent]
        even = (1.0 / self.n_pixels_of_spot[self.parent])[:, None]
        return np.where(total > 0, values / np.where(total > 0, total, 1.0), even)
