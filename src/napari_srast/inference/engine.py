"""Runs a job: prepare the method, then split unit by unit, on this computer's cores or on a cluster."""

from __future__ import annotations

from collections.abc import Generator

from napari_srast._utils.device_errors import telling_device_faults
from napari_srast._utils.threads import single_threaded
from napari_srast.core.sinks import Collector
from napari_srast.inference.executors.base import Workers
from napari_srast.inference.executors.local import LocalWorkers
from napari_srast.inference.job import Job, Split
from napari_srast.inference.tiles import Cutter

__all__ = ["Steps", "split_steps"]

Steps = Generator[tuple[str, int, int], None, Split]


def split_steps(job: Job, collector: Collector, workers: Workers | None = None) -> Steps:
    """Split the chosen genes; yields (stage, done, total) and returns the :class:`Split`.

    Parameters
    ----------
    job
        What to split.
    collector
        Takes the counts of each unit as it comes.
    workers
        Who prepares and splits; by default the cores of this computer. It changes no byte of the result.

    Raises
    ------
    DeviceError
        The device or the memory gave out.
    """
    workers = LocalWorkers() if workers is None else workers
    with telling_device_faults(job.settings.device), single_threaded():
        method = yield from workers.prepare(job)
        cutter = Cutter(job.layout, job.inner)
        notices = yield from workers.split(job, method, cutter, collector)
    return Split(
        skill=method.skill,
        method=method.method,
        notices=(*method.notices, *notices),
        **method.record,
    )
