"""External methods: inputs that stand-ins of the packages receive, conversion of their outputs, and errors."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import shapely

from napari_srast.benchmarks import scaling as bench_module
from napari_srast.benchmarks.external import EXTERNAL_METHODS, require_external_methods, run_external_method
from napari_srast.benchmarks.measurement import BenchmarkCase, Measurement, measure
from napari_srast.benchmarks.plots import plot_benchmark
from napari_srast.benchmarks.scaling import REFERENCE_METHOD, Benchmark, run_benchmark
from napari_srast.benchmarks.synthetic_slide import simulate_slide
from napari_srast.cli import main
from napari_srast.core.slide import Slide
from napari_srast.errors import SettingsError
from napari_srast.geometry.raster import Raster, make_raster

Calls = list[dict[str, Any]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Return a function that replaces a package's module by a stand-in."""

    def put(name: str, **content: Any) -> ModuleType:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            module = ModuleType(".".join(parts[:depth]))
            monkeypatch.setitem(sys.modules, module.__name__, module)
        vars(module).update(content)
        return module

    return put


@pytest.fixture
def tesla_calls(fake: Callable[..., ModuleType]) -> Calls:
    """Stand in for TESLA: superpixels at multiples of ``res`` in a rectangle, whose values are their positions."""
    calls: Calls = []

    def imputation(**options: Any) -> Any:
        print("Total number of sudo points: many")  # noqa: T201 - as the package does
        calls.append(options)
        res, outline = options["res"], options["cnt"][:, 0]
        x, y = (
            grid.ravel() for grid in np.mgrid[res : options["img"].shape[0] : res, res : options["img"].shape[1] : res]
        )
        inside = shapely.contains_xy(shapely.Polygon(outline).buffer(res), y, x)
        order = np.random.default_rng(0).permutation(np.flatnonzero(inside))
        table = module.AnnData(np.zeros((len(order), len(options["genes"]))))
        table.obs = pd.DataFrame({"x": x[order], "y": y[order]})
        table.var = options["raw"].var
        assert list(table.obs.index) == list(range(table.shape[0]))  # TESLA indexes rows by number
        table.X[:, 0], table.X[:, 1] = x[order], y[order]
        return table

    module = fake("TESLA.imputation", imputation=imputation, AnnData=None)
    return calls


@pytest.fixture
def tobler_calls(fake: Callable[..., ModuleType]) -> Calls:
    """Stand in for tobler: spread each zone's value uniformly over its cells; NaN for zones without counts."""
    calls: Calls = []

    def pycno(gdf: Any, value_field: str, **options: Any) -> tuple[np.ndarray, None, None]:
        print("Maximum Change: some")  # noqa: T201 - as the package does
        calls.append({"zones": gdf.copy(), **options})
        left, bottom, right, top = gdf.total_bounds
        side = options["cellsize"]
        image = np.full((int((top - bottom) / side), int((right - left) / side)), np.nan)
        row, col = np.indices(image.shape)
        for zone, value in zip(gdf.geometry, gdf[value_field], strict=True):
            inside = shapely.contains_xy(zone, left + (col + 0.5) * side, top - (row + 0.5) * side)
            image[inside] = value / inside.sum() if value else np.nan
        return image, None, None

    fake("tobler.pycno.pycno", pycno=pycno)
    return calls


def _tilted(slide: Slide) -> Slide:
    turn = np.array([[np.cos(0.2), np.sin(0.2)], [-np.sin(0.2), np.cos(0.2)]])
    return Slide(
        counts=slide.counts, genes=slide.genes, spot_ids=slide.spot_ids, centers=slide.centers @ turn, spot_diameter=50
    )


@pytest.fixture(params=["hex", "tilted squares"])
def slide(request: pytest.FixtureRequest, make_slide: Callable[..., Slide]) -> Slide:
    return simulate_slide(23, 3, seed=1) if request.param == "hex" else _tilted(make_slide(rows=4, cols=7, n_genes=3))


def _raster(slide: Slide, factor: float) -> Raster:
    return make_raster(slide.centers, factor=factor, spot_diameter=slide.spot_diameter)


@pytest.mark.parametrize(("factor", "res"), [(2, 50), (3, 33), (8, 12)])
def test_tesla_superpixels_match_raster_pixels(slide: Slide, factor: int, res: int, tesla_calls: Calls) -> None:
    values = run_external_method("tesla", slide, factor)
    (call,) = tesla_calls
    raster = _raster(slide, factor)
    assert (call["res"], call["k"], call["num_nbs"], call["s"]) == (res, 2, 10, 1)
    assert values.shape == (raster.n_pixels, slide.n_genes)
    assert (values[:, 0] == (raster.row + 1) * res).all()  # TESLA calls rows x and columns y
    assert (values[:, 1] == (raster.col + 1) * res).all()


