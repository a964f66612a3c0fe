"""Measured fraction of pixels where spots measure discs: what a network needs to know of the array's support.

Shape legend: Q pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["DiscSupport"]

_WHOLE = 0.9  # of a squared pitch: from this area on, a spot counts as measuring its whole cell


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscSupport:
    """Discs that spots measure, and the pixels that their counts are distributed to.

    Parameters
    ----------
    diameter
        Diameter of the discs, in pitches.
    pixel_size
        Side of a pixel, in pitches.
    """

    diameter: float
    pixel_size: float

    @classmethod
    def of_area(cls, area: float, pitch: float, pixel_size: float) -> DiscSupport | None:
        """Return the disc of a measured area; None if it is as large as the cell, so that spots measure their cells.

        Parameters
        ----------
        area
            Area that a spot measures, in the squared unit of ``pitch`` and ``pixel_size``.
        pitch
            Distance between neighboring spots.
        pixel_size
            Side of a pixel.
        """
        if area >= _WHOLE * pitch**2:
            return None
        return cls(diameter=float(2 * np.sqrt(area / np.pi) / pitch), pixel_size=float(pixel_size / pitch))

    def measured_fraction(self, offset: np.ndarray) -> np.ndarray:
        """Return the fraction of a pixel's area that the disc of its spot measures, from 0 to 1.

        The pixel is taken as a disc of the same area, so the fraction does not depend on the direction of the lattice.

        Parameters
        ----------
        offset
            Distance of each pixel's center from its spot, in pitches, shape (Q,).
        """
        disc, pixel = self.diameter / 2, self.pixel_size / np.sqrt(np.pi)
        d = np.maximum(np.asarray(offset, dtype=float), 1e-12)
        smaller = min(disc, pixel)
        # Common area of two circles: two circular segments, whose angles are clipped where one circle holds the other.
        angle_disc = np.arccos(np.clip((d**2 + disc**2 - pixel**2) / (2 * d * disc), -1, 1))
        angle_pixel = np.arccos(np.clip((d**2 + pixel**2 - disc**2) / (2 * d * pixel), -1, 1))
        common = disc**2 * (angle_disc - np.sin(2 * angle_disc) / 2)
        common += pixel**2 * (angle_pixel - np.sin(2 * angle_pixel) / 2)
        common = np.where(d <= abs(disc - pixel), np.pi * smaller**2, common)
        return np.asarray(np.clip(common / (np.pi * pixel**2), 0.0, 1.0))
