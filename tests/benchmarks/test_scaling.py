"""Benchmark: ratios to the reference method, and growth with the number of spots."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.benchmarks import scaling
from napari_srast.benchmarks.measurement import Measurement
from napari_srast.benchmarks.scaling import Benchmark, run_benchmark
from napari_srast.core.progress import Progress
from napari_srast.errors import Cancelled


def test_growth_is_the_exponent_over_spots(quadratic: Benchmark) -> None:
    assert quadratic.growth("srast") == pytest.approx(2)
    assert quadratic.growth("pycnophylactic") == pytest.approx(1)
    assert np.isnan(Benchmark(measurements=quadratic.measurements[:2], bytes_per_second=1e10).growth("srast"))


def test_growth_uses_the_first_device(quadratic: Benchmark, make_measurement: Callable[..., Measurement]) -> None:
    on_gpu = [make_measurement("srast", spots, 2.0, 60.0, device="cuda") for spots in (100, 200)]
    both = Benchmark(measurements=(*on_gpu, *quadratic.measurements), bytes_per_second=1e10)
    assert both.growth("srast") == pytest.approx(0)
    assert both.growth("pycnophylactic") == pytest.approx(1)


def test_ratios_compare_equal_jobs(quadratic: Benchmark) -> None:
    assert [ratio["seconds"] for ratio in quadratic.ratios()] == [2, 4, 10]
    assert [ratio["peak_mb"] for ratio in quadratic.ratios()] == [3, 80, 1]  # the reference counts as at least 1 MB


def test_cancellation_stops_before_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "measure_bandwidth", lambda: 1e10)
    steps: list[Progress] = []
    with pytest.raises(Cancelled):
        run_benchmark([100], genes=[10], factors=[2], progress=steps.append, should_stop=lambda: True)
    assert steps == []