@pytest.mark.parametrize("factor", [2, 5])
def test_tesla_spots_match_their_pixels(slide: Slide, factor: int, tesla_calls: Calls) -> None:
    run_external_method("tesla", slide, factor)
    (call,) = tesla_calls
    raster, table, res = _raster(slide, factor), call["raw"], call["res"]
    position = table.obs[["pixel_x", "pixel_y"]].to_numpy()
    pixels = np.column_stack([raster.row + 1, raster.col + 1]) * res
    slack = np.linalg.norm(pixels - position[raster.parent], axis=1) / (res * factor)
    assert slack.max() < 0.8  # in pitches: the corner of a square cell is 0.71 away
    middles = raster.sum_to_spots(pixels) / raster.n_pixels_per_spot[:, None]
    assert np.abs(middles - position).max() < res
    assert (table.X == slide.counts.toarray()).all()
    assert list(table.var_names) == list(slide.genes) == call["genes"]


def test_tesla_image_is_a_gradient_over_all_pixels(slide: Slide, tesla_calls: Calls) -> None:
    run_external_method("tesla", slide, 2)
    (call,) = tesla_calls
    image, outline, res = call["img"], call["cnt"], call["res"]
    raster = _raster(slide, 2)
    assert image.dtype == np.uint8
    assert image.shape == ((raster.shape[0] + 1) * res, (raster.shape[1] + 1) * res, 3)
    assert (np.diff(image.astype(int), axis=0) >= 0).all()
    assert (np.diff(image.astype(int), axis=1) >= 0).all()
    assert image.std(axis=(0, 1)).min() > 10  # TESLA divides by the spread of the colors
    assert (outline.dtype, outline.shape[1:]) == (np.dtype(np.int32), (1, 2))
    within = shapely.Polygon(outline[:, 0])
    assert shapely.contains_xy(within, (raster.col + 1) * res, (raster.row + 1) * res).all()
    assert sys.modules["TESLA.imputation"].AnnData is None  # replaced during the call only


@pytest.mark.parametrize("factor", [2, 3])
def test_tobler_zones_match_raster_cells(slide: Slide, factor: int, tobler_calls: Calls) -> None:
    values = run_external_method("tobler", slide, factor)
    raster = _raster(slide, factor)
    counted = np.flatnonzero(slide.counts.toarray().sum(axis=0))  # tobler never ends on a gene without counts
    for gene, call in zip(counted, tobler_calls, strict=True):
        assert (call["zones"]["counts"] == slide.counts[:, [gene]].toarray().ravel()).all()
        assert (call["zones"].geometry.area == raster.n_pixels_per_spot).all()
        assert (call["cellsize"], call["r"], call["handle_null"]) == (1, 0.2, False)
    assert values.shape == (raster.n_pixels, slide.n_genes)
    assert np.isfinite(values).all()
    assert raster.sum_to_spots(values) == pytest.approx(slide.counts.toarray())
    shares = slide.counts.toarray() / raster.n_pixels_per_spot[:, None]
    assert values == pytest.approx(shares[raster.parent])


