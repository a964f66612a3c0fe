"""Choose the method of a job by its name: an interpolation, or SASA + PCFM."""

from __future__ import annotations

from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import PreparedMethod
from napari_srast.inference.methods.interpolation import prepare_interpolation

__all__ = ["prepare"]


def prepare(job: UpsampleJob) -> PreparedMethod:
    """Prepare the method that the settings of a job name."""
    if job.settings.method == "srast":
        from napari_srast.inference.methods.srast import prepare_srast  # loads torch only for this method

        return prepare_srast(job)
    return prepare_interpolation(job)
