"""Intensity fields: a smooth estimate of the expected counts of each gene at any position on the slide."""

from napari_srast.models.intensity.fitting import FittedIntensity, fit_intensity
from napari_srast.models.intensity.prediction import GeneLoadings, IntensityModel, PixelIntensity, SharedViews

__all__ = ["FittedIntensity", "GeneLoadings", "IntensityModel", "PixelIntensity", "SharedViews", "fit_intensity"]
