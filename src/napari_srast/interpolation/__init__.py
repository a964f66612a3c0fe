"""Mass-preserving interpolation of spot counts: the baselines, and the experts of the own-slide calibration."""

from napari_srast.interpolation.denoising import Denoiser, denoise
from napari_srast.interpolation.interpolator import INTERPOLATIONS, HaloContext, Interpolator

__all__ = ["INTERPOLATIONS", "Denoiser", "HaloContext", "Interpolator", "denoise"]
