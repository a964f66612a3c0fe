"""Time and peak memory against spots, genes and factor, on made slides, beside pycnophylactic interpolation.

Each measurement runs in a process of its own, so that neither memory nor caches of one help or burden the next. Read
the ratios: they carry over to other computers, seconds do not.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast.slide import Progress, Slide

__all__ = ["Benchmark", "Measurement", "bench", "made_slide", "measure"]

PEER = "pycnophylactic"
_PITCH_UM = 100.0
_DEPTH = 5.0  # mean counts of a gene in a spot, as in a panel of a few hundred genes
_SAMPLE_SECONDS = 0.005


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One job done by one method.

    Parameters
    ----------
    method
        One of :data:`napari_srast.slide.METHODS`.
    spots, genes, factor, pixels
        Size of the job.
    seconds
        Wall time from slide to result, once everything is imported.
    peak_mb
        Peak resident memory beyond what the process held before, in 10^6 bytes.
    """

    method: str
    spots: int
    genes: int
    factor: float
    pixels: int
    seconds: float
    peak_mb: float


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """All measurements of one run."""

    measurements: tuple[Measurement, ...]

    def ratios(self) -> list[dict[str, float]]:
        """Return for each job how many times the peer's seconds and memory the model takes."""
        jobs: dict[tuple[int, int, float], dict[str, Measurement]] = {}
        for one in self.measurements:
            jobs.setdefault((one.spots, one.genes, one.factor), {})[one.method] = one
        return [
            {
                "spots": spots,
                "genes": genes,
                "factor": factor,
                "pixels": by_method["srast"].pixels,
                "seconds": by_method["srast"].seconds / by_method[PEER].seconds,
                "peak_mb": by_method["srast"].peak_mb / max(by_method[PEER].peak_mb, 1.0),
            }
            for (spots, genes, factor), by_method in jobs.items()
        ]

    def growth(self, method: str) -> float:
        """Return the exponent b of seconds ~ spots^b over the sweep of spots; NaN with fewer than two sizes."""
        first = self.measurements[0]
        sweep = [
            (one.spots, one.seconds)
            for one in self.measurements
            if one.method == method and (one.genes, one.factor) == (first.genes, first.factor)
        ]
        if len(sweep) < 2:
            return float("nan")
        logs = np.log(np.array(sweep, dtype=float))
        return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "measurements": [asdict(one) for one in self.measurements],
            "ratios_to_pycnophylactic": self.ratios(),
            "seconds_grow_as_spots_to_the": {method: self.growth(method) for method in ("srast", PEER)},
        }


def bench(
    spots: Sequence[int] = (500, 1000, 2000),
    *,
    genes: Sequence[int] = (200, 50, 800),
    factors: Sequence[float] = (2, 4),
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Benchmark:
    """Measure a sweep over each of spots, genes and factor, the others at their first value.

    Parameters
    ----------
    spots, genes, factors
        Sizes to measure. Sweeps of genes and factors use the smallest number of spots.
    seed
        Seeds the made slides.
    progress
        Called after each measurement.
    """
    sizes = sorted(set(spots))
    jobs = [(n, genes[0], factors[0]) for n in sizes]
    jobs += [(sizes[0], n, factors[0]) for n in genes[1:]]
    jobs += [(sizes[0], genes[0], factor) for factor in factors[1:]]
    tasks = [(job, method) for job in jobs for method in ("srast", PEER)]
    done = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context, max_tasks_per_child=1) as pool:
        for index, ((n_spots, n_genes, factor), method) in enumerate(tasks, start=1):
            done.append(pool.submit(measure, method, n_spots, n_genes, factor, seed).result())
            if progress is not None:
                progress(Progress(f"{method}, {n_spots} spots", index, len(tasks), index / len(tasks)))
    return Benchmark(measurements=tuple(done))


def measure(method: str, n_spots: int, n_genes: int, factor: float, seed: int = 0) -> Measurement:
    """Do one job in this process and measure it."""
    from napari_srast import pipeline
    from napari_srast.slide import UpsampleSettings

    slide = made_slide(n_spots, n_genes, seed)
    settings = UpsampleSettings(method=method, factor=factor, device="cpu", seed=seed)
    pipeline.upsample(made_slide(64, 8, seed), settings=settings)  # imports and caches, which every run shares
    with _PeakMemory() as memory:
        start = time.perf_counter()
        result = pipeline.upsample(slide, settings=settings)
        seconds = time.perf_counter() - start
    return Measurement(
        method=method,
        spots=slide.n_spots,
        genes=n_genes,
        factor=factor,
        pixels=result.n_pixels,
        seconds=seconds,
        peak_mb=memory.peak_bytes / 1e6,
    )


def made_slide(n_spots: int, n_genes: int, seed: int = 0) -> Slide:
    """Make a slide of hexagonal spots with Poisson counts around smooth random waves, one for each gene."""
    rng = np.random.default_rng(seed)
    n_columns = int(np.ceil(np.sqrt(n_spots)))
    row, column = np.divmod(np.arange(n_spots), n_columns)
    centers = _PITCH_UM * np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(0.75)])
    waves = rng.normal(scale=2 * np.pi / (8 * _PITCH_UM), size=(2, n_genes))
    level = 1 + np.sin(centers @ waves + rng.uniform(0, 2 * np.pi, n_genes))
    counts = sparse.csr_matrix(rng.poisson(_DEPTH * level).astype(np.float32))
    return Slide(
        counts=counts,
        genes=np.array([f"Gene{index:05d}" for index in range(n_genes)], dtype=object),
        spot_ids=np.array([f"spot{index}" for index in range(n_spots)], dtype=object),
        centers=centers,
        spot_diameter=0.55 * _PITCH_UM,
        unit="um",
    )


class _PeakMemory:
    """Watch this process's resident memory from a thread."""

    def __enter__(self) -> _PeakMemory:
        import psutil

        self._process = psutil.Process()
        self._start = self._peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_bytes(self) -> int:
        return self._peak - self._start

    def _watch(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(_SAMPLE_SECONDS)  # once more at the end, so that short jobs count
            self._peak = max(self._peak, self._process.memory_info().rss)
