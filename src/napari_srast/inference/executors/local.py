"""Who does the work: the cores of this computer, each with a unit of its own."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast._utils.threads import _use_one_thread
from napari_srast.core.sinks import ResultSink
from napari_srast.inference.executors.base import Executor
from napari_srast.inference.executors.fallback import OutOfMemoryFallback
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import PreparedMethod
from napari_srast.inference.methods.interpolation import prepare
from napari_srast.inference.tiles import Tiling

__all__ = [
    "ThreadExecutor",
]

_UNIT_BYTES = 400_000_000  # that a unit in work may take
_AHEAD = 2  # units for each worker that are in work or wait to be collected: a slow disk must not fill the memory


class ThreadExecutor(Executor):
    """The cores of this computer.

    Parameters
    ----------
    n_workers
        Units in work at once: the size of a tile. None: as many as there are cores and memory for. On a GPU they take
        turns, while the cores interpolate the others.
    fit
        What fits SASA, such as :meth:`napari_srast.inference.executors.sasa_process_pool.SasaProcessPool.fit`; None: this process.
    """

    def __init__(self, n_workers: int | None = None, fit: Callable[..., Any] | None = None) -> None:
        self._n_workers = n_workers
        self._fit = fit

    def prepare(self, job: UpsampleJob) -> Generator[tuple[str, int, int], None, PreparedMethod]:
        """Make the job's method ready in this thread."""
        return (yield from prepare(replace(job, fit=self._fit)))

    def split(
        self, job: UpsampleJob, method: PreparedMethod, cutter: Tiling, collector: ResultSink
    ) -> Generator[tuple[str, int, int], None, tuple[str, ...]]:
        """Split the units on a thread each."""
        total = sum(len(method.splitter.blocks(n_pixels)) for n_pixels in cutter.n_pixels)
        halt = threading.Event()
        events: queue.SimpleQueue[Future | None] = queue.SimpleQueue()
        enduring = OutOfMemoryFallback(method.splitter)

        def should_stop() -> bool:
            return halt.is_set() or (job.should_stop is not None and job.should_stop())

        def work(index: int) -> tuple[np.ndarray, sparse.csr_matrix, sparse.csr_matrix | None]:
            packed = method.pack(job, cutter.unit(index))
            return packed.unit.rows, *enduring.split(packed, should_stop, lambda: events.put(None))

        n_workers = min(self._n_workers or _room(), len(cutter.groups))
        pool = ThreadPoolExecutor(n_workers, thread_name_prefix="napari-srast", initializer=_use_one_thread)
        try:
            waiting = cutter.order[::-1]
            done = in_work = 0
            while waiting or in_work:
                while waiting and in_work < _AHEAD * n_workers:
                    pool.submit(work, waiting.pop()).add_done_callback(events.put)
                    in_work += 1
                event = events.get()
                if event is None:
                    done = min(done + 1, total)
                    yield "split", done, total
                else:
                    collector.add(*event.result())
                    in_work -= 1
        finally:
            halt.set()
            pool.shutdown(wait=True, cancel_futures=True)
        return tuple(enduring.notices)


def _room() -> int:
    """Return how many units can be in work at once."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().available // _UNIT_BYTES)))
