"""Measure the run time and peak memory of one job in the current process."""

from __future__ import annotations

import math
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_srast.benchmarks.external import EXTERNAL_METHODS, run_external_method
from napari_srast.benchmarks.synthetic_slide import simulate_slide
from napari_srast.core.progress import Progress
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide

__all__ = ["BenchmarkCase", "Measurement", "measure", "measure_bandwidth"]

_SAMPLE_SECONDS = 0.005
_BANDWIDTH_BYTES = 1 << 28  # larger than any cache
_REGION_SPOTS, _REGION_GENES = 300, 20


@dataclass(frozen=True, kw_only=True)
class BenchmarkCase:
    """Describe a job to measure.

    Parameters
    ----------
    method
        One of :data:`napari_srast.core.settings.METHODS` or :data:`napari_srast.benchmarks.external.EXTERNAL_METHODS`.
    spots, genes
        Size of the slide.
    factor
        Pixels per pitch.
    device
        "cpu", "cuda" or "mps".
    workers
        Number of tiles computed at the same time; None for the default of a run.
    """

    method: str
    spots: int
    genes: int
    factor: float = 2.0
    device: str = "cpu"
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Run time and memory of one job.

    Parameters
    ----------
    case
        The job.
    pixels
        Number of pixels of the result.
    seconds
        Wall time from the slide to the last tile of the result, without imports. During this time counts are also
        written to a store on disk, in large portions.
    cpu_seconds
        Processor time of all threads in the same period. It hardly depends on what else the computer does.
    peak_mb
        Peak resident memory beyond that at the start, in 10^6 bytes, including writing.
    process_mb
        Peak resident memory of the process, in 10^6 bytes.
    floor_seconds
        Bytes of the counts and of the result divided by the memory bandwidth of this computer; no method can be faster.
        None for external methods.
    stages
        Wall time of each stage; empty for external methods.
    entries
        Number of nonzero counts of the slide.
    write_seconds
        Wall time of the remaining writes after the last tile: the last portion of counts (all of a small result), the
        image and the spots. None for external methods, whose values are discarded.
    region_seconds
        Wall time of a region of 300 spots and 20 genes in the middle of the slide, with cached features. None if the
        slide is not larger, and for interpolations and external methods, which have no features.
    device_mb
        Peak memory of a CUDA device, in 10^6 bytes; None on other devices.
    """

    case: BenchmarkCase
    pixels: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    process_mb: float
    floor_seconds: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    entries: int = 0
    write_seconds: float | None = None
    region_seconds: float | None = None
    device_mb: float | None = None

    @property
    def first_region_seconds(self) -> float | None:
        """Wall time of the region with a cold cache: features and calibration included."""
        if self.region_seconds is None:
            return None
        return self.region_seconds + sum(self.stages.get(stage, 0.0) for stage in ("align", "calibrate"))


def measure(case: BenchmarkCase, seed: int = 0, bytes_per_second: float = math.inf) -> Measurement:
    """Run one job in this process and measure it.

    Parameters
    ----------
    case
        The job.
    seed
        Random seed of the simulated slide and of the run.
    bytes_per_second
        Memory bandwidth, from :func:`measure_bandwidth`.
    """
    if case.method in EXTERNAL_METHODS:
        return _measure_external(case, seed)
    from napari_srast import api
    from napari_srast.inference.executors.local import ThreadExecutor

    slide = simulate_slide(case.spots, case.genes, seed)
    # An interpolation is the reference for splitting counts, so it is measured without the expression.
    expression = "auto" if case.method == "srast" else "none"
    settings = UpsampleSettings(
        method=case.method, factor=case.factor, device=case.device, seed=seed, expression=expression
    )
    timer = _RunTimer()
    with tempfile.TemporaryDirectory() as folder:
        # A small run first: imports and caches are not part of the measurement.
        api.upsample_to_store(simulate_slide(64, 8, seed), Path(folder) / "small.zarr", settings=settings)
        store = Path(folder) / "result.zarr"
        with _PeakMemory(case.device) as memory:
            timer.start()
            result = api.upsample_to_store(
                slide, store, settings=settings, executor=ThreadExecutor(case.workers), progress=timer.on_progress
            )
            write_seconds = time.perf_counter() - timer.split_end
        moved = sum(array.nbytes for array in (slide.counts.data, slide.counts.indices, slide.counts.indptr))
        moved += _bytes_of_counts(store)
    return Measurement(
        case=replace(case, spots=slide.n_spots),
        pixels=result.n_pixels,
        seconds=timer.seconds,
        cpu_seconds=timer.cpu_seconds,
        stages={name: seconds for name, seconds in result.provenance["seconds"].items() if name != "total"},
        peak_mb=(memory.peak - memory.start) / 1e6,
        process_mb=memory.peak / 1e6,
        floor_seconds=moved / bytes_per_second,
        entries=slide.counts.nnz,
        write_seconds=write_seconds,
        region_seconds=_measure_region(slide, settings) if case.method == "srast" else None,
        device_mb=memory.device_mb,
    )


def measure_bandwidth() -> float:
    """Measure the memory bandwidth in bytes per second, read and written while copying: the best of three copies."""
    source = np.ones(_BANDWIDTH_BYTES, dtype=np.uint8)
    target = np.empty_like(source)
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return 2 * _BANDWIDTH_BYTES / best


def _measure_external(case: BenchmarkCase, seed: int) -> Measurement:
    """Run one job with an external method in this process and measure it."""
    slide = simulate_slide(case.spots, case.genes, seed)
    # A small run first: imports and caches are not part of the measurement.
    run_external_method(case.method, simulate_slide(64, 1, seed), case.factor)
    with _PeakMemory(case.device) as memory:
        start, cpu_start = time.perf_counter(), time.process_time()
        values = run_external_method(case.method, slide, case.factor)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Measurement(
        case=replace(case, spots=slide.n_spots),
        pixels=len(values),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        peak_mb=(memory.peak - memory.start) / 1e6,
        process_mb=memory.peak / 1e6,
        entries=slide.counts.nnz,
    )


def _measure_region(slide: Slide, settings: UpsampleSettings) -> float | None:
    """Return the wall time of the middle of a slide whose features are cached."""
    from napari_srast import api

    if slide.n_spots <= _REGION_SPOTS:
        return None
    middle = slide.centers - np.median(slide.centers, axis=0)
    reach = np.sort(np.abs(middle).max(axis=1))[_REGION_SPOTS - 1]
    corners = reach * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) + np.median(slide.centers, axis=0)
    region = Region.from_polygons([corners], slide.coordinate_system)
    start = time.perf_counter()
    api.upsample(slide, region, list(slide.genes[:_REGION_GENES]), settings=settings)
    return time.perf_counter() - start


def _bytes_of_counts(store: Path) -> int:
    """Return the size in memory of a result's counts."""
    import zarr

    (table,) = (store / "tables").glob("*_table")
    matrix: Any = zarr.open_group(table / "X", mode="r")
    return sum(matrix[name].size * matrix[name].dtype.itemsize for name in ("data", "indices", "indptr"))


class _RunTimer:
    """Time a run until its last tile."""

    def start(self) -> None:
        self._start, self._cpu_start = time.perf_counter(), time.process_time()

    def on_progress(self, step: Progress) -> None:
        if step.fraction >= 1.0:
            self.split_end = time.perf_counter()
            self.seconds, self.cpu_seconds = self.split_end - self._start, time.process_time() - self._cpu_start


class _PeakMemory:
    """Sample this process's resident memory in a thread; read a CUDA device's peak memory at the end."""

    def __init__(self, device: str) -> None:
        self._on_cuda = device == "cuda"
        self.device_mb: float | None = None

    def __enter__(self) -> _PeakMemory:
        import psutil

        if self._on_cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
        self._process = psutil.Process()
        self.start = self.peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._on_cuda:
            import torch

            self.device_mb = torch.cuda.max_memory_allocated() / 1e6

    def _sample(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(_SAMPLE_SECONDS)  # one more sample at the end, so that short jobs count
            self.peak = max(self.peak, self._process.memory_info().rss)
