"""Find pixels of bare glass, which get no counts.

Shape legend: N spots, Q pixels.
"""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology.features import FeatureMap

__all__ = ["background_pixels"]

_MAX_TISSUE_OF_BACKGROUND = 0.01  # tissue fraction up to which a pixel, with a margin around it, is background
_MARGIN_AREA = 2.0  # area that is inspected, in pixel areas: the edge of a mask is not exact to the pixel
_MAX_AMBIENT_FRACTION = 0.02  # mean counts of spots off the tissue, relative to those on it, that invalidate the mask
_OFF_TISSUE, _ON_TISSUE = 0.1, 0.9  # tissue fraction below and above which a spot is off and on the tissue
_MIN_SPOTS = 3  # of either kind


def background_pixels(
    features: FeatureMap,
    centers: np.ndarray,
    totals: np.ndarray,
    layout: SpotPixelMap,
    spot_area: float,
    pixel_area: float,
) -> np.ndarray:
    """Find the pixels off the tissue, which get no counts.

    Two rules protect the counts. A spot without a pixel on tissue keeps all its pixels. And because tissue may be pale
    and counts may diffuse over the glass, pixels are background only if the slide has spots off the tissue and these
    are nearly empty.

    Parameters
    ----------
    features
        Features of the image, with its tissue fraction.
    centers
        Spot centers in the spots' own frame, shape (N, 2).
    totals
        Total counts of the spots, shape (N,).
    layout
        The same spots, possibly translated, and their pixels.
    spot_area, pixel_area
        Area that a spot represents, and area of a pixel, in squared units of ``centers``.

    Returns
    -------
    np.ndarray
        True for background, shape (Q,).
    """
    tissue = features.tissue_fraction(centers, spot_area)
    off, on = tissue < _OFF_TISSUE, tissue > _ON_TISSUE
    if (
        off.sum() < _MIN_SPOTS
        or on.sum() < _MIN_SPOTS
        or totals[off].mean() > _MAX_AMBIENT_FRACTION * totals[on].mean()
    ):
        return np.zeros(layout.n_pixels, dtype=bool)
    points = layout.pixels + (centers[0] - layout.spots[0])
    fraction = features.tissue_fraction(points, _MARGIN_AREA * pixel_area)
    background = (fraction <= _MAX_TISSUE_OF_BACKGROUND) & features.covers(points)
    n_on_tissue = np.bincount(layout.parent, weights=~background, minlength=layout.n_spots)
    return np.asarray(background & (n_on_tissue[layout.parent] > 0))
