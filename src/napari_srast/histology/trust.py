"""The image beside the other experts: added to their pool's log ratios, with weights below 1.

Whether the image is used at all, and how large its effects are, is decided on the slide by the evidence
(``regression``, ``registration``). What is left is that contrasts inside spots are a little weaker than those between
spots, because images are never quite in place and never quite sharp; hence the weights. Refining them further on the
slide coarsened once was tried and gained nothing: the few dozen coarse spots of a small slide cannot tell.

Shape legend: N spots, Q pixels, F fields.
"""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.layout import Layout

__all__ = ["WEIGHTS", "image_share", "with_image"]

WEIGHTS = (0.8, 0.8)
"""Of what the image tells of all counts, and of a gene beyond them."""
_FLOOR = 1e-300


def with_image(log_ratios: np.ndarray, image: np.ndarray, layout: Layout) -> np.ndarray:
    """Return log ratios (Q, F) with those of the image (2, Q, F) added, normalised in each spot, float64."""
    score = np.clip(log_ratios + np.einsum("e,eqf->qf", WEIGHTS, image), -60.0, 60.0)  # exponentials stay numbers
    return np.asarray(np.log(np.maximum(layout.normalise(np.exp(score)), _FLOOR)))


def image_share(log_ratios: np.ndarray, image: np.ndarray, counts: np.ndarray, layout: Layout) -> np.ndarray:
    """Return for each field the part of its contrasts inside spots that the image brought, shape (F,), 0 to 1.

    Parameters
    ----------
    log_ratios
        Without the image, shape (Q, F).
    image
        Shape (2, Q, F).
    counts
        Of the spots, shape (N, F): spots weigh by them. A field without counts has share 0.
    """
    weight = counts[layout.parent]
    size = np.maximum(layout.n_pixels_of_spot, 1)[layout.parent][:, None]

    def spread(values: np.ndarray) -> np.ndarray:
        centred = values - (layout.membership @ values)[layout.parent] / size
        return np.asarray((weight * centred**2).sum(axis=0))

    own, other = spread(np.einsum("e,eqf->qf", WEIGHTS, image)), spread(log_ratios)
    return np.divide(own, own + other, out=np.zeros_like(own), where=own + other > 0)
