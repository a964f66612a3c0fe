"""Runs a job: prepare the method, then split unit by unit, on this computer's cores or on a cluster."""

from __future__ import annotations

from collections.abc import Generator

from napari_srast._utils.device_errors import translate_device_errors
from napari_srast._utils.threads import single_threaded
from napari_srast.core.sinks import ResultSink
from napari_srast.inference.executors.base import Executor
from napari_srast.inference.executors.local import ThreadExecutor
from napari_srast.inference.job import InferenceReport, UpsampleJob
from napari_srast.inference.tiles import Tiling

__all__ = ["Steps", "split_steps"]

Steps = Generator[tuple[str, int, int], None, InferenceReport]


def split_steps(job: UpsampleJob, collector: ResultSink, workers: Executor | None = None) -> Steps:
    """Split the chosen genes; yields (stage, done, total) and returns the :class:`InferenceReport`.

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
    workers = ThreadExecutor() if workers is None else workers
    with translate_device_errors(job.settings.device), single_threaded():
        method = yield from workers.prepare(job)
        cutter = Tiling(job.layout, job.inner)
        notices = yield from workers.split(job, method, cutter, collector)
    return InferenceReport(
        skill=method.skill,
        method=method.method,
        notices=(*method.notices, *notices),
        **method.record,
    )
