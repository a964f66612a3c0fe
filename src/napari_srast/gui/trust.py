"""What lets a user believe a result: computed from the result and the slide, never taken from the run's own word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.pipeline import measured_fraction
from napari_srast.slide import UpsampleResult

__all__ = ["Trust", "measure_trust"]


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Checks of one result.

    Parameters
    ----------
    max_relative_mass_error
        Largest difference between a spot's count and the sum over its pixels, relative to the count (at least 1).
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
    raster, slide = result.raster, result.slide
    ones = np.ones(raster.n_pixels)
    membership = sparse.csr_matrix(
        (ones, (raster.parent, np.arange(raster.n_pixels))), shape=(raster.n_spots, raster.n_pixels)
    )
    spots = raster.spots
    counts = slide.counts[spots][:, slide.gene_indices(list(map(str, result.genes)))].astype(np.float64)
    difference = abs((membership @ result.counts.astype(np.float64))[spots] - counts).tocsr()
    # A value that should be zero is measured against one count.
    scale = counts.maximum(difference.sign()).tocsr()
    scale.data = 1 / np.maximum(scale.data, 1)
    relative = difference.multiply(scale)
    return Trust(
        max_relative_mass_error=float(relative.max()) if relative.nnz else 0.0,
        negative_pixels=int((result.counts.data < 0).sum()),
        measured_fraction=measured_fraction(slide, raster) if slide.spot_diameter else None,
    )
