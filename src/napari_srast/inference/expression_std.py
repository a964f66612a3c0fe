"""Estimate the standard deviation of the expression, from how well the other spots predict a spot.

The scatter of the spots' rates around these predictions (:mod:`napari_srast.calibration.rate_scatter`) is converted to
that of a pixel's rate by geometry (:mod:`napari_srast.calibration.unresolved_variance`). A low count says little about
its spot, so the pixels of a gene of few counts come closer to the error of a spot that was left out.

Shape legend: N spots, q pixels of a tile, E genes with expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from napari_srast.calibration.expression_posterior import scale_to_counts
from napari_srast.calibration.rate_scatter import RateScatter, fit_rate_scatter
from napari_srast.calibration.unresolved_variance import UnresolvedVariance
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology.features import pixel_area
from napari_srast.inference.expression_field import ExpressionField, left_out_means, spread_spots
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import PreparedMethod
from napari_srast.inference.slide_intensity import measured_area
from napari_srast.interpolation.interpolator import gaussian_weights

__all__ = ["ExpressionScatter", "corrected_spots", "fit_expression_scatter"]

_MAX_LEFT_OUT = 600
_N_CORRECTED = 13  # a left-out spot and those around it whose corrections reach it
_DIGITS = 6  # of the area of a pixel, so that rounding in a region changes nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpressionScatter:
    """Standard deviation of the rates of pixels around the expression.

    Parameters
    ----------
    rates
        Scatter of the rates of left-out spots, of each gene, shape (E,).
    unresolved
        Variance in points relative to that of left-out spots.
    n_pixels
        Number of pixels of a spot.
    """

    rates: RateScatter
    unresolved: UnresolvedVariance
    n_pixels: float

    def std(self, pixels: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Return the standard deviations, shape (q, E).

        Parameters
        ----------
        pixels
            Pixel centers, shape (q, 2).
        expression
            Expression in counts of a pixel, shape (q, E).
        """
        level = np.asarray(expression, dtype=np.float64) * self.n_pixels
        variance = self.rates.variances(level)
        resolved = self.unresolved.at(pixels)[:, None]
        noise = np.divide(level, level + variance, out=np.ones_like(level), where=level > 0)  # of a spot's own count
        return np.asarray(np.sqrt(variance * (resolved + np.maximum(1 - resolved, 0) * noise)) / self.n_pixels)


def corrected_spots(centers: np.ndarray) -> np.ndarray:
    """Return the spots whose corrections the fit of the scatter reads, the same for any region of the slide, sorted.

    Parameters
    ----------
    centers
        All spot centers, shape (N, 2).
    """
    nearest = np.arange(1, min(_N_CORRECTED, len(centers)) + 1)
    return np.unique(cKDTree(centers).query(centers[_left_out_spots(len(centers))], k=nearest)[1])


def fit_expression_scatter(
    field: ExpressionField, job: UpsampleJob, method: PreparedMethod, corrections: np.ndarray, width: float
) -> ExpressionScatter:
    """Fit the scatter of the genes of a field.

    Parameters
    ----------
    field, job, method
        The field, and what it was fitted to.
    corrections
        Log corrections of all :func:`corrected_spots`, shape (N, E); those of other spots are not read.
    width
        Standard deviation of the kernel that smooths them, in pitches.
    """
    is_read = np.zeros(len(job.centers), dtype=bool)
    is_read[corrected_spots(job.layout.spots)] = True

    def smoothed(layout: SpotPixelMap, spots: np.ndarray) -> np.ndarray:
        read = np.where(is_read[spots, None], corrections[spots], 0.0)
        return np.asarray(gaussian_weights(layout, width) @ read)

    spots = _left_out_spots(len(job.centers))
    counts = field.counts[spots].astype(np.float64)
    means = left_out_means(field, job, method, spots, smoothed)
    pitch = job.lattice.pitch
    n_pixels = job.layout.n_pixels_per_spot
    return ExpressionScatter(
        rates=fit_rate_scatter(means * scale_to_counts(means, counts), counts),
        unresolved=UnresolvedVariance(
            job.layout.spots,
            pitch,
            spot_area=measured_area(job.spot_area, job.lattice),
            pixel_area=float(np.round(pixel_area(job.layout) / pitch**2, _DIGITS)) * pitch**2,
        ),
        n_pixels=float(np.median(n_pixels[n_pixels > 0])),
    )


def _left_out_spots(n_spots: int) -> np.ndarray:
    return spread_spots(n_spots, _MAX_LEFT_OUT)
