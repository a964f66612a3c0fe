"""Measurements: run time and memory of one job, and the memory bandwidth."""

from __future__ import annotations

import pytest

from napari_srast import api
from napari_srast.benchmarks.measurement import BenchmarkCase, measure, measure_bandwidth
from napari_srast.core.settings import UpsampleSettings


def test_measure_reports_time_and_memory() -> None:
    done = measure(BenchmarkCase(method="pycnophylactic", spots=100, genes=5, workers=1), bytes_per_second=1e9)
    assert (done.case.spots, done.case.genes) == (100, 5)
    assert done.pixels > 300
    assert 0 < done.floor_seconds < done.seconds
    assert "split" in done.stages
    assert done.process_mb > done.peak_mb >= 0
    assert done.device_mb is None


def test_interpolation_is_measured_without_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[UpsampleSettings] = []
    run = api.upsample_to_store

    def record(*args, settings: UpsampleSettings, **options):
        used.append(settings)
        return run(*args, settings=settings, **options)

    monkeypatch.setattr(api, "upsample_to_store", record)
    measure(BenchmarkCase(method="pycnophylactic", spots=100, genes=5, workers=1))
    assert {settings.expression for settings in used} == {"none"}


def test_bandwidth_is_plausible() -> None:
    assert 1e8 < measure_bandwidth() < 1e13
