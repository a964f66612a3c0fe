"""Compute on the workers of a Dask cluster: methods are prepared and tiles predicted wherever there is room.

Everything that the tiles of a run share (checkpoint, calibration, field statistics) is sent to each worker once; a tile
is a task that contains its own spots. Counts and results go directly to and from the workers, so that the scheduler
holds none of them, unless the workers cannot be reached from here. If a worker dies, another one repeats its tasks. No
byte of the result depends on any of it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from distributed import Client, Future, wait
from distributed.scheduler import KilledWorker
from scipy import sparse

from napari_srast._utils.threads import single_threaded
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.core.sinks import ResultSink
from napari_srast.errors import Cancelled, SettingsError
from napari_srast.inference.executors.base import Executor
from napari_srast.inference.executors.fallback import OutOfMemoryFallback
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import PreparedMethod, TileInput, TilePredictor
from napari_srast.inference.methods.registry import prepare
from napari_srast.inference.tiles import Tiling

__all__ = ["DaskExecutor"]

_Result = TypeVar("_Result")
_TileResult = tuple[list[str], np.ndarray, sparse.csr_matrix, sparse.csr_matrix | None]
_ATTEMPTS = 3  # for tasks and data that were lost with a worker
_MAX_DIRECT_FAILURES = 3  # after which data go through the scheduler
_WORKER_TIMEOUT = 30.0  # seconds
_POLL_INTERVAL = 0.2  # seconds between checks for cancellation


class DaskExecutor(Executor):
    """Compute on the workers of a Dask cluster.

    Parameters
    ----------
    scheduler
        Address of the scheduler, such as ``tcp://10.0.0.1:8786``, or a client.

    Raises
    ------
    SettingsError
        No scheduler answers at the address, or it has no workers.

    Examples
    --------
    >>> from napari_srast.inference.executors.dask import DaskExecutor
    >>> with DaskExecutor("tcp://10.0.0.1:8786") as executor:  # doctest: +SKIP
    ...     result = srast.upsample(slide, executor=executor)
    """

    is_local = False

    def __init__(self, scheduler: str | Client) -> None:
        self._owns_client = isinstance(scheduler, str)
        self._n_direct_failures = 0
        try:
            # Never the process's default client: dask also reads and writes slides, which must stay on this machine.
            self._client = (
                Client(scheduler, timeout=_WORKER_TIMEOUT, set_as_default=False)
                if isinstance(scheduler, str)
                else scheduler
            )
            self._client.wait_for_workers(1, timeout=_WORKER_TIMEOUT)
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
        """Disconnect from the cluster, which keeps running."""
        if self._owns_client:
            self._client.close()

    def prepare(self, job: UpsampleJob) -> PreparedMethod:
        """Prepare the method of a job on one of the workers."""
        job.monitor.report("align", 0, 1)
        job.monitor.check_canceled()
        method = self._run(_prepare, replace(job, monitor=NO_MONITOR, stored=None), job.monitor)
        for stage in ("align", "calibrate"):
            job.monitor.report(stage, 1, 1)
            job.monitor.check_canceled()
        return method

    def predict_tiles(
        self, job: UpsampleJob, method: PreparedMethod, tiling: Tiling, sink: ResultSink
    ) -> tuple[str, ...]:
        """Predict each tile as a task of its own."""
        predictor = self._broadcast(method.predictor)
        waiting = tiling.order[::-1]
        in_work: dict[Future, int] = {}
        attempts = dict.fromkeys(waiting, 0)
        n_finished = 0
        warnings: dict[str, None] = {}  # an ordered set
        try:
            while waiting or in_work:
                while waiting and len(in_work) < self._max_tasks():
                    index = waiting.pop()
                    tile_input = self._send(method.tile_input(job, tiling.tile(index)))
                    in_work[self._submit(_predict_tile, predictor, tile_input, method.model.device)] = index
                job.monitor.check_canceled()
                for future in self._finished(in_work):
                    index = in_work.pop(future)
                    try:
                        task_warnings, *tile_result = self._result(future)
                        sink.add(*tile_result)
                    except (CancelledError, KilledWorker):
                        # The input of the task was lost with the workers that had it, so it is sent again.
                        attempts[index] += 1
                        if attempts[index] >= _ATTEMPTS:
                            raise
                        predictor = self._broadcast(method.predictor)
                        waiting.append(index)
                        continue
                    warnings |= dict.fromkeys(task_warnings)
                    n_finished += 1
                    job.monitor.report("split", n_finished, len(tiling.groups))
                    job.monitor.check_canceled()
        finally:
            self._client.cancel(list(in_work))
        return tuple(warnings)

    def _broadcast(self, predictor: TilePredictor) -> Future:
        """Send the data that all tiles share to every worker."""
        return self._send(predictor, broadcast=True)

    def _send(self, data: Any, *, broadcast: bool = False) -> Future:
        """Send data to a worker or to all of them; if a worker dies meanwhile, wait for another one."""
        for attempt in range(_ATTEMPTS + _MAX_DIRECT_FAILURES):
            is_direct = self._is_direct
            try:
                return self._client.scatter(data, broadcast=broadcast, hash=False, direct=is_direct)
            except OSError:
                self._n_direct_failures += is_direct
                if attempt == _ATTEMPTS + _MAX_DIRECT_FAILURES - 1:
                    raise
                self._client.wait_for_workers(1, timeout=_WORKER_TIMEOUT)
        raise AssertionError("unreachable")

    @property
    def _is_direct(self) -> bool:
        """Whether data go directly to and from the workers."""
        return self._n_direct_failures < _MAX_DIRECT_FAILURES

    def _result(self, future: Future) -> Any:
        """Return the result of a task that is done, or raise its error."""
        if future.status != "finished":
            return future.result()
        return self._client.gather(future, direct=self._is_direct)

    def _max_tasks(self) -> int:
        """Return how many tasks keep all threads of the cluster busy."""
        return 2 * max(1, sum(self._client.nthreads().values()))

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return self._client.submit(function, *arguments, pure=False, retries=_ATTEMPTS)

    def _run(self, function: Callable[[UpsampleJob], _Result], argument: UpsampleJob, monitor: RunMonitor) -> _Result:
        """Run one task to its end."""
        for attempt in range(_ATTEMPTS):
            future = self._submit(function, self._send(argument))
            try:
                while not self._finished({future: 0}):
                    monitor.check_canceled()
                return self._result(future)
            except Cancelled:
                future.cancel()
                raise
            except (CancelledError, KilledWorker):
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _finished(self, futures: dict[Future, int]) -> list[Future]:
        """Wait a moment for futures, and return those that are done."""
        try:
            with self._client.as_current():
                return list(wait(list(futures), timeout=_POLL_INTERVAL, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            return []
        except CancelledError:  # the input of a task was lost with a worker: the task's result raises the error
            return [future for future in futures if future.done()]


def _prepare(job: UpsampleJob) -> PreparedMethod:
    """Prepare a method, on a worker."""
    with single_threaded():
        method = prepare(job)
    return replace(method, predictor=method.predictor.to_device("cpu"))


def _predict_tile(predictor: TilePredictor, tile_input: TileInput, device: str) -> _TileResult:
    """Predict a tile, on a worker; on its CPU if it does not have the device that prepared the method."""
    device_is_missing = device != "cpu" and device not in _devices()
    with single_threaded():
        fallback = OutOfMemoryFallback(predictor.to_device("cpu" if device_is_missing else device))
        counts, std = fallback.predict(tile_input)
    warnings = [f"Some workers have no device '{device}', so they computed on their CPU."] if device_is_missing else []
    return [*warnings, *fallback.warnings], tile_input.tile.rows, counts, std


def _devices() -> tuple[str, ...]:
    from napari_srast._utils.devices import available_devices

    return available_devices()
