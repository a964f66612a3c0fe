"""Time and peak memory against spots, genes, factor, units in work and devices, beside pycnophylactic interpolation.

Published packages (:mod:`napari_srast.benchmarks.external`) may do the same jobs.

Each measurement runs in a process of its own, so that neither memory nor caches of one help or burden the next. Read
the ratios: they carry over to other computers, seconds do not.
"""

from __future__ import annotations

import math
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast.benchmarks.external import PEERS, check_peers, run_peer
from napari_srast.core.progress import Progress
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide

__all__ = ["Benchmark", "BenchmarkCase", "Measurement", "bandwidth", "bench", "made_slide", "measure"]

PEER = "pycnophylactic"
_PITCH_UM = 100.0
_MEAN_COUNTS = 5.0  # of a gene in a spot, as in a panel of a few hundred genes
_MOST_COUNTS = 5000.0  # of a spot, as on Visium: larger panels are sparser
_SAMPLE_SECONDS = 0.005
_COPIED = 1 << 28  # bytes, far beyond any cache
_REGION_SPOTS, _REGION_GENES = 300, 20


@dataclass(frozen=True, kw_only=True)
class BenchmarkCase:
    """A job to be measured.

    Parameters
    ----------
    method
        One of :data:`napari_srast.core.settings.METHODS` or of :data:`napari_srast.benchmarks.external.PEERS`.
    spots, genes, factor
        Its size.
    device
        "cpu", "cuda" or "mps".
    workers
        Units in work at once ("tile size"); None as a run chooses.
    """

    method: str
    spots: int
    genes: int
    factor: float = 2.0
    device: str = "cpu"
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One job done by one method.

    Parameters
    ----------
    case
        The job.
    pixels
        Pixels of its result.
    seconds
        Wall time from slide to the last unit of the result, once everything is imported. Counts go to a store on disk
        meanwhile, in large portions.
    cpu_seconds
        The processor's time of all threads in it: what stays the same on a busy computer.
    stages
        Wall time of each stage; of published peers none is known.
    peak_mb
        Peak resident memory beyond what the process held before, in 10^6 bytes; that of writing included.
    process_mb
        Peak resident memory of the whole process.
    entries
        Counts above 0 of the slide.
    write_seconds
        Wall time of writing after it what is left then: the last portion, which of a small result is all of it, the
        image and the circles. None for published peers, whose values are thrown away.
    region_seconds
        Wall time of 300 spots and 20 genes in the middle of the slide, once its features are known; None where the
        slide is no larger, and for interpolations and peers, which know no features.
    floor_seconds
        Bytes of the counts and of the result, at the bandwidth of this computer's memory: no method can be faster. None
        for published peers.
    device_mb
        Most memory of a CUDA device in use at once, in 10^6 bytes; None on other devices.
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
        """Wall time of that region where nothing of the slide is known yet."""
        if self.region_seconds is None:
            return None
        return self.region_seconds + sum(self.stages.get(stage, 0.0) for stage in ("align", "calibrate"))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """All measurements of one run, and the memory bandwidth in bytes a second that the floor stands on."""

    measurements: tuple[Measurement, ...]
    bytes_per_second: float

    def ratios(self) -> list[dict[str, Any]]:
        """Return for each job of the others how many times interpolation's seconds and memory it takes."""
        peers = {
            (one.case.spots, one.case.genes, one.case.factor): one
            for one in self.measurements
            if one.case.method == PEER
        }
        return [
            {
                **asdict(one.case),
                "pixels": one.pixels,
                "seconds": one.seconds / peer.seconds,
                "cpu_seconds": one.cpu_seconds / peer.cpu_seconds,
                "peak_mb": one.peak_mb / max(peer.peak_mb, 1.0),
            }
            for one in self.measurements
            if one.case.method != PEER and (one.case.spots, one.case.genes, one.case.factor) in peers
            for peer in [peers[one.case.spots, one.case.genes, one.case.factor]]
        ]

    def growth(self, method: str) -> float:
        """Return the exponent b of seconds ~ spots^b over the sweep of spots; NaN with fewer than two sizes."""
        own = [one for one in self.measurements if one.case.method == method]
        sweep = {
            one.case.spots: one.seconds for one in own if replace(one.case, spots=own[0].case.spots) == own[0].case
        }
        if len(sweep) < 2:
            return float("nan")
        logs = np.log(np.array(list(sweep.items()), dtype=float))
        return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        published = dict.fromkeys(one.case.method for one in self.measurements if one.case.method in PEERS)
        return {
            "measurements": [_flat(one) for one in self.measurements],
            "bytes_per_second": self.bytes_per_second,
            "ratios_to_pycnophylactic": self.ratios(),
            "seconds_grow_as_spots_to_the": {method: self.growth(method) for method in ("srast", PEER, *published)},
        }


