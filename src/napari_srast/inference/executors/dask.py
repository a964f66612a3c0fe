"""The workers of a Dask cluster: slides are prepared and units split wherever there is room.

What the units of a run share (the checkpoint, the calibration, what is known of the genes) is sent to each worker once;
a unit is a task that brings its own spots along. A task of a worker that dies is done again by another. No byte of the
result depends on any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from distributed import Client, Future, wait
from distributed.scheduler import KilledWorker
from scipy import sparse

from napari_srast._utils.threads import single_threaded
from napari_srast.core.sinks import ResultSink
from napari_srast.errors import Cancelled, SettingsError
from napari_srast.inference.executors.base import Executor
from napari_srast.inference.executors.fallback import OutOfMemoryFallback
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import PreparedMethod, TileInput, TilePredictor
from napari_srast.inference.methods.interpolation import prepare
from napari_srast.inference.tiles import Tiling

__all__ = ["DaskExecutor"]

_Result = TypeVar("_Result")
_SplitUnit = tuple[list[str], np.ndarray, sparse.csr_matrix, sparse.csr_matrix | None]
_ATTEMPTS = 3  # at what was lost with its worker, so that sending it once more is all it takes
_PATIENCE = 30.0  # seconds
_LOOK_AGAIN = 0.2  # seconds between looks at the stop token


class DaskExecutor(Executor):
    """The workers of a cluster.

    Parameters
    ----------
    scheduler
        Address of the scheduler, such as ``tcp://10.0.0.1:8786``, or a client.

    Raises
    ------
    SettingsError
        No scheduler answers there, or it has no workers.

    Examples
    --------
    >>> from napari_srast.inference.executors.dask import DaskWorkers
    >>> with DaskWorkers("tcp://10.0.0.1:8786") as workers:  # doctest: +SKIP
    ...     result = srast.upsample(slide, workers=workers)
    """

    def __init__(self, scheduler: str | Client) -> None:
        self._own = isinstance(scheduler, str)
        try:
            # Never the process's default client: reading and writing slides is dask, too, and belongs on this machine.
            self._client = (
                Client(scheduler, timeout=_PATIENCE, set_as_default=False) if isinstance(scheduler, str) else scheduler
            )
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except (OSError, TimeoutError, ValueError) as error:
            raise SettingsError(
                f"No Dask scheduler with workers answers at '{scheduler}' ({type(error).__name__}); start one with "
                "'dask scheduler' and 'dask worker ADDRESS', or leave out --dask."
            ) from error

    def __enter__(self) -> DaskExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; it runs on."""
        if self._own:
            self._client.close()

    def prepare(self, job: UpsampleJob) -> Generator[tuple[str, int, int], None, PreparedMethod]:
        """Make the job's method ready on one of the workers."""
        yield "align", 0, 1
        method = self._run(_prepare, replace(job, should_stop=None), job)
        yield "align", 1, 1
        yield "calibrate", 1, 1
        return method

    def split(
        self, job: UpsampleJob, method: PreparedMethod, cutter: Tiling, collector: ResultSink
    ) -> Generator[tuple[str, int, int], None, tuple[str, ...]]:
        """Split the units as tasks."""
        device = method.record.get("device", "cpu")
        shared = self._share(method.splitter)
        waiting = cutter.order[::-1]
        in_work: dict[Future, int] = {}
        attempts = dict.fromkeys(waiting, 0)
        finished = 0
        told: dict[str, None] = {}  # in the order in which it was told
        try:
            while waiting or in_work:
                while waiting and len(in_work) < self._room():
                    index = waiting.pop()
                    packed = self._send(method.pack(job, cutter.unit(index)))
                    in_work[self._submit(_split, shared, packed, device)] = index
                job.check_stop()
                for future in self._finished(in_work):
                    index = in_work.pop(future)
                    try:
                        notices, *split = future.result()
                        collector.add(*split)
                    except (CancelledError, KilledWorker):
                        # What the task needed went down with the workers that held it: send it again.
                        attempts[index] += 1
                        if attempts[index] >= _ATTEMPTS:
                            raise
                        shared = self._share(method.splitter)
                        waiting.append(index)
                        continue
                    told |= dict.fromkeys(notices)
                    finished += 1
                    yield "split", finished, len(cutter.groups)
        finally:
            self._client.cancel(list(in_work))
        return tuple(told)

    def _share(self, splitter: TilePredictor) -> Future:
        """Send what all units share to every worker."""
        return self._send(splitter, broadcast=True)

    def _send(self, data: Any, *, broadcast: bool = False) -> Future:
        """Send data to a worker, or to all; a worker that dies meanwhile is waited for, or done without."""
        for attempt in range(_ATTEMPTS):
            try:
                return self._client.scatter(data, broadcast=broadcast, hash=False)
            except OSError:
                if attempt == _ATTEMPTS - 1:
                    raise
                self._client.wait_for_workers(1, timeout=_PATIENCE)
        raise AssertionError("unreachable")

    def _room(self) -> int:
        """Return how many tasks keep all threads of the cluster busy."""
        return 2 * max(1, sum(self._client.nthreads().values()))

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return self._client.submit(function, *arguments, pure=False, retries=_ATTEMPTS)

    def _run(self, function: Callable[[UpsampleJob], _Result], argument: UpsampleJob, job: UpsampleJob) -> _Result:
        """Run one task to its end."""
        for attempt in range(_ATTEMPTS):
            future = self._submit(function, self._send(argument))
            try:
                while not self._finished({future: 0}):
                    job.check_stop()
                return future.result()
            except Cancelled:
                future.cancel()
                raise
            except (CancelledError, KilledWorker):
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _finished(self, futures: dict[Future, int]) -> list[Future]:
        """Wait a moment for futures; returns those that are done."""
        try:
            with self._client.as_current():
                return list(wait(list(futures), timeout=_LOOK_AGAIN, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            return []
        except CancelledError:  # what it needed went down with a worker: its result says so
            return [future for future in futures if future.done()]


def _prepare(job: UpsampleJob) -> PreparedMethod:
    """Make a method ready, on a worker."""
    with single_threaded():
        steps = prepare(job)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                method: PreparedMethod = done.value
                return replace(method, splitter=method.splitter.on("cpu"))


def _split(splitter: TilePredictor, packed: TileInput, device: str) -> _SplitUnit:
    """Split a unit, on a worker; on its CPU where it lacks the device that the slide was prepared on."""
    lacking = device != "cpu" and device not in _devices()
    with single_threaded():
        enduring = OutOfMemoryFallback(splitter.on("cpu" if lacking else device))
        counts, spread = enduring.split(packed)
    notices = [f"Some workers have no device '{device}', so they computed on their CPU."] if lacking else []
    return [*notices, *enduring.notices], packed.unit.rows, counts, spread


def _devices() -> tuple[str, ...]:
    from napari_srast._utils.devices import available_devices

    return available_devices()
