"""The command line: refusals, exit statuses, and complete runs."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import typer

from napari_srast import api
from napari_srast.benchmarks.measurement import BenchmarkCase, Measurement
from napari_srast.benchmarks.scaling import Benchmark
from napari_srast.cli import app, main
from napari_srast.cli.commands import upsample as cli_upsample
from napari_srast.cli.parsing import parse_genes
from napari_srast.core.mass_balance import max_relative_mass_error
from napari_srast.core.progress import Progress, ProgressCallback
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled, InputError

COMMANDS = tuple(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def table_path(tmp_path_factory: pytest.TempPathFactory, make_slide: Callable[..., Slide]) -> Path:
    """A small table of square bins, as an .h5ad file."""
    slide = make_slide(rows=5, cols=6, n_genes=5)
    table = anndata.AnnData(X=slide.counts, obsm={"spatial": slide.centers})
    table.var_names = list(slide.genes)
    table.obs_names = list(slide.spot_ids)
    path = tmp_path_factory.mktemp("table") / "small.h5ad"
    table.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def store(table_path: Path) -> Path:
    """The same as a SpatialData store, made by ``import``."""
    path = table_path.with_name("small.zarr")
    assert main(["import", str(table_path), "-o", str(path), "--spot-diameter", "100"]) == 0
    return path


def _refuse(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Run a command that exits with status 2 and one sentence on standard error; return the sentence."""
    capsys.readouterr()
    status = main(arguments)
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if not line.startswith("Note: ")]
    assert status == 2, output.err
    assert output.out == ""
    assert len(lines) == 1, output.err
    assert lines[0].startswith("napari-srast: ")
    assert "Traceback" not in output.err
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Example:\n    napari-srast {command}" in text


def test_help_lists_every_command_and_starts_fast() -> None:
    before = os.times()
    done = subprocess.run([sys.executable, "-m", "napari_srast", "--help"], capture_output=True, text=True, check=True)
    after = os.times()
    assert all(f"  {command} " in done.stdout for command in COMMANDS)
    # processor time does not depend on the load of the machine
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert seconds < 0.5


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from napari_srast import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"napari-srast {__version__}\n"