def test_external_methods_print_nothing(
    slide: Slide, tesla_calls: Calls, tobler_calls: Calls, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in EXTERNAL_METHODS:
        run_external_method(name, slide, 2)
    assert capfd.readouterr() == ("", "")


def test_external_job_is_measured(tobler_calls: Calls) -> None:
    done = measure(BenchmarkCase(method="tobler", spots=70, genes=2))
    assert len(tobler_calls) == 1 + 2  # one call warms up imports and caches
    assert done.pixels == _raster(simulate_slide(70, 2), 2).n_pixels
    assert done.seconds > 0
    assert done.process_mb > done.peak_mb >= 0
    assert (done.floor_seconds, done.write_seconds, done.region_seconds, done.stages) == (None, None, None, {})


@pytest.mark.parametrize(("name", "command"), [("tesla", "--no-deps TESLAforST"), ("tobler", "pip install tobler")])
def test_missing_package_names_the_install_command(name: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = EXTERNAL_METHODS[name].module
    for key in [key for key in sys.modules if key.partition(".")[0] == module.partition(".")[0]]:
        monkeypatch.delitem(sys.modules, key)
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    with pytest.raises(SettingsError, match=command) as refused:
        require_external_methods([name])
    assert f"'{name}'" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    with mock.patch.object(bench_module, "measure_bandwidth", side_effect=AssertionError("nothing may be measured")):
        with pytest.raises(SettingsError, match=command):
            run_benchmark([64], genes=[1], factors=[2], peers=[name])


def test_unknown_method_lists_the_choices(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)
    for names in ("telsa", "", "tobler,telsa"):
        with mock.patch("napari_srast.benchmarks.external.importlib.import_module"):
            assert main(["bench", "--peers", names]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "choose among: tesla, tobler" in printed.err
        assert len(printed.err.strip().splitlines()) == 1


def _measurement(method: str, spots: int, seconds: float, floor: float | None = None) -> Measurement:
    return Measurement(
        case=BenchmarkCase(method=method, spots=spots, genes=20),
        pixels=4 * spots,
        seconds=seconds,
        cpu_seconds=seconds,
        peak_mb=10.0,
        process_mb=500.0,
        floor_seconds=floor,
    )


@pytest.fixture
def with_external() -> Benchmark:
    return Benchmark(
        measurements=tuple(
            one
            for spots in (100, 200)
            for one in (
                _measurement("srast", spots, 2.0, 1e-3),
                _measurement(REFERENCE_METHOD, spots, 0.5, 1e-3),
                _measurement("tesla", spots, spots**2 / 1e4),
            )
        ),
        bytes_per_second=1e10,
    )


def test_external_methods_are_compared_with_interpolation(with_external: Benchmark) -> None:
    figures = with_external.to_dict()
    ratios = {(one["method"], one["spots"]): one["seconds"] for one in figures["ratios_to_pycnophylactic"]}
    assert ratios == {("srast", 100): 4, ("tesla", 100): 2, ("srast", 200): 4, ("tesla", 200): 8}
    assert figures["seconds_grow_as_spots_to_the"]["tesla"] == pytest.approx(2)
    assert set(figures["seconds_grow_as_spots_to_the"]) == {"srast", REFERENCE_METHOD, "tesla"}


def test_each_external_method_has_its_own_line(with_external: Benchmark, tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    with mock.patch.object(Axes, "plot", autospec=True, side_effect=Axes.plot) as plot:
        plot_benchmark(with_external, tmp_path)
    drawn = {call.kwargs["label"]: list(call.args[2]) for call in reversed(plot.call_args_list)}
    assert drawn["tesla"] == [1.0, 4.0]
    assert drawn["bytes in and out at memory bandwidth"] == [1e-3, 1e-3]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_bench_passes_external_methods(
    options: list[str], with_external: Benchmark, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)
    with mock.patch.object(bench_module, "run_benchmark", return_value=with_external) as run:
        assert main(["bench", "--peers", "tesla, tobler", *options]) == 0
        assert run.call_args.kwargs["peers"] == ("tesla", "tobler")
        assert main(["bench", *options]) == 0
        assert run.call_args.kwargs["peers"] == ()
    printed = capsys.readouterr().out
    if options:
        first, _ = json.JSONDecoder().raw_decode(printed)
        assert first["measurements"][2]["floor_seconds"] is None
    else:
        assert "tesla" in printed


def test_external_jobs_follow_the_models() -> None:
    cases = bench_module._list_cases([100, 200], [20], [2, 4], (1, 2), ("cpu",), ("tobler",))
    jobs = [(case.spots, case.factor) for case in cases if case.method == "tobler"]
    assert jobs == [(100, 2), (200, 2), (100, 4)]
    assert [case.method for case in cases[:3]] == ["srast", REFERENCE_METHOD, "tobler"]


@pytest.mark.parametrize("name", list(EXTERNAL_METHODS))
def test_real_package_runs(name: str) -> None:
    try:
        importlib.import_module(EXTERNAL_METHODS[name].module)
    except ImportError:
        pytest.skip("not a dependency")
    slide = simulate_slide(60, 2, seed=3)
    values = run_external_method(name, slide, 2)
    raster = _raster(slide, 2)
    counts = slide.counts.toarray()
    assert values.shape == (raster.n_pixels, 2)
    assert values.min() >= 0
    sums = raster.sum_to_spots(values)
    if name == "tobler":  # conserves the counts of nonempty spots
        assert sums[counts > 0] == pytest.approx(counts[counts > 0])
    means = sums / raster.n_pixels_per_spot[:, None]
    assert np.corrcoef(means.ravel(), counts.ravel())[0, 1] > 0.8
