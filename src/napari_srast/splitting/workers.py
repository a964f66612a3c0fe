"""Who does the work: the cores of this computer, each with a unit of its own."""

from __future__ import annotations

import os
import queue
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from napari_srast.errors import Cancelled
from napari_srast.splitting.assembly import Collector
from napari_srast.splitting.devices import free_device, out_of_memory
from napari_srast.splitting.job import Job
from napari_srast.splitting.method import Method, Packed, Splitter
from napari_srast.splitting.prepare import prepare
from napari_srast.splitting.units import Cutter

__all__ = ["Enduring", "LocalWorkers", "Workers", "single_threaded"]

Stop = Callable[[], bool] | None
_MOST_HALVINGS = 4
_UNIT_BYTES = 400_000_000  # that a unit in work may take
_AHEAD = 2  # units for each worker that are in work or wait to be collected: a slow disk must not fill the memory


class Workers(ABC):
    """Prepares a job and splits its units."""

    @abstractmethod
    def prepare(self, job: Job) -> Generator[tuple[str, int, int], None, Method]:
        """Make the job's method ready; yields (stage, done, total)."""

    @abstractmethod
    def split(
        self, job: Job, method: Method, cutter: Cutter, collector: Collector
    ) -> Generator[tuple[str, int, int], None, tuple[str, ...]]:
        """Hand all units, split, to the collector; yields (stage, done, total) and returns notices."""


class LocalWorkers(Workers):
    """The cores of this computer.

    Parameters
    ----------
    n_workers
        Units in work at once: the size of a tile. None: as many as there are cores and memory for. On a GPU they take
        turns, while the cores interpolate the others.
    fit
        What fits SASA, such as :meth:`napari_srast.models.elsewhere.Elsewhere.fit`; None: this process.
    """

    def __init__(self, n_workers: int | None = None, fit: Callable[..., Any] | None = None) -> None:
        self._n_workers = n_workers
        self._fit = fit

    def prepare(self, job: Job) -> Generator[tuple[str, int, int], None, Method]:
        """Make the job's method ready in this thread."""
        return (yield from prepare(replace(job, fit=self._fit)))

    def split(
        self, job: Job, method: Method, cutter: Cutter, collector: Collector
    ) -> Generator[tuple[str, int, int], None, tuple[str, ...]]:
        """Split the units on a thread each."""
        total = sum(len(method.splitter.blocks(n_pixels)) for n_pixels in cutter.n_pixels)
        halt = threading.Event()
        events: queue.SimpleQueue[Future | None] = queue.SimpleQueue()
        enduring = Enduring(method.splitter)

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


def _split_unit(
    splitter: Splitter, packed: Packed, should_stop: Stop, report: Callable[[], None] | None
) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
    """Split all genes of a unit, block by block; returns counts and standard deviations, CSR (Q, G)."""
    split_block = splitter.open(packed, should_stop)
    counts, spreads = [], []
    for block in splitter.blocks(packed.unit.layout.n_pixels):
        if should_stop is not None and should_stop():
            raise Cancelled
        of_block, spread = split_block(block)
        counts.append(of_block)
        if spread is not None:
            spreads.append(spread)
        if report is not None:
            report()
    return _side_by_side(counts), _side_by_side(spreads) if spreads else None


def _side_by_side(blocks: list[Any]) -> sparse.csr_matrix:
    if len(blocks) == 1:
        return sparse.csr_matrix(blocks[0], dtype=np.float32)
    return sparse.csr_matrix(sparse.hstack(blocks, format="csr", dtype=np.float32))


class Enduring:
    """Splits units also where the device runs out of memory: in halves, and at last on the CPU.

    Attributes
    ----------
    notices
        What the user is to know of it, one sentence each.
    """

    def __init__(self, splitter: Splitter) -> None:
        self._splitter = splitter
        self._halvings = 0
        self.notices: list[str] = []

    def split(
        self, packed: Packed, should_stop: Stop = None, report: Callable[[], None] | None = None, halved: int = 0
    ) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
        """Split all genes of a unit; returns counts and standard deviations, CSR (Q, G)."""
        splitter, can_be_halved = self._splitter, halved < _MOST_HALVINGS and len(packed.unit.own) > 1
        if halved >= self._halvings or not can_be_halved:
            try:
                return _split_unit(splitter, packed, should_stop, report)
            except Exception as error:
                if not out_of_memory(error):
                    raise
            free_device()
            if can_be_halved:
                self._halvings = max(self._halvings, halved + 1)
                self._tell("The device ran out of memory, so smaller parts of the slide were computed at once.")
            else:
                self._splitter = splitter.on("cpu")
                self._tell("The device ran out of memory, so the rest was computed on the CPU.")
                return _split_unit(self._splitter, packed, should_stop, report)
        halves = packed.halves(splitter.own_counts_only)
        parts = [self.split(half, should_stop, report, halved + 1) for half in halves]
        rows = np.concatenate([half.unit.rows for half in halves])
        order = np.argsort(rows)
        order = order[np.searchsorted(rows[order], packed.unit.rows)]
        counts = sparse.vstack([counts for counts, _ in parts], format="csr")[order]
        spreads = [spread for _, spread in parts if spread is not None]
        return counts, sparse.vstack(spreads, format="csr")[order] if spreads else None

    def _tell(self, notice: str) -> None:
        if notice not in self.notices:
            self.notices.append(notice)


def _room() -> int:
    """Return how many units can be in work at once."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().available // _UNIT_BYTES)))


def _use_one_thread() -> None:
    """Keep torch to the one thread that a unit is computed on; its setting is each thread's own."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


class _Limit:
    """The limit on threads, which is the whole process's: the first run sets it, the last one lifts it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = 0
        self._limits: threadpool_limits | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._runs += 1
            if self._limits is None:
                self._limits = threadpool_limits(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0 and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


_limit = _Limit()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep libraries from splitting sums over threads: how they do depends on the computer, and so do the last bits.

    Two units on a thread each are faster than one on two, too.
    """
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    with _limit:
        _use_one_thread()
        try:
            yield
        finally:
            if torch is not None and before is not None:
                torch.set_num_threads(before)
