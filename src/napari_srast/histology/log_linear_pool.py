"""Combine the image with the other experts in a log-linear pool: weighted log ratios, normalized in each spot.

The evidence on the slide (``regression``, ``offset``) decides whether the image is used and how large its effects are.
One correction remains: contrasts inside spots are weaker than those between spots, because images are never perfectly
aligned and never perfectly sharp. The image therefore gets weights below 1. Fitting the weights on the coarsened slide
did not improve results: the few dozen coarse spots of a small slide carry too little information.

Shape legend: N spots, Q pixels, F fields, P components.
"""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["IMAGE_WEIGHTS", "expected_nats", "pool_image_evidence"]

IMAGE_WEIGHTS = (0.8, 0.8)
"""Weights of what the image predicts for the total counts, and for a field beyond the totals."""

_MIN_RATIO = 1e-300
_MAX_LOG_SCORE = 60.0  # keeps the exponential finite


def pool_image_evidence(
    log_ratios: np.ndarray, image_log_ratios: np.ndarray, background: np.ndarray, layout: SpotPixelMap
) -> np.ndarray:
    """Add the weighted log ratios of the image to those of the other experts, and normalize in each spot.

    Parameters
    ----------
    log_ratios
        Log ratios of the other experts, shape (Q, F).
    image_log_ratios
        Log ratios of the image by totals and by fields, shape (2, Q, F).
    background
        True for pixels of bare glass, shape (Q,).
    layout
        Spots and pixels.

    Returns
    -------
    np.ndarray
        Log ratios, minus infinity on background, shape (Q, F).
    """
    score = log_ratios + np.einsum("e,eqf->qf", IMAGE_WEIGHTS, image_log_ratios)
    score = np.clip(score, -_MAX_LOG_SCORE, _MAX_LOG_SCORE)
    ratio = layout.normalize(np.where(background[:, None], 0.0, np.exp(score)))
    return np.where(background[:, None], -np.inf, np.log(np.maximum(ratio, _MIN_RATIO)))


def expected_nats(contrasts: np.ndarray, slopes: np.ndarray, totals: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
    """Compute the gain in nats per count that the image is expected to give each field.

    To second order, the gain is half the variance of the image's log ratios inside spots, averaged over the counts.

    Parameters
    ----------
    contrasts
        Predicted deviation of each component in the pixels, totals first, shape (Q, P).
    slopes
        Change of each field's log fraction with each component, shape (P - 1, F).
    totals
        Total counts of each spot, shape (N,).
    layout
        Spots and pixels.

    Returns
    -------
    np.ndarray
        Shape (F,).
    """
    n_pixels = np.maximum(layout.n_pixels_per_spot, 1)[:, None]
    centered = contrasts - ((layout.membership @ contrasts) / n_pixels)[layout.parent]
    weight = (totals / n_pixels[:, 0])[layout.parent][:, None]
    covariance = (centered * weight).T @ centered / max(float(weight.sum()), 1e-12)
    effect = np.vstack([np.full((1, slopes.shape[1]), IMAGE_WEIGHTS[0]), IMAGE_WEIGHTS[1] * slopes])
    return 0.5 * np.einsum("pf,pr,rf->f", effect, covariance, effect)
