"""Histology as an expert: predict from an image how the counts of a spot spread over its pixels.

``stains`` turns image pixels into optical density or fluorescence channels. ``streaming_statistics`` reads an image of
any size onto a coarse grid. ``features`` samples stain and texture features at any position; ``encoder`` computes them
with the user's own network instead. ``targets`` extracts the log totals and the leading expression components of the
spots, and ``regression`` weighs the evidence that the features predict them: ``expert`` decides by it whether the
image is used, and ``offset`` where it is. ``disaggregation`` learns rates in pixels by the likelihood of what whole
spots count, ``background_mask`` finds pixels of bare glass, and ``predictor`` pools the prediction with the others.
"""

from napari_srast.histology.features import FeatureExtractor, FeatureMap, StainTexture
from napari_srast.histology.image_evidence import ImageExpert, fit_image_expert
from napari_srast.histology.predictor import ImagePredictor, PixelImageEvidence, fit_image_predictor

__all__ = [
    "FeatureExtractor",
    "FeatureMap",
    "ImageExpert",
    "ImagePredictor",
    "PixelImageEvidence",
    "StainTexture",
    "fit_image_expert",
    "fit_image_predictor",
]