@pytest.mark.contract(
    section="Stores",
    case="no such path",
    response="There is no slide at '…'; check the path.",
)
@pytest.mark.contract(
    section="Stores",
    case="not a Zarr store, an .h5ad, a Space Ranger folder",
    response="not a SpatialData store; import it with …",
)
@pytest.mark.contract(
    section="Spots and transformations",
    case="unknown coordinate system",
    response="choose one of …",
)
@pytest.mark.contract(
    section="Requests",
    case="region off the tissue",
    response="encloses no spot; where the spots are",
)
@pytest.mark.contract(
    section="Outputs and system errors",
    case="output exists, or is inside the input, unknown ending, name too long",
    response="choose another name",
)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "nonsense"),
        (["upsample"], "SLIDE.zarr"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--seed", "x"], "--seed"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--wrong"], "--wrong"),
        (["upsample", "{missing}", "-o", "{out}.zarr"], "missing.zarr"),
        (["upsample", "{slide}", "-o", "{out}.parquet"], ".zarr, .h5ad, .csv"),
        (["upsample", "{slide}", "-o", "{slide}"], "exists already"),
        (["upsample", "{slide}", "-o", "{slide}/inside.zarr"], "inside the input"),
        (["upsample", "{slide}", "-o", "{nowhere}/out.zarr"], "does not exist"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--genes", "Gene0,Gene77"], "Gene77"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--genes", "Gene0,,Gene1"], "empty name"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--genes", "@nothing.txt"], "nothing.txt"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--region", "nothing.geojson"], "nothing.geojson"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--region", "POLYGON ((0 0, 1"], "well-known text"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--region", "POINT (0 0)"], "polygon"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--region", "POLYGON ((-9 -9, -8 -9, -8 -8, -9 -9))"], "no spot"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--factor", "1"], "factor is 1"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--factor", "2", "--pixel-size", "5"], "one of them"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--pixel-size", "-5"], "pixel size is -5"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--method", "magic"], "magic"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--mode", "magic"], "magic"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--footprint", "magic"], "magic"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--device", "magic"], "magic"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--draws", "0"], "draws is 0"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--dask", "magic://host:8786"], "--dask"),
        (["upsample", "{slide}", "{table}", "-o", "{out}.zarr"], "give a folder"),
        (["upsample", "{slide}", "{slide}", "-o", "{out}"], "Two slides are named 'small'"),
        (["upsample", "{slide}", "{missing}", "-o", "{out}"], "missing.zarr"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--spots", "magic"], "magic"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--table", "magic"], "magic"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--image", "magic"], "magic"),
        (["upsample", "{slide}", "-o", "{out}.zarr", "--coordinate-system", "magic"], "magic"),
        (["upsample", "{table}", "-o", "{out}.zarr"], "small.h5ad"),
        (["import", "{missing}", "-o", "{out}.zarr"], "missing.zarr"),
        (["import", "{table}", "-o", "{slide}"], "exists already"),
        (["import", "{table}", "-o", "{out}.h5ad"], ".zarr"),
        (["import", "{table}", "-o", "{out}.zarr", "--image", "nothing.jpg"], "nothing.jpg"),
        (["import", "{table}", "-o", "{out}.zarr", "--spot-diameter", "0"], "--spot-diameter"),
        (["import", "{table}", "-o", "{out}.zarr", "--pixel-size", "nan"], "--pixel-size"),
        (["evaluate", "{table}", "--pitch", "0"], "--pitch"),
        (["evaluate", "{table}", "--pitch", "9", "--factor", "1"], "--factor"),
        (["evaluate", "{table}", "--pitch", "9", "--lattice", "round"], "round"),
        (["evaluate", "{missing}", "--pitch", "9"], "missing.zarr"),
        (["evaluate", "{table}", "--pitch", "9", "--json", "{table}"], ".json"),
        (["evaluate", "{table}", "--pitch", "9", "--plots", "{table}"], "--plots"),
        (["train", "nothing.toml"], "nothing.toml"),
        (["bench", "--spots", "500,x"], "--spots"),
        (["bench", "--spots", "0"], "--spots"),
        (["info", "{missing}"], "missing.zarr"),
        (["info", "{table}"], "napari-srast import"),
        (["open", "{missing}"], "missing.zarr"),
        (["demo", "--out", "{table}"], "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_sentence(
    arguments: list[str], says: str, store: Path, table_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "slide": store,
        "table": table_path,
        "missing": tmp_path / "missing.zarr",
        "nowhere": tmp_path / "nowhere",
        "out": tmp_path / "out",
    }
    before = sorted(path.name for path in store.parent.iterdir())
    sentence = _refuse(capsys, [argument.format(**places) for argument in arguments])
    assert says in sentence
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.name for path in store.parent.iterdir()) == before


def test_gene_list_file_is_text_or_table(tmp_path: Path) -> None:
    plain, table = tmp_path / "genes.txt", tmp_path / "genes.csv"
    plain.write_text("# mine\nERBB2\n\nKRT19\n")
    table.write_text('\ufeffgene,score\n"ERBB2",0.5\nKRT19,0.1\n', encoding="utf-8")
    assert parse_genes(f"@{plain}") == parse_genes(f"@{table}") == ["ERBB2", "KRT19"]
    assert parse_genes("ERBB2, KRT19") == ["ERBB2", "KRT19"]
    assert parse_genes("all") is None


def test_empty_gene_list_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "genes.csv"
    path.write_text("gene,score\n")
    with pytest.raises(InputError, match="names no gene"):
        parse_genes(f"@{path}")


