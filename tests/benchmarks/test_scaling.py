"""Benchmark: simulated slides, single measurements, ratios and growth."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from napari_srast.benchmarks.measurement import BenchmarkCase, Measurement, measure, measure_bandwidth
from napari_srast.benchmarks.plots import plot_benchmark
from napari_srast.benchmarks.scaling import Benchmark
from napari_srast.benchmarks.synthetic_slide import simulate_slide
from napari_srast.geometry.lattice import detect_lattice


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


def test_growth_is_the_exponent_over_spots(quadratic: Benchmark) -> None:
    assert quadratic.growth("srast") == pytest.approx(2)
    assert quadratic.growth("pycnophylactic") == pytest.approx(1)
    assert np.isnan(Benchmark(measurements=quadratic.measurements[:2], bytes_per_second=1e10).growth("srast"))


def test_growth_uses_the_first_device(quadratic: Benchmark) -> None:
    on_gpu = [_measurement("srast", spots, 2.0, 60.0, device="cuda") for spots in (100, 200)]
    both = Benchmark(measurements=(*on_gpu, *quadratic.measurements), bytes_per_second=1e10)
    assert both.growth("srast") == pytest.approx(0)
    assert both.growth("pycnophylactic") == pytest.approx(1)


def test_ratios_compare_equal_jobs(quadratic: Benchmark) -> None:
    assert [ratio["seconds"] for ratio in quadratic.ratios()] == [2, 4, 10]
    assert [ratio["peak_mb"] for ratio in quadratic.ratios()] == [3, 80, 1]  # the reference counts as at least 1 MB


def test_simulated_slide_is_hexagonal_and_repeats() -> None:
    slide = simulate_slide(50, 7, seed=3)
    assert slide.counts.shape == (50, 7)
    lattice = detect_lattice(slide.centers)
    assert lattice.kind == "hex"
    assert lattice.pitch == pytest.approx(100)
    assert (slide.counts != simulate_slide(50, 7, seed=3).counts).nnz == 0


def test_large_panels_are_as_sparse_as_visium() -> None:
    counts = simulate_slide(50, 4000).counts
    assert counts.sum() / 50 == pytest.approx(5000, rel=0.1)
    assert counts.nnz / np.prod(counts.shape) < 0.5


def test_measure_reports_time_and_memory() -> None:
    done = measure(BenchmarkCase(method="pycnophylactic", spots=100, genes=5, workers=1), bytes_per_second=1e9)
    assert (done.case.spots, done.case.genes) == (100, 5)
    assert done.pixels > 300
    assert 0 < done.floor_seconds < done.seconds
    assert "split" in done.stages
    assert done.process_mb > done.peak_mb >= 0
    assert done.device_mb is None


def test_bandwidth_is_plausible() -> None:
    assert 1e8 < measure_bandwidth() < 1e13


def test_plots_show_varied_sizes(quadratic: Benchmark, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert [path.name for path in plot_benchmark(quadratic, tmp_path / "plots")] == [
        "bench_spots.png",
        "bench_genes.png",
    ]
    assert (tmp_path / "plots" / "bench_spots.png").stat().st_size > 5000


def test_each_device_has_its_own_line(quadratic: Benchmark, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    on_gpu = [_measurement("srast", spots, 0.1, 60.0, device="cuda") for spots in (100, 200)]
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
