"""What lets a user believe a result: computed from the result and the slide, never taken from the run's own word."""

from __future__ import annotations

from dataclasses import dataclass

from napari_srast.pipeline import measured_fraction
from napari_srast.slide import UpsampleResult
from napari_srast.summary import max_relative_mass_error

__all__ = ["Trust", "measure_trust"]


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Checks of one result.

    Parameters
    ----------
    max_relative_mass_error
        Largest difference between a spot's count and the sum over its pixels, relative to the count;
        infinite where counts appeared in a spot that had none.
    negative_pixels
        Number of values below zero.
    measured_fraction
        Share of the painted area that lies inside a measured spot; None where the spots' size is unknown.
    """

    max_relative_mass_error: float
    negative_pixels: int
    measured_fraction: float | None


def measure_trust(result: UpsampleResult) -> Trust:
    """Check a result against the counts that it was made from."""
    return Trust(
        max_relative_mass_error=max_relative_mass_error(result),
        negative_pixels=int((result.counts.data < 0).sum()),
        measured_fraction=measured_fraction(result.slide, result.raster) if result.slide.spot_diameter else None,
    )