def _flat(one: Measurement) -> dict[str, Any]:
    values = asdict(one)
    return {**values.pop("case"), **values, "first_region_seconds": one.first_region_seconds}


def bench(
    spots: Sequence[int] = (500, 1000, 2000),
    *,
    genes: Sequence[int] = (200, 50, 800),
    factors: Sequence[float] = (2, 4),
    workers: Sequence[int] = (),
    devices: Sequence[str] = ("cpu",),
    peer: bool = True,
    peers: Sequence[str] = (),
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Benchmark:
    """Measure a sweep over each of spots, genes, factor, units in work and devices, the others at their first value.

    Parameters
    ----------
    spots, genes, factors
        Sizes to measure. Sweeps of genes and factors use the smallest number of spots.
    workers
        Numbers of units in work at once, each tried on the largest number of spots.
    devices
        Where the model runs. Interpolations run on the CPU.
    peer
        Whether the same jobs are done by pycnophylactic interpolation, too.
    peers
        Published packages that do them, too: names of :data:`napari_srast.benchmarks.external.PEERS`.
    seed
        Seeds the made slides.
    progress
        Called after each measurement.

    Raises
    ------
    SettingsError
        A published package is not known or not installed.
    """
    check_peers(peers)
    cases = _cases(sorted(set(spots)), genes, factors, workers, devices, peers)
    if not peer:
        cases = [case for case in cases if case.method != PEER]
    speed = bandwidth()
    done = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context, max_tasks_per_child=1) as pool:
        for index, case in enumerate(cases, start=1):
            done.append(pool.submit(measure, case, seed, speed).result())
            if progress is not None:
                label = f"{case.method}, {case.spots} spots, {case.genes} genes"
                progress(Progress(label, index, len(cases), index / len(cases)))
    return Benchmark(measurements=tuple(done), bytes_per_second=speed)


def _cases(
    sizes: Sequence[int],
    genes: Sequence[int],
    factors: Sequence[float],
    workers: Sequence[int],
    devices: Sequence[str],
    peers: Sequence[str] = (),
) -> list[BenchmarkCase]:
    """List the model's cases, and those of interpolation and published peers for each size among them."""
    first = BenchmarkCase(method="srast", spots=sizes[0], genes=genes[0], factor=factors[0], device=devices[0])
    models = [replace(first, spots=n) for n in sizes]
    models += [replace(first, genes=n) for n in genes[1:]]
    models += [replace(first, factor=factor) for factor in factors[1:]]
    models += [replace(first, spots=sizes[-1], workers=n) for n in workers]
    models += [replace(first, spots=n, device=device) for device in devices[1:] for n in sizes]
    beside = [
        [case, *(replace(case, method=name, device="cpu", workers=None) for name in (PEER, *peers))] for case in models
    ]
    return list(dict.fromkeys(case for group in beside for case in group))


def measure(case: BenchmarkCase, seed: int = 0, bytes_per_second: float = math.inf) -> Measurement:
    """Do one job in this process and measure it."""
    if case.method in PEERS:
        return _measure_peer(case, seed)
    from napari_srast import api
    from napari_srast.inference.executors.local import ThreadExecutor

    slide = made_slide(case.spots, case.genes, seed)
    settings = UpsampleSettings(method=case.method, factor=case.factor, device=case.device, seed=seed)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        # Imports and caches, which every run shares.
        api.upsample_to_store(made_slide(64, 8, seed), Path(folder) / "small.zarr", settings=settings)
        store = Path(folder) / "result.zarr"
        with _PeakMemory(case.device) as memory:
            clock.start()
            result = api.upsample_to_store(
                slide, store, settings=settings, workers=ThreadExecutor(case.workers), progress=clock.tell
            )
            write_seconds = time.perf_counter() - clock.split_at
        moved = sum(array.nbytes for array in (slide.counts.data, slide.counts.indices, slide.counts.indptr))
        moved += _bytes_of_counts(store)
    return Measurement(
        case=replace(case, spots=slide.n_spots),
        pixels=result.n_pixels,
        seconds=clock.seconds,
        cpu_seconds=clock.cpu_seconds,
        stages={name: took for name, took in result.provenance["seconds"].items() if name != "total"},
        peak_mb=(memory.peak - memory.start) / 1e6,
        process_mb=memory.peak / 1e6,
        floor_seconds=moved / bytes_per_second,
        entries=slide.counts.nnz,
        write_seconds=write_seconds,
        region_seconds=_time_of_region(slide, settings) if case.method == "srast" else None,
        device_mb=memory.device_mb,
    )


