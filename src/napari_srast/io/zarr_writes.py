"""Wait until all pending writes of Zarr and Dask have ended, so that a clean-up removes everything.

A Zarr array writes its chunks concurrently on an event loop. If one chunk fails, for example because the disk is full,
the caller gets the error immediately, while the other chunks are still being written; each of them creates its folder
again if it is missing. A clean-up at that moment leaves a folder behind. Dask behaves in the same way one level higher:
it raises the first error of a graph while its other threads continue.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import accumulate
from typing import Any

from napari_srast.core.progress import NO_MONITOR, RunMonitor

__all__ = ["reported_blocks", "settle_zarr_writes", "settled_writes"]

_TIMEOUT_S = 60.0


class _WritingPool(ThreadPoolExecutor):
    """Thread pool for Dask that can wait for its tasks; it is never shut down, because readers may use it meanwhile."""

    def __init__(self) -> None:
        super().__init__(os.cpu_count() or 1, thread_name_prefix="dask-writing")
        self._running: set[Future[Any]] = set()

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(*args, **kwargs)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def settle(self) -> None:
        """Wait until every task that has been submitted has ended."""
        wait(self._running.copy(), timeout=_TIMEOUT_S)


_pool: _WritingPool | None = None


@contextlib.contextmanager
def settled_writes() -> Iterator[None]:
    """Run a block that writes with Zarr and Dask; all its writes have ended when it exits, even with an error."""
    import dask

    global _pool
    if _pool is None:
        _pool = _WritingPool()
    try:
        with dask.config.set(pool=_pool):
            yield
    finally:
        _pool.settle()
        settle_zarr_writes()


@contextlib.contextmanager
def reported_blocks(monitor: RunMonitor, stage: str, sizes: Sequence[int]) -> Iterator[None]:
    """Report the blocks of images that Dask writes in this thread, and end the writing once it is canceled.

    Parameters
    ----------
    monitor
        Receives the fraction of all blocks that are written.
    stage
        Name of the stage.
    sizes
        Number of pixels of each image, in the order in which they are written.
    """
    if monitor == NO_MONITOR:
        yield
        return
    from dask.callbacks import Callback

    thread, is_open, number = threading.get_ident(), True, -1  # number of the image that is written
    ends, whole = (0, *accumulate(sizes)), max(sum(sizes), 1)

    def is_own() -> bool:
        return is_open and threading.get_ident() == thread  # Dask asks for all threads of the process

    def start(graph: Any) -> None:
        nonlocal number
        number += is_own()

    def before_block(key: Any, graph: Any, state: Any) -> None:
        if is_own():
            monitor.check_canceled()

    def after_block(key: Any, value: Any, graph: Any, state: Any, worker: Any) -> None:
        if is_own() and number < len(sizes):
            done = len(state["finished"])
            part = done / (done + sum(len(state[name]) for name in ("waiting", "ready", "running")))
            monitor.report_fraction(stage, (ends[number] + part * sizes[number]) / whole)

    with Callback(start=start, pretask=before_block, posttask=after_block):
        try:
            yield
        finally:
            is_open = False


def settle_zarr_writes() -> None:
    """Wait until all tasks on Zarr's event loop have ended."""
    from zarr.core.sync import sync

    with contextlib.suppress(TimeoutError):
        sync(_other_tasks(), timeout=_TIMEOUT_S)


async def _other_tasks() -> None:
    current = asyncio.current_task()
    while others := [task for task in asyncio.all_tasks() if task is not current]:
        await asyncio.wait(others)
