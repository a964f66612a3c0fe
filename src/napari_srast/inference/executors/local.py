"""Compute on the cores of this computer, one tile per thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import sparse

from napari_srast._utils.free_memory import release_free_memory
from napari_srast._utils.threads import limit_torch_if_loaded
from napari_srast.core.sinks import ResultSink
from napari_srast.inference.costs import tile_threads
from napari_srast.inference.executors.base import Executor
from napari_srast.inference.executors.fallback import OutOfMemoryFallback
from napari_srast.inference.fit_cache import FitCache
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import PreparedMethod
from napari_srast.inference.methods.registry import prepare
from napari_srast.inference.tiles import Tiling

if TYPE_CHECKING:
    from napari_srast.models.sasa.embedding import SlideEmbedding

__all__ = ["ThreadExecutor"]

_Matrix: TypeAlias = sparse.csr_matrix | None
_Tile: TypeAlias = tuple[np.ndarray, sparse.csr_matrix, _Matrix, _Matrix, _Matrix]
_TILES_PER_WORKER = 2  # in work or waiting for the sink: a slow disk must not fill the memory


class ThreadExecutor(Executor):
    """Compute on the cores of this computer.

    Parameters
    ----------
    n_workers
        Number of tiles that are computed at the same time. None (default): as many as there are cores and memory for.
        On a GPU the tiles take turns, while the cores interpolate the others.
    fit
        Function that fits SASA, such as
        :meth:`napari_srast.inference.executors.sasa_process_pool.SasaProcessPool.fit`. None (default): fit in this
        process.
    cache
        Disk cache for what is fitted to a slide, such as :class:`napari_srast.inference.fit_cache.FitCache`; it changes
        no byte of the result. None (default): no cache.
    """

    def __init__(
        self,
        n_workers: int | None = None,
        fit: Callable[..., SlideEmbedding] | None = None,
        cache: FitCache | None = None,
    ) -> None:
        self._n_workers = n_workers
        self._fit = fit
        self.cache = cache

    def prepare(self, job: UpsampleJob) -> PreparedMethod:
        """Prepare the method of a job in the calling thread."""
        return prepare(replace(job, fit=self._fit))

    def predict_tiles(
        self, job: UpsampleJob, method: PreparedMethod, tiling: Tiling, sink: ResultSink
    ) -> tuple[str, ...]:
        """Predict all tiles, one per thread; the calling thread feeds the sink and reports progress."""
        total = sum(len(method.predictor.blocks(n_pixels)) for n_pixels in tiling.n_pixels)
        release_free_memory()  # of the preparation
        job.release_counts()
        halt = threading.Event()
        events: queue.SimpleQueue[Future | None] = queue.SimpleQueue()  # a finished tile, or None for a finished block
        fallback = OutOfMemoryFallback(method.predictor)
        monitor = job.monitor.for_workers(halt.is_set)

        def predict(index: int) -> _Tile:
            tile_input = method.tile_input(job, tiling.tile(index))
            tile_input = replace(tile_input, pixel_intensity=method.intensity_in(tile_input))
            rows = tile_input.tile.rows
            counts, std = fallback.predict(tile_input, monitor, lambda: events.put(None))
            return rows, counts, std, *sink.derive(rows, counts, tile_input)

        n_workers = min(self._n_workers or job.n_threads or tile_threads(), len(tiling.groups))
        threads = ThreadPoolExecutor(n_workers, thread_name_prefix="napari-srast", initializer=limit_torch_if_loaded)
        try:
            waiting = tiling.order[::-1]
            n_blocks = n_in_work = 0
            while waiting or n_in_work:
                while waiting and n_in_work < _TILES_PER_WORKER * n_workers:
                    threads.submit(predict, waiting.pop()).add_done_callback(events.put)
                    n_in_work += 1
                event = events.get()
                if event is None:
                    n_blocks = min(n_blocks + 1, total)
                    job.monitor.report("split", n_blocks, total)
                    job.monitor.check_canceled()
                else:
                    sink.add(*event.result())
                    n_in_work -= 1
                    job.release_counts()
                    release_free_memory()
        finally:
            halt.set()
            threads.shutdown(wait=True, cancel_futures=True)
        return tuple(fallback.warnings)
