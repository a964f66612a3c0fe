"""Plots show the sizes that were varied, with one line per device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from napari_srast.benchmarks.measurement import Measurement
from napari_srast.benchmarks.plots import plot_benchmark
from napari_srast.benchmarks.scaling import Benchmark


def test_plots_show_varied_sizes(quadratic: Benchmark, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert [path.name for path in plot_benchmark(quadratic, tmp_path / "plots")] == [
        "bench_spots.png",
        "bench_genes.png",
    ]
    assert (tmp_path / "plots" / "bench_spots.png").stat().st_size > 5000


def test_each_device_has_its_own_line(
    quadratic: Benchmark, make_measurement: Callable[..., Measurement], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    on_gpu = [make_measurement("srast", spots, 0.1, 60.0, device="cuda") for spots in (100, 200)]
    drawn: list[tuple[str, list[float]]] = []
    plot = Axes.plot

    def draw(axes, x, y, *style, **options):  # type: ignore[no-untyped-def]
        drawn.append((options.get("label", ""), list(y)))
        return plot(axes, x, y, *style, **options)

    with mock.patch.object(Axes, "plot", draw):
        plot_benchmark(Benchmark(measurements=(*on_gpu, *quadratic.measurements), bytes_per_second=1e10), tmp_path)
    spots = dict(drawn[::-1])  # the first of each: seconds against spots
    assert spots["srast on cuda"] == [0.1, 0.1]
    assert spots["srast"] == [1.0, 4.0]
    assert spots["pycnophylactic"] == [0.5, 1.0]
    assert "bytes in and out at memory bandwidth" in spots