def _measure_peer(case: BenchmarkCase, seed: int) -> Measurement:
    """Let a published package do one job in this process and measure it."""
    slide = made_slide(case.spots, case.genes, seed)
    run_peer(case.method, made_slide(64, 1, seed), case.factor)  # imports and caches, which every run shares
    with _PeakMemory(case.device) as memory:
        start, cpu_start = time.perf_counter(), time.process_time()
        values = run_peer(case.method, slide, case.factor)
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


class _Clock:
    """Times a run up to its last unit."""

    def start(self) -> None:
        self._start, self._cpu_start = time.perf_counter(), time.process_time()

    def tell(self, step: Progress) -> None:
        if step.fraction >= 1.0:
            self.split_at = time.perf_counter()
            self.seconds, self.cpu_seconds = self.split_at - self._start, time.process_time() - self._cpu_start


def _bytes_of_counts(store: Path) -> int:
    """Return the bytes of a result's counts in memory."""
    import zarr

    (table,) = (store / "tables").glob("*_table")
    matrix: Any = zarr.open_group(table / "X", mode="r")
    return sum(matrix[name].size * matrix[name].dtype.itemsize for name in ("data", "indices", "indptr"))


def _time_of_region(slide: Slide, settings: UpsampleSettings) -> float | None:
    """Upsample the middle of a slide whose features are known."""
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


def bandwidth() -> float:
    """Measure the bytes a second that this computer reads and writes in copying memory: the best of three."""
    source = np.ones(_COPIED, dtype=np.uint8)
    target = np.empty_like(source)
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return 2 * _COPIED / best


def made_slide(n_spots: int, n_genes: int, seed: int = 0) -> Slide:
    """Make a slide of hexagonal spots with Poisson counts around smooth random waves, one for each gene.

    Genes have 5 counts in a spot, or so many fewer that a spot has 5,000, as on Visium; their depths then differ as
    widely as those of real genes.
    """
    rng = np.random.default_rng(seed)
    n_columns = int(np.ceil(np.sqrt(n_spots)))
    row, column = np.divmod(np.arange(n_spots), n_columns)
    centers = _PITCH_UM * np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(0.75)])
    waves = rng.normal(scale=2 * np.pi / (8 * _PITCH_UM), size=(2, n_genes))
    phase = rng.uniform(0, 2 * np.pi, n_genes)
    depth = np.full(n_genes, _MEAN_COUNTS)
    if n_genes * _MEAN_COUNTS > _MOST_COUNTS:
        depth = rng.lognormal(sigma=2.0, size=n_genes)
        depth *= _MOST_COUNTS / depth.sum()
    parts = [
        sparse.csr_matrix(rng.poisson(depth * (1 + np.sin(centers[i : i + 500] @ waves + phase))).astype(np.float32))
        for i in range(0, n_spots, 500)
    ]
    return Slide(
        counts=sparse.vstack(parts, format="csr"),
        genes=np.array([f"Gene{index:05d}" for index in range(n_genes)], dtype=object),
        spot_ids=np.array([f"spot{index}" for index in range(n_spots)], dtype=object),
        centers=centers,
        spot_diameter=0.55 * _PITCH_UM,
        unit="um",
    )


class _PeakMemory:
    """Watch this process's resident memory from a thread, and ask a CUDA device for its own at the end."""

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
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._on_cuda:
            import torch

            self.device_mb = torch.cuda.max_memory_allocated() / 1e6

    def _watch(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(_SAMPLE_SECONDS)  # once more at the end, so that short jobs count
            self.peak = max(self.peak, self._process.memory_info().rss)
