"""The image beside the other experts: added to their pool's log ratios, with weights below 1.

Whether the image is used at all, and how large its effects are, is decided on the slide by the evidence
(``regression``, ``registration``). What is left is that contrasts inside spots are a little weaker than those between
spots, because images are never quite in place and never quite sharp; hence the weights. Refining them further on the
slide coarsened once was tried and gained nothing: the few dozen coarse spots of a small slide cannot tell.

Shape legend: N spots, Q pixels, F fields.
"""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["WEIGHTS", "expected_nats", "with_image"]

WEIGHTS = (0.8, 0.8)
"""Of what the image tells of all counts, and of a gene beyond them."""
_FLOOR = 1e-300


def with_image(log_ratios: np.ndarray, image: np.ndarray, bare: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
    """Return log ratios (Q, F) with those of the image (2, Q, F) added, normalized in each spot, -inf if bare."""
    score = np.clip(log_ratios + np.einsum("e,eqf->qf", WEIGHTS, image), -60.0, 60.0)  # exponentials stay numbers
    share = layout.normalize(np.where(bare[:, None], 0.0, np.exp(score)))
    return np.where(bare[:, None], -np.inf, np.log(np.maximum(share, _FLOOR)))


def expected_nats(contrasts: np.ndarray, slopes: np.ndarray, totals: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
    """Return the nats per count that the image expects to bring to each field, shape (F,).

    To second order that is half the variance of its log ratios inside spots, averaged over the counts.

    Parameters
    ----------
    contrasts
        Of the components in the pixels, totals first, shape (Q, P).
    slopes
        Of the fields, shape (P - 1, F).
    totals
        All counts of each spot, shape (N,).
    """
    size = np.maximum(layout.n_pixels_of_spot, 1)[:, None]
    centerd = contrasts - ((layout.membership @ contrasts) / size)[layout.parent]
    weight = (totals / size[:, 0])[layout.parent][:, None]
    covariance = (centerd * weight).T @ centerd / max(float(weight.sum()), 1e-12)
    effect = np.vstack([np.full((1, slopes.shape[1]), WEIGHTS[0]), WEIGHTS[1] * slopes])
    return 0.5 * np.einsum("pf,pr,rf->f", effect, covariance, effect)
