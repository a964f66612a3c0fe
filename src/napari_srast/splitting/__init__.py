"""Splits the counts of a layout, unit by unit: by an interpolation, or by SASA + PCFM with the calibrated experts."""

from napari_srast.splitting.job import Job, Split
from napari_srast.splitting.run import split_steps
from napari_srast.splitting.workers import LocalWorkers, Workers

__all__ = ["Job", "LocalWorkers", "Split", "Workers", "split_steps"]
