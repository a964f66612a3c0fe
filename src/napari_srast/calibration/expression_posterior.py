"""Estimate expression from intensities: what the spots' own counts add to the smooth field.

The field F of a gene (:mod:`napari_srast.models.intensity`) is smooth; the counts of a spot say how far it is off. The
mean of F over the measured area of spot i is the prior mean m_i of its rate, with a Gamma prior of shape r:

``N_i ~ Poisson(rate_i), rate_i ~ Gamma(r, r / m_i)``, so that the posterior mean is ``m_i (N_i + r) / (m_i + r)``.

The shape r is the same for all spots of a gene and is fitted by the marginal likelihood (negative binomial). The log of
``posterior_i / m_i``, smoothed over the spots around a pixel, corrects the field in the pixel; it is continuous, so no
border of a spot shows. Where spots cover the slide, the smoothing is narrow, because the pixels were measured. The
widths, and the use of a spot's own counts in m_i, scored best in trials (docs/method.md).

Shape legend: N spots, F genes, Q pixels.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

__all__ = ["SHAPES", "correction_width", "fit_shapes", "log_corrections", "scale_to_counts"]

SHAPES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 200.0)
"""Shapes of the Gamma prior that the shape of each gene is selected from."""
_MIN_RATE = 1e-3  # counts of a spot


def correction_width(measured_fraction: float) -> float:
    """Return the standard deviation of the kernel that smooths the corrections, in pitches.

    Parameters
    ----------
    measured_fraction
        Fraction of a spot's cell that it measures, 0 to 1.
    """
    return 0.44 - 0.22 * float(np.clip(measured_fraction, 0.0, 1.0))


def scale_to_counts(field: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the factor of each gene, shape (F,), that gives its field (N, F) the total of its counts (N, F)."""
    return np.asarray(counts.sum(axis=0) / np.maximum(field.sum(axis=0), 1e-300))


def fit_shapes(means: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Select the shape of each gene's Gamma prior by the marginal likelihood.

    Parameters
    ----------
    means
        Prior means of the spots' rates in counts, shape (N, F).
    counts
        Counts of the spots, shape (N, F).

    Returns
    -------
    np.ndarray
        Shapes, shape (F,).
    """
    means = np.maximum(means, _MIN_RATE)
    likelihood = np.empty((len(SHAPES), means.shape[1]))
    for i, shape in enumerate(SHAPES):
        terms = gammaln(counts + shape) - (counts + shape) * np.log(shape + means)
        likelihood[i] = terms.sum(axis=0) + len(counts) * (shape * np.log(shape) - gammaln(shape))
    likelihood += (counts * np.log(means)).sum(axis=0)
    return np.asarray(SHAPES)[likelihood.argmax(axis=0)]


def log_corrections(means: np.ndarray, counts: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Return ``log(posterior mean / prior mean)`` of each spot's rate, shape (N, F).

    Parameters
    ----------
    means, counts
        Prior means and counts, shape (N, F).
    shapes
        Shapes of the Gamma prior, shape (F,).
    """
    return np.asarray(np.log((counts + shapes) / (np.maximum(means, _MIN_RATE) + shapes)))
