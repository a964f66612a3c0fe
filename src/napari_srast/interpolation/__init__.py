"""Mass-preserving interpolation of spot counts: the baselines, and experts of the calibration."""

from napari_srast.interpolation.denoising import Denoiser, denoise
from napari_srast.interpolation.interpolator import INTERPOLATIONS, HaloContext, Interpolator

__all__ = ["INTERPOLATIONS", "Denoiser", "HaloContext", "Interpolator", "denoise"]
