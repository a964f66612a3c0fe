"""Thread limits of the numerical libraries.

BLAS and PyTorch split sums over threads, and how they split them depends on the computer. One thread therefore makes
the last bits of a result reproducible. It is also faster: many small operations gain nothing from a second thread, and
next to other work the threads of one operation wait for each other. On two cores, fitting SASA to 184 spots in a busy
window took 70 s with two threads and 2 s with one.

BLAS and OpenMP limits hold for the whole process; PyTorch's limit holds for the calling thread only.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

from napari_srast._utils.machine_speed import n_cores

__all__ = [
    "is_single_threaded",
    "limit_process_to_one_thread",
    "limit_torch_if_loaded",
    "limit_torch_to_one_thread",
    "map_on_cores",
    "single_threaded",
    "single_threaded_blas",
    "single_threaded_torch",
]

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


class _SharedBlasLimit:
    """Context manager that the first run to enter applies and the last run to exit removes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_runs = 0
        self._limits: threadpool_limits | None = None

    @property
    def is_active(self) -> bool:
        """Whether the limit applies now."""
        return self._limits is not None

    def __enter__(self) -> None:
        with self._lock:
            self._n_runs += 1
            if self._limits is None:
                self._limits = threadpool_limits(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_runs -= 1
            if self._n_runs == 0 and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


_blas_limit = _SharedBlasLimit()


def limit_torch_to_one_thread() -> None:
    """Load PyTorch and limit it to one thread in the calling thread; an initializer for pools of threads."""
    import torch

    torch.set_num_threads(1)


def limit_torch_if_loaded() -> None:
    """Limit PyTorch to one thread in the calling thread, unless the process does not use PyTorch."""
    if "torch" in sys.modules:
        limit_torch_to_one_thread()


def map_on_cores(function: Callable[[_Item], _Value], items: Iterable[_Item]) -> list[_Value]:
    """Apply a function to independent blocks, on all cores, and return its values in the order of the blocks.

    Each block is computed on one thread, so that the number of cores changes no byte. After an error, which is raised
    here, no further block is started.

    Parameters
    ----------
    function
        The function, whose calls do not depend on each other.
    items
        The blocks.
    """
    blocks = list(items)
    n_threads = min(n_cores(), len(blocks))
    if n_threads <= 1:
        return [function(block) for block in blocks]
    pool = ThreadPoolExecutor(n_threads, "napari-srast-blocks", initializer=limit_torch_if_loaded)
    try:
        return [future.result() for future in [pool.submit(function, block) for block in blocks]]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def limit_process_to_one_thread() -> None:
    """Limit all numerical libraries to one thread for good; an initializer for pools of processes."""
    importlib.import_module("scipy.linalg")  # threadpoolctl limits only libraries that are already loaded
    limit_torch_to_one_thread()
    threadpool_limits(1)


def is_single_threaded() -> bool:
    """Return whether BLAS and OpenMP are limited to one thread now, so that equal input gives equal bytes."""
    return _blas_limit.is_active


@contextmanager
def single_threaded() -> Iterator[None]:
    """Limit BLAS and OpenMP in the process, and PyTorch (if loaded) in the calling thread, to one thread."""
    torch = sys.modules.get("torch")
    # PyTorch's setting is read first, because the limit of OpenMP changes it.
    n_threads = None if torch is None else torch.get_num_threads()
    with _blas_limit:
        limit_torch_if_loaded()
        try:
            yield
        finally:
            if torch is not None and n_threads is not None:
                torch.set_num_threads(n_threads)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Limit BLAS and OpenMP in the process to one thread; concurrent uses share one limit."""
    with _blas_limit:
        yield


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Load PyTorch and limit it to one thread in the calling thread."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
