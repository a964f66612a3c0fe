"""Fit SASA in processes of their own, so that a window and a fit do not slow each other down.

A fit is thousands of small steps in Python, and Python's global lock lets one thread of a process run at a time. While
the user moves the canvas, a fit in the window's own process took up to twice as long as a fit without a window.

This module loads nothing large: the processes start before the window has loaded the modules that a fit needs.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
import time
from concurrent.futures import BrokenExecutor, Future, wait
from typing import TYPE_CHECKING, Any

from napari_srast._utils.threads import limit_process_to_one_thread
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.errors import Cancelled

if TYPE_CHECKING:
    import numpy as np
    from scipy import sparse

    from napari_srast.geometry.lattice import Lattice
    from napari_srast.models.sasa.config import SasaConfig
    from napari_srast.models.sasa.embedding import SlideEmbedding

__all__ = ["SasaProcessPool"]

logger = logging.getLogger(__name__)

_N_PROCESSES = 2  # a run fits the slide and the coarsened slide at the same time
_MAX_BYTES = 1 << 28  # of counts that are copied to a process
_IDLE_SECONDS = 900  # after which a process ends
_POLL_INTERVAL = 0.05  # seconds between checks for cancellation
_LOADING_TIMEOUT = 5.0  # seconds that a fit waits for processes that are still loading
_NICENESS = 5


class SasaProcessPool:
    """Processes that are ready to fit SASA; threads may share the pool.

    loky starts the processes, without running the program's own script. A canceled fit ends them, and new ones start.
    As long as no process is ready, and after any failure in a process, the fit runs in this process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: Any = None
        self._loading: list[Future[int]] = []

    def prepare(self) -> None:
        """Start the processes and let them load what a fit needs; returns at once."""
        try:
            from loky import ProcessPoolExecutor

            with self._lock:
                if self._processes is None:
                    self._processes = ProcessPoolExecutor(
                        _N_PROCESSES, timeout=_IDLE_SECONDS, initializer=_initialize_process
                    )
                    self._loading = [self._processes.submit(_load_modules) for _ in range(_N_PROCESSES)]
        except Exception as error:  # noqa: BLE001 - not installed or not permitted: fits run in this process
            logger.debug("No processes for fits (%s).", type(error).__name__)

    @property
    def is_ready(self) -> bool:
        """Whether the next fit can run in another process."""
        with self._lock:
            loading = list(self._loading)
        return bool(loading) and all(future.done() and future.exception() is None for future in loading)

    def fit(
        self,
        counts: sparse.csr_matrix,
        centers: np.ndarray,
        lattice: Lattice,
        *,
        config: SasaConfig | None = None,
        seed: int = 0,
        device: str = "cpu",
        monitor: RunMonitor = NO_MONITOR,
    ) -> SlideEmbedding:
        """Fit SASA with the same bytes as :func:`napari_srast.models.sasa.fitting.fit_sasa`, whose parameters it has.

        Fits on a GPU, which the window's process uses, and fits of very large slides run in this process.
        """
        from napari_srast._utils.devices import graph_device

        options: dict[str, Any] = {"config": config, "seed": seed, "device": device}
        is_small = counts.data.nbytes + counts.indices.nbytes <= _MAX_BYTES
        if is_small and graph_device(device) == "cpu" and (processes := self._ready_processes(monitor)) is not None:
            try:
                future = processes.submit(_fit, counts, centers, lattice, **options)
                return self._wait(future, processes, monitor)
            except Cancelled:
                raise
            except Exception as error:
                if monitor.is_canceled():  # another fit of the run has ended the processes
                    raise Cancelled from error
                logger.debug("A fit in another process failed (%s); it runs in this one.", type(error).__name__)
                if isinstance(error, BrokenExecutor):
                    self._end(processes)
        self.prepare()
        return _fit(counts, centers, lattice, **options, monitor=monitor)

    def _ready_processes(self, monitor: RunMonitor) -> Any:
        """Return the processes, after waiting a moment if they are loading; None if they are not ready by then."""
        with self._lock:
            processes, loading = self._processes, list(self._loading)
        end = time.monotonic() + _LOADING_TIMEOUT
        while processes is not None and not self.is_ready and time.monotonic() < end:
            monitor.check_canceled()
            wait(loading, timeout=_POLL_INTERVAL)
            has_failed = any(future.done() and future.exception() is not None for future in loading)
            if processes is not self._processes or has_failed:
                return None
        return processes if self.is_ready else None

    def close(self) -> None:
        """End the processes, even during a fit."""
        self._end(self._processes)

    def _end(self, processes: Any) -> None:
        """End these processes, unless another thread has."""
        with self._lock:
            if processes is None or processes is not self._processes:
                return
            self._processes, self._loading = None, []
        processes.shutdown(wait=True, kill_workers=True)

    def _wait(self, future: Future[SlideEmbedding], processes: Any, monitor: RunMonitor) -> SlideEmbedding:
        while not wait([future], timeout=_POLL_INTERVAL).done:
            if monitor.is_canceled():
                self._end(processes)
                self.prepare()
                raise Cancelled
        return future.result()


def _fit(*arguments: Any, **options: Any) -> SlideEmbedding:
    from napari_srast.models.sasa.fitting import fit_sasa

    return fit_sasa(*arguments, **options)


def _initialize_process() -> None:
    """Give the window's process priority, and compute on one thread as it does."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_NICENESS)
    limit_process_to_one_thread()


def _load_modules() -> int:
    """Load what a fit needs, and wait a moment, so that every process gets one such task."""
    importlib.import_module("napari_srast.models.sasa.fitting")
    time.sleep(0.5)
    return os.getpid()