@pytest.mark.parametrize("ending", ["zarr", "h5ad", "csv"])
def test_upsample_conserves_counts_and_prints_a_summary(
    ending: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"out.{ending}"
    arguments = ["upsample", str(store), "-o", str(out), "--genes", "Gene0,Gene1", "--factor", "2", "--json"]
    assert main([*arguments, "--method", "bilinear"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["spots"], figures["pixels"], figures["genes"]) == (30, 120, 2)
    assert figures["max_relative_mass_error"] <= 1e-6
    assert figures["negative_pixels"] == 0
    assert set(figures["skill"]) == {"Gene0", "Gene1"}
    assert figures["output"] == str(out)
    assert out.exists()


def test_bad_slide_does_not_stop_the_others(
    store: Path, table_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.zarr"
    shutil.copytree(store, other)
    out = tmp_path / "all"
    arguments = ["upsample", str(store), str(other), "-o", str(out), "--genes", "Gene1", "--method", "bilinear"]
    assert main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [one["output"] for one in figures] == [str(out / "small.zarr"), str(out / "other.zarr")]
    assert all((out / name).is_dir() for name in ("small.zarr", "other.zarr"))
    assert main(arguments) == 2  # they are there already
    damaged = tmp_path / "damaged.zarr"
    damaged.mkdir()
    capsys.readouterr()
    assert main(["upsample", str(damaged), str(other), "-o", str(tmp_path / "more"), *arguments[5:]]) == 2
    assert "1 of 2 slides could not be upsampled" in capsys.readouterr().err
    assert (tmp_path / "more" / "other.zarr").is_dir()


def test_internal_error_in_one_slide_does_not_stop_the_others(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.zarr"
    shutil.copytree(store, other)
    plain = cli_upsample._upsample

    def faulty(slide: Path, *arguments: Any) -> dict[str, Any]:
        if slide == store:
            raise ZeroDivisionError("by zero")
        return plain(slide, *arguments)

    monkeypatch.setattr(cli_upsample, "_upsample", faulty)
    out = tmp_path / "all"
    arguments = ["upsample", str(store), str(other), "-o", str(out), "--genes", "Gene1", "--method", "bilinear"]
    assert main([*arguments, "--json"]) == 1
    messages = capsys.readouterr()
    assert [("error" in one, "output" in one) for one in json.loads(messages.out)] == [(True, False), (False, True)]
    assert "Unexpected ZeroDivisionError: by zero" in messages.err
    assert (out / "other.zarr").is_dir()


def test_interrupt_of_several_slides_reports_what_is_written(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    slides = [store, *(tmp_path / f"{name}.zarr" for name in "bc")]
    for other in slides[1:]:
        shutil.copytree(store, other)
    plain, begun = cli_upsample._upsample, []

    def slow(slide: Path, output: Path, request: Any, report: Any) -> dict[str, Any]:
        begun.append(slide)
        if slide == store:
            return plain(slide, output, request, report)
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
        deadline = time.monotonic() + 20
        while not request.should_stop():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise Cancelled

    monkeypatch.setattr(cli_upsample, "_upsample", slow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process may ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    arguments = [*map(str, slides), "-o", str(tmp_path / "all"), "--genes", "Gene1", "--method", "bilinear"]
    assert main(["upsample", *arguments]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "napari-srast: Stopped; 1 of 3 results are written."
    assert begun == slides[:2]


def test_region_is_geojson_or_wkt(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corners = [[-50, -50], [150, -50], [150, 150], [-50, 150], [-50, -50]]  # the first two rows and columns
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [corners]}}
    drawn = tmp_path / "region.geojson"
    drawn.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    text = "POLYGON ((" + ", ".join(f"{x} {y}" for x, y in corners) + "))"
    for index, region in enumerate((str(drawn), text)):
        out = tmp_path / f"{index}.h5ad"
        assert main(["upsample", str(store), "-o", str(out), "--region", region, "--method", "uniform", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["spots"] == 4


def test_info_describes_a_slide(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(store), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["usable"] is True
    assert (figures["n_spots"], figures["n_genes"], figures["lattice"]) == (30, 5, "square")
    assert main(["info", str(store)]) == 0
    assert "square" in capsys.readouterr().out


@pytest.mark.contract(
    section="Stores",
    case="a result instead of a slide",
    response="is a result of napari-srast …; open the slide …",
)
def test_info_recognizes_a_result(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fine.zarr"
    assert main(["upsample", str(store), "-o", str(out), "--method", "uniform", "--genes", "Gene0"]) == 0
    assert "nats per count" in capsys.readouterr().out
    assert main(["info", str(out)]) == 0
    text = capsys.readouterr().out
    assert "is a result of napari-srast" in text
    assert str(store) in text
    assert "n_spots" not in text
    assert "is a result of napari-srast" in _refuse(capsys, ["upsample", str(out), "-o", str(tmp_path / "x.zarr")])


def test_mass_error_detects_lost_and_added_counts(make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(rows=4, cols=4)
    result = api.upsample(slide, settings=UpsampleSettings(method="uniform"))
    assert max_relative_mass_error(result) <= 1e-6
    lost = dataclasses.replace(result, counts=(result.counts * 0.9).tocsr())
    assert max_relative_mass_error(lost) == pytest.approx(0.1, abs=1e-6)
    assert slide.counts[:, 2].nnz == 0
    made_up = result.counts.tolil()
    made_up[0, 2] = 1e-3
    assert max_relative_mass_error(dataclasses.replace(result, counts=made_up.tocsr())) == np.inf


def test_unexpected_error_names_the_debug_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("boom\nwith a second line")

    monkeypatch.setattr("napari_srast.cli.commands.info.run", fail)
    monkeypatch.delenv("NAPARI_SRAST_DEBUG", raising=False)
    assert main(["info", "x"]) == 1
    assert capsys.readouterr().err == (
        "napari-srast: Unexpected ValueError: boom with a second line; set NAPARI_SRAST_DEBUG=1 to see where.\n"
    )
    monkeypatch.setenv("NAPARI_SRAST_DEBUG", "1")
    with pytest.raises(ValueError, match="boom"):
        main(["info", "x"])


@pytest.mark.parametrize("stop", [Cancelled, KeyboardInterrupt])
def test_cancel_exits_with_status_1(
    stop: type[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr("napari_srast.cli.commands.info.run", interrupt)
    assert main(["info", "x"]) == 1
    assert capsys.readouterr().err == "napari-srast: Stopped; nothing was written.\n"


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'spatialdata_io'", name="spatialdata_io")

    monkeypatch.setattr("napari_srast.cli.commands.info.run", fail)
    assert main(["info", "x"]) == 1
    assert "pip install 'napari-srast[io]'" in capsys.readouterr().err


def test_open_without_a_display_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["open"]) == 1
    assert "No display" in capsys.readouterr().err


def test_demo_names_missing_virtual_display_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("NAPARI_SRAST_VIRTUAL_DISPLAY", raising=False)
    assert main(["demo", "--headless", "--out", str(tmp_path / "demo")]) == 1
    assert "apt-get install xvfb xauth" in capsys.readouterr().err


def test_demo_keeps_foreign_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, report = tmp_path / "overlay.png", tmp_path / "report.json"
    own.write_bytes(b"mine")
    assert "overlay.png" in _refuse(capsys, ["demo", "--headless", "--out", str(tmp_path)])
    for somebody_elses in ('{"spots": 3}', "[1]", "no JSON"):
        report.write_text(somebody_elses)
        assert "report.json" in _refuse(capsys, ["demo", "--headless", "--out", str(tmp_path)])
        assert report.read_text() == somebody_elses
    assert own.read_bytes() == b"mine"


@pytest.mark.slides
@pytest.mark.slow
def test_real_slide_from_table_to_result(slide_path: Callable[..., Path], tmp_path: Path) -> None:
    """Run in new processes, as users do; the terminal shows only the results."""
    table, picture = slide_path("st_human_breast_her2_c4"), slide_path("st_human_breast_her2_c4", "_he.jpg")
    slide, out = tmp_path / "slide.zarr", tmp_path / "out.zarr"
    _run("import", str(table), "--image", str(picture), "-o", str(slide))
    genes = "ERBB2,KRT19,COL1A1,CD74"
    done = _run("upsample", str(slide), "-o", str(out), "--factor", "4", "--genes", genes, "--method", "gp", "--json")
    figures = json.loads(done.stdout)
    assert figures["spots"] == 184
    assert figures["pixels"] >= 184 * 16
    assert list(figures["skill"]) == genes.split(",")
    assert figures["max_relative_mass_error"] <= 1e-6
    assert out.is_dir()


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-m", "napari_srast", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_evaluate_writes_every_method(table_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = tmp_path / "scores.json"
    assert main(["evaluate", str(table_path), "--pitch", "200", "--json", str(scores)]) == 0
    methods = json.loads(scores.read_text(encoding="utf-8"))["methods"]
    assert {"srast", "uniform", "gp", "pycnophylactic"} <= set(methods)
    assert "srast" in capsys.readouterr().out
    assert main(["evaluate", str(table_path), "--pitch", "200", "--json", str(scores)]) == 2


def test_train_describes_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("seed = 1")
    messages: list[Path] = []

    def train(path: Path, *, progress: ProgressCallback) -> str:
        messages.append(path)
        progress(Progress("all slides", 1, 2, 0.5, "loss 0.5"))
        return "default"

    monkeypatch.setattr("napari_srast.training.pipeline.train_from_recipe", train)
    assert main(["train", str(recipe), "--json"]) == 0
    assert messages == [recipe]
    assert len(json.loads(capsys.readouterr().out)["sha256"]) == 64


@pytest.mark.parametrize("kept", [True, False], ids=["with_finished_parts", "at_the_start"])
def test_stopped_train_says_what_is_kept(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "a"\ndata = "."\noutput = "a.safetensors"\nwork = "parts"\n'
        '[[slides]]\nfile = "a.h5ad"\nstudy = "a"\nresolution = "high"\nlicence = "own"'
    )
    parts = tmp_path / "parts"

    def train(*_: object, **__: object) -> None:
        parts.mkdir()
        if kept:
            (parts / "fold0.state").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_srast.training.pipeline.train_from_recipe", train)
    assert main(["train", str(recipe)]) == 1
    sentence = (
        f"what is finished is kept in '{parts}', and the same command resumes there."
        if kept
        else "nothing was written."
    )
    assert capsys.readouterr().err.splitlines()[-1] == f"napari-srast: Stopped; {sentence}"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_bench_prints_times_and_memory(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes: list[tuple[int, ...]] = []

    def bench(spots: tuple[int, ...], **_: object) -> Benchmark:
        sizes.append(spots)
        return Benchmark(
            measurements=tuple(
                Measurement(
                    case=BenchmarkCase(method=method, spots=7, genes=2),
                    pixels=28,
                    seconds=seconds,
                    cpu_seconds=seconds,
                    peak_mb=30.0,
                    process_mb=500.0,
                    floor_seconds=1e-3,
                )
                for method, seconds in (("srast", 6.0), ("pycnophylactic", 2.0))
            ),
            bytes_per_second=1e10,
        )

    monkeypatch.setattr("napari_srast.benchmarks.scaling.run_benchmark", bench)
    assert main(["bench", "--spots", "7,9", *options]) == 0
    assert sizes == [(7, 9)]
    printed = capsys.readouterr().out
    if options:
        assert json.loads(printed)["ratios_to_pycnophylactic"][0]["seconds"] == 3
    else:
        assert "pycnophylactic" in printed


def test_demo_prints_the_report_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The virtual display is replaced; the window has its own tests."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("NAPARI_SRAST_VIRTUAL_DISPLAY", raising=False)
    out = tmp_path / "demo"
    scores = {"srast": {"nats_per_count": 0.25}, "uniform": {"nats_per_count": 0.0}}

    def window(arguments: list[str]) -> int:
        assert arguments == ["demo", "--headless", "--out", str(out)]
        assert list(out.iterdir()) == []
        (out / "result.zarr").mkdir()
        (out / "report.json").write_text(
            json.dumps({"made_by": "napari-srast demo", "spots": 239, "seconds": {"total": 1.5}, "scores": scores})
        )
        return 0

    monkeypatch.setattr("napari_srast.cli.commands.demo.run_in_virtual_display", window)
    arguments = ["demo", "--headless", "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "239" in printed
    assert "nats per count" in printed
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == scores


def test_demo_of_the_measured_slide_is_forwarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("NAPARI_SRAST_VIRTUAL_DISPLAY", raising=False)
    arguments: list[str] = []
    monkeypatch.setattr(
        "napari_srast.cli.commands.demo.run_in_virtual_display", lambda words: arguments.extend(words) or 1
    )
    assert main(["demo", "--real", "--headless", "--out", str(tmp_path / "demo")]) == 1
    assert "--real" in arguments


def test_demo_forwards_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("NAPARI_SRAST_VIRTUAL_DISPLAY", raising=False)
    monkeypatch.setattr("napari_srast.cli.commands.demo.run_in_virtual_display", lambda _: 1)
    assert main(["demo", "--headless", "--out", str(tmp_path / "demo")]) == 1


def test_info_describes_and_clears_the_cache_of_prepared_slides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    from napari_srast.inference.fit_cache import FitCache

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path)
    cache = FitCache()
    cache.save(cache.file_name("a" * 32, "fit"), (np.zeros(1_000_000),))
    assert main(["info", "--cache", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures == {
        "folder": str(tmp_path / "prepared_slides"),
        "n_slides": 1,
        "megabytes": 8.0,
        "max_megabytes": 2000,
    }
    assert main(["info", "--clear-cache"]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    assert not cache.folder.exists()
    assert main(["info", "--cache", "slide.zarr"]) == 2
    assert "leave one of them out" in capsys.readouterr().err
    assert main(["info"]) == 2
    assert "--cache" in capsys.readouterr().err
