"""Fixtures of the benchmark tests: measurements without running anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from napari_srast.benchmarks.measurement import BenchmarkCase, Measurement
from napari_srast.benchmarks.scaling import Benchmark


def _measurement(
    method: str, spots: int, seconds: float, peak_mb: float, genes: int = 10, device: str = "cpu"
) -> Measurement:
    return Measurement(
        case=BenchmarkCase(method=method, spots=spots, genes=genes, device=device),
        pixels=4 * spots,
        seconds=seconds,
        cpu_seconds=seconds,
        peak_mb=peak_mb,
        process_mb=peak_mb + 500,
        floor_seconds=1e-3,
    )


@pytest.fixture
def make_measurement() -> Callable[..., Measurement]:
    """Return a function that makes measurements from their main numbers."""
    return _measurement


@pytest.fixture
def quadratic() -> Benchmark:
    """The model's time grows with the square of the spots, the reference's time linearly."""
    return Benchmark(
        measurements=(
            _measurement("srast", 100, 1.0, 60.0),
            _measurement("pycnophylactic", 100, 0.5, 20.0),
            _measurement("srast", 200, 4.0, 80.0),
            _measurement("pycnophylactic", 200, 1.0, 0.0),
            _measurement("srast", 100, 50.0, 1.0, genes=99),
            _measurement("pycnophylactic", 100, 5.0, 1.0, genes=99),
        ),
        bytes_per_second=1e10,
    )
