"""Histology as an expert: predict from an image how the counts of a spot spread over its pixels.

``stains`` turns image pixels into optical density or fluorescence channels. ``streaming_statistics`` reads an image of
any size onto a coarse grid. ``features`` samples stain and texture features at any position; ``encoder`` computes them
with the user's own network instead. ``targets`` extracts what is regressed on them, the log totals and the leading
expression components of the spots, and ``regression`` is the Bayesian regression. ``expert`` fits it to a slide and
predicts the log ratios of every field in every pixel. ``background_mask`` finds pixels of bare glass, ``offset``
estimates whether the image is shifted, and ``log_linear_pool`` combines the image with the other experts.
"""

from napari_srast.histology.expert import ImageExpert, PixelImageEvidence, fit_image_expert
from napari_srast.histology.features import FeatureExtractor, FeatureMap, StainTexture

__all__ = ["FeatureExtractor", "FeatureMap", "ImageExpert", "PixelImageEvidence", "StainTexture", "fit_image_expert"]
