"""Benchmark run time and memory against spots, genes, factor, concurrent tiles and devices.

Pycnophylactic interpolation runs the same jobs as a reference, and so can published packages
(:mod:`napari_srast.benchmarks.external`).

Each measurement runs in its own process, so the memory and caches of one do not affect the next. Compare the ratios:
they carry over to other computers, seconds do not.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from napari_srast.benchmarks.external import EXTERNAL_METHODS, require_external_methods
from napari_srast.benchmarks.measurement import BenchmarkCase, Measurement, measure, measure_bandwidth
from napari_srast.core.progress import CancelCheck, ProgressCallback, RunMonitor

__all__ = ["REFERENCE_METHOD", "Benchmark", "run_benchmark"]

REFERENCE_METHOD = "pycnophylactic"
"""Interpolation that all ratios refer to."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """All measurements of a benchmark.

    Parameters
    ----------
    measurements
        One for each job.
    bytes_per_second
        Memory bandwidth from which the physical floors are computed.
    """

    measurements: tuple[Measurement, ...]
    bytes_per_second: float

    def ratios(self) -> list[dict[str, Any]]:
        """Return the seconds and memory of each other method's jobs relative to the reference method."""
        reference = {_size(one.case): one for one in self.measurements if one.case.method == REFERENCE_METHOD}
        ratios = []
        for one in self.measurements:
            if one.case.method == REFERENCE_METHOD or _size(one.case) not in reference:
                continue
            other = reference[_size(one.case)]
            ratios.append(
                {
                    **asdict(one.case),
                    "pixels": one.pixels,
                    "seconds": one.seconds / other.seconds,
                    "cpu_seconds": one.cpu_seconds / other.cpu_seconds,
                    "peak_mb": one.peak_mb / max(other.peak_mb, 1.0),
                }
            )
        return ratios

    def growth(self, method: str) -> float:
        """Return the exponent b of seconds ~ spots^b over the sweep of spots; NaN with fewer than two sizes."""
        of_method = [one for one in self.measurements if one.case.method == method]
        sweep = {
            one.case.spots: one.seconds
            for one in of_method
            if replace(one.case, spots=of_method[0].case.spots) == of_method[0].case
        }
        if len(sweep) < 2:
            return float("nan")
        logs = np.log(np.array(list(sweep.items()), dtype=float))
        return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])

    def to_dict(self) -> dict[str, Any]:
        """Return all measurements and ratios as plain values."""
        external = dict.fromkeys(one.case.method for one in self.measurements if one.case.method in EXTERNAL_METHODS)
        return {
            "measurements": [_to_flat_dict(one) for one in self.measurements],
            "bytes_per_second": self.bytes_per_second,
            "ratios_to_pycnophylactic": self.ratios(),
            "seconds_grow_as_spots_to_the": {
                method: self.growth(method) for method in ("srast", REFERENCE_METHOD, *external)
            },
        }


def run_benchmark(
    spots: Sequence[int] = (500, 1000, 2000),
    *,
    genes: Sequence[int] = (200, 50, 800),
    factors: Sequence[float] = (2, 4),
    workers: Sequence[int] = (),
    devices: Sequence[str] = ("cpu",),
    peer: bool = True,
    peers: Sequence[str] = (),
    seed: int = 0,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> Benchmark:
    """Measure a sweep over each of spots, genes, factors, workers and devices, with the others at their first value.

    Parameters
    ----------
    spots, genes, factors
        Sizes to measure. Sweeps of genes and factors use the smallest number of spots.
    workers
        Numbers of concurrent tiles, measured on the largest number of spots.
    devices
        Devices of the model. Interpolations run on the CPU.
    peer
        Whether pycnophylactic interpolation runs the same jobs.
    peers
        External methods that run the same jobs, keys of :data:`napari_srast.benchmarks.external.EXTERNAL_METHODS`.
    seed
        Random seed of the simulated slides.
    progress
        Called after each measurement.
    should_stop
        Returns True once the benchmark should end; the current measurement is completed.

    Raises
    ------
    SettingsError
        An external method is unknown or not installed.
    Cancelled
        ``should_stop`` returned True.
    """
    require_external_methods(peers)
    cases = _list_cases(sorted(set(spots)), genes, factors, workers, devices, peers)
    if not peer:
        cases = [case for case in cases if case.method != REFERENCE_METHOD]
    bytes_per_second = measure_bandwidth()
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    measurements = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context, max_tasks_per_child=1) as processes:
        for index, case in enumerate(cases, start=1):
            monitor.check_canceled()
            measurements.append(processes.submit(measure, case, seed, bytes_per_second).result())
            monitor.report(f"{case.method}, {case.spots} spots, {case.genes} genes", index, len(cases))
    return Benchmark(measurements=tuple(measurements), bytes_per_second=bytes_per_second)


def _list_cases(
    sizes: Sequence[int],
    genes: Sequence[int],
    factors: Sequence[float],
    workers: Sequence[int],
    devices: Sequence[str],
    external: Sequence[str] = (),
) -> list[BenchmarkCase]:
    """List the model's jobs, each followed by the same job of interpolation and of the external methods."""
    first = BenchmarkCase(method="srast", spots=sizes[0], genes=genes[0], factor=factors[0], device=devices[0])
    models = [replace(first, spots=n) for n in sizes]
    models += [replace(first, genes=n) for n in genes[1:]]
    models += [replace(first, factor=factor) for factor in factors[1:]]
    models += [replace(first, spots=sizes[-1], workers=n) for n in workers]
    models += [replace(first, spots=n, device=device) for device in devices[1:] for n in sizes]
    others = (REFERENCE_METHOD, *external)
    groups = [[case, *(replace(case, method=name, device="cpu", workers=None) for name in others)] for case in models]
    return list(dict.fromkeys(case for group in groups for case in group))


def _size(case: BenchmarkCase) -> tuple[int, int, float]:
    return case.spots, case.genes, case.factor


def _to_flat_dict(one: Measurement) -> dict[str, Any]:
    values = asdict(one)
    return {**values.pop("case"), **values, "first_region_seconds": one.first_region_seconds}
