"""Fits SASA in processes of their own, so that a window and a fit do not wait for each other.

A fit is thousands of small steps in Python, and Python's lock lets one thread of a process go on at a time: beside a
canvas that is moved, a fit in the window's own process took up to twice as long as one without a window.

This module loads nothing large: the processes are started while the window has yet to load what a fit takes.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, wait
from typing import TYPE_CHECKING, Any

from napari_srast.errors import Cancelled

if TYPE_CHECKING:
    import numpy as np
    from scipy import sparse

    from napari_srast.geometry.lattice import Lattice
    from napari_srast.models.sasa.config import SasaConfig
    from napari_srast.models.sasa.embedding import SlideEmbedding

__all__ = ["SasaProcessPool"]

logger = logging.getLogger(__name__)

_FITS = 2  # of a run: of the slide, and of the slide coarsened once
_LARGEST = 1 << 28  # bytes of counts that are worth a copy
_IDLE_SECONDS = 900  # after which a process ends
_ASKED_EVERY = 0.05  # seconds between two looks at the stop token
_PATIENCE = 5.0  # seconds that a fit waits for processes that are loading: what they load is worth as much
_NICENESS = 5


class SasaProcessPool:
    """Processes that stand ready to fit SASA; several threads may use them at once.

    loky starts them, without the program's own script. A fit that is stopped ends them, and others are made ready. As
    long as none is ready, and where anything goes wrong there, a fit is done in this process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: Any = None
        self._loading: list[Future[int]] = []

    def prepare(self) -> None:
        """Start the processes and let them load what a fit takes; waits for nothing."""
        try:
            from loky import ProcessPoolExecutor

            with self._lock:
                if self._processes is None:
                    self._processes = ProcessPoolExecutor(_FITS, timeout=_IDLE_SECONDS, initializer=_begin)
                    self._loading = [self._processes.submit(_load) for _ in range(_FITS)]
        except Exception as error:  # noqa: BLE001 - not installed, or not allowed: a fit does without
            logger.debug("No processes for fits (%s).", type(error).__name__)

    @property
    def is_ready(self) -> bool:
        """Whether the next fit would be done elsewhere."""
        with self._lock:
            loading = list(self._loading)
        return bool(loading) and all(one.done() and one.exception() is None for one in loading)

    def fit(
        self,
        counts: sparse.csr_matrix,
        centers: np.ndarray,
        lattice: Lattice,
        *,
        config: SasaConfig | None = None,
        seed: int = 0,
        device: str = "cpu",
        should_stop: Callable[[], bool] | None = None,
    ) -> SlideEmbedding:
        """Do what :func:`napari_srast.models.sasa.fitting.fit_sasa` does, with the same bytes.

        A fit on a GPU, which the window's process has in use, and one of a very large slide are done here.
        """
        from napari_srast._utils.devices import graph_device

        options: dict[str, Any] = {"config": config, "seed": seed, "device": device}
        small = counts.data.nbytes + counts.indices.nbytes <= _LARGEST
        if small and graph_device(device) == "cpu" and (processes := self._ready(should_stop)) is not None:
            try:
                future = processes.submit(_fit, counts, centers, lattice, **options)
                return self._wait(future, processes, should_stop)
            except Cancelled:
                raise
            except Exception as error:
                if should_stop is not None and should_stop():  # another fit of the run has ended the processes
                    raise Cancelled from error
                logger.debug("A fit in another process failed (%s); it is done in this one.", type(error).__name__)
                if isinstance(error, BrokenExecutor):
                    self._end(processes)
        self.prepare()
        return _fit(counts, centers, lattice, **options, should_stop=should_stop)

    def _ready(self, should_stop: Callable[[], bool] | None) -> Any:
        """Return the processes, after a moment's patience if they are loading; None if they are not ready by then."""
        with self._lock:
            processes, loading = self._processes, list(self._loading)
        end = time.monotonic() + _PATIENCE
        while processes is not None and not self.is_ready and time.monotonic() < end:
            if should_stop is not None and should_stop():
                raise Cancelled
            wait(loading, timeout=_ASKED_EVERY)
            if processes is not self._processes or any(one.done() and one.exception() is not None for one in loading):
                return None
        return processes if self.is_ready else None

    def close(self) -> None:
        """End the processes, whatever they do."""
        self._end(self._processes)

    def _end(self, processes: Any) -> None:
        """End these processes, unless another thread has."""
        with self._lock:
            if processes is None or processes is not self._processes:
                return
            self._processes, self._loading = None, []
        processes.shutdown(wait=True, kill_workers=True)

    def _wait(
        self, future: Future[SlideEmbedding], processes: Any, should_stop: Callable[[], bool] | None
    ) -> SlideEmbedding:
        while not wait([future], timeout=_ASKED_EVERY).done:
            if should_stop is not None and should_stop():
                self._end(processes)
                self.prepare()
                raise Cancelled
        return future.result()


def _fit(*arguments: Any, **options: Any) -> SlideEmbedding:
    from napari_srast.models.sasa.fitting import fit_sasa

    return fit_sasa(*arguments, **options)


def _begin() -> None:
    """Let the window go first, and compute on one thread, as the window's own process does."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_NICENESS)
    import torch
    from threadpoolctl import threadpool_limits

    importlib.import_module("scipy.linalg")  # the limit is set to what is loaded
    torch.set_num_threads(1)
    threadpool_limits(1)


def _load() -> int:
    """Load all that a fit takes, and stay a moment, so that every process gets one such task."""
    importlib.import_module("napari_srast.models.sasa.fitting")
    time.sleep(0.5)
    return os.getpid()
