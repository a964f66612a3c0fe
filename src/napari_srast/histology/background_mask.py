"""Where there is no tissue there are no counts: pixels of bare glass get none, where the slide's own spots prove it.

Shape legend: N spots, Q pixels.
"""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology.features import FeatureMap

__all__ = ["background_pixels"]

_BARE = 0.01  # share of tissue up to which a pixel, with a rim around it, counts as bare glass
_RIM = 2.0  # area looked at, in pixels' areas: a mask is never sharp to the pixel
_AMBIENT = 0.02  # counts of bare spots relative to those on tissue from which the mask is not believed
_OFF, _ON = 0.1, 0.9  # shares of tissue of spots off and on it
_FEWEST = 3


def background_pixels(
    features: FeatureMap, centers: np.ndarray, totals: np.ndarray, layout: SpotPixelMap, area: float, of_pixel: float
) -> np.ndarray:
    """Tell which pixels lie off the tissue and get no counts, boolean, shape (Q,).

    Never against the counts: a spot of which no pixel lies on tissue keeps them all. Nor without proof: tissue may be
    pale, and counts spread over the glass; so a pixel is taken for bare only where the slide has spots off the tissue
    and these are empty.

    Parameters
    ----------
    features
        Of the image, with its share of tissue.
    centers, totals
        All spots in their own frame, shape (N, 2), and all their counts, shape (N,).
    layout
        The same spots, shifted or not, and the pixels.
    area, of_pixel
        Area that a spot stands for, and that of a pixel.
    """
    share = features.tissue_over(centers, area)
    off, on = share < _OFF, share > _ON
    if off.sum() < _FEWEST or on.sum() < _FEWEST or totals[off].mean() > _AMBIENT * totals[on].mean():
        return np.zeros(layout.n_pixels, dtype=bool)
    places = layout.pixels + (centers[0] - layout.spots[0])
    bare = (features.tissue_over(places, _RIM * of_pixel) <= _BARE) & features.covers(places)
    on_tissue = np.bincount(layout.parent, weights=~bare, minlength=layout.n_spots)
    return np.asarray(bare & (on_tissue[layout.parent] > 0))
