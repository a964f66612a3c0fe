"""Histology as one more expert: what an image beside the counts says about how they spread inside each spot.

``stains`` reads pixels as optical density or fluorescence, ``moments`` streams images of any size onto a small grid,
``features`` and ``encoder`` turn them into numbers at any place, ``regression`` relates these to counts, ``expert``
says what they mean for every gene, ``registration`` whether the image lies where the slide says, ``tissue`` where there
is tissue at all, ``trust`` how far to believe it.
"""

from napari_srast.histology.expert import ImageExpert, PixelImageEvidence, fit_image_expert
from napari_srast.histology.features import FeatureExtractor, FeatureMap, StainTexture

__all__ = ["FeatureExtractor", "FeatureMap", "ImageExpert", "PixelImageEvidence", "StainTexture", "fit_image_expert"]
