"""Splits the counts of a layout, tile by tile: by an interpolation, or by SASA + PCFM with the calibrated experts."""

from napari_srast.splitting.job import Job, Split
from napari_srast.splitting.run import split_steps

__all__ = ["Job", "Split", "split_steps"]
