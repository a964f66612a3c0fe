"""The commands of the analysis: ``domains``, ``signatures``, ``cells``, ``compare``, ``structure`` and others."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pandas as pd
import pytest
import spatialdata
from helpers.planted import planted_slide
from helpers.results import make_result
from helpers.slides import make_store

from napari_srast.analysis.structure import colocalization
from napari_srast.cli import main
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide


@pytest.fixture
def result(tmp_path: Path) -> Path:
    pytest.importorskip("igraph")
    pytest.importorskip("scanpy")
    return write_result(make_result(planted_slide(n=8), method="gp"), tmp_path / "fine.zarr", include_image=False)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    make_store(planted_slide(n=8), "squares").write(tmp_path / "slide.zarr")
    return tmp_path / "slide.zarr"


def test_domains_are_added_and_their_markers_written(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["domains", str(result), "--n-domains", "3", "-o", str(tmp_path / "markers.csv")]) == 0
    printed = capsys.readouterr()
    assert "domain" in printed.out
    assert "same counts" in printed.err
    table = next(iter(spatialdata.read_zarr(result).tables.values()))
    assert list(table.obs["domains"].cat.categories) == ["1", "2", "3"]
    markers = pd.read_csv(tmp_path / "markers.csv")
    assert len(markers) == 3 * 40
    assert main(["domains", str(result)]) == 2
    assert "already holds 'domains'" in capsys.readouterr().err
    assert main(["domains", str(result), "--resolution", "0.5", "--seed", "1", "--name", "other"]) == 0


def test_saved_domains_are_merged_and_renamed(result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["domains", str(result), "--n-domains", "3"]) == 0
    changes = ["--merge", "1,3", "--rename", "2=stroma", "--name", "named", "-o", str(tmp_path / "markers.csv")]
    assert main(["domains", str(result), "--from", "domains", *changes]) == 0
    obs = next(iter(spatialdata.read_zarr(result).tables.values())).obs
    assert list(obs["named"].cat.categories) == ["1", "stroma"]
    assert (obs["named"] == obs["domains"].map({"1": "1", "2": "stroma", "3": "1"})).all()
    assert set(pd.read_csv(tmp_path / "markers.csv")["domain"]) == {"1", "stroma"}
    capsys.readouterr()
    for options, message in (
        (["--from", "other", "--merge", "1,2"], "no domains 'other'; it has 'domains', 'named'"),
        (["--from", "domains", "--merge", "1,9"], "There is no domain '9'"),
        (["--from", "domains", "--rename", "1"], "write --rename OLD=NEW"),
        (["--from", "domains"], "name changes with --merge A,B or --rename OLD=NEW"),
        (["--from", "domains", "--merge", "1,2", "--n-domains", "3"], "leave them out"),
    ):
        assert main(["domains", str(result), *options, "--name", "x"]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.contract(
    section="Outputs and system errors",
    case="table of markers that cannot be written",
    response="one sentence; the domains are not added to the result",
)
def test_domains_are_not_stored_if_their_markers_cannot_be_written(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full_disk:
        full_disk.setattr(pd.DataFrame, "to_csv", refuse)
        assert main(["domains", str(result), "--n-domains", "3", "-o", str(tmp_path / "markers.csv")]) == 2
    assert "markers.csv" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine.zarr"]
    table = next(iter(spatialdata.read_zarr(result).tables.values()))
    assert "domains" not in table.obs


def test_signatures_are_written_for_each_pixel(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sets.gmt").write_text("A\tx\tG3\tG5\tNothing\n")
    assert main(["signatures", str(result), str(tmp_path / "sets.gmt"), "-o", str(tmp_path / "scores.csv")]) == 0
    assert "without Nothing" in capsys.readouterr().err
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert list(scores) == ["pixel", "x", "y", "spot", "score:A"]
    assert len(scores) == 8 * 8 * 4
    assert main(["signatures", str(result), "B: G1, G2"]) == 0
    assert "B" in capsys.readouterr().out


def test_cells_are_added_to_the_result_or_written_to_a_file(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    square = {"type": "Polygon", "coordinates": [[[120, 120], [180, 120], [180, 180], [120, 180], [120, 120]]]}
    nuclei = tmp_path / "nuclei.geojson"
    nuclei.write_text(json.dumps({"type": "Feature", "geometry": square, "properties": {"cell_id": 3}}))
    assert main(["cells", str(result), "--cells", str(nuclei), "--name", "nuclei"]) == 0
    assert "spots per cell (median)" in capsys.readouterr().out
    tables = spatialdata.read_zarr(result).tables
    assert tables[next(name for name in tables if name.endswith("nuclei_table"))].obs["instance_id"].tolist() == [3]
    assert main(["cells", str(result), "--cells", str(nuclei), "-o", str(tmp_path / "cells.csv")]) == 0
    frame = pd.read_csv(tmp_path / "cells.csv")
    assert frame["kind"].tolist() == ["cell"] + ["outside"] * 64
    expected = planted_slide(n=8).counts.toarray().sum(axis=0)
    assert frame[[f"G{i}" for i in range(40)]].sum().to_numpy() == pytest.approx(expected, rel=1e-6)


def test_regions_are_compared_on_the_spots_of_the_slide(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = ["--plot", str(tmp_path / "changes.svg")]
    half = "upper=POLYGON ((-100 -100, 900 -100, 900 400, -100 400, -100 -100))"
    assert main(["compare", str(slide), half, "--block", "1", "-o", str(tmp_path / "changes.csv"), *plot]) == 0
    assert "upper: 32 spots in 32 blocks; rest: 32 spots in 32 blocks" in capsys.readouterr().err
    assert "standard error" in (tmp_path / "changes.svg").read_text(encoding="utf-8")
    assert main(["compare", str(slide), half, "--block", "1", "--plot", str(tmp_path / "changes.gif")]) == 2
    assert ".svg" in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "changes.csv")
    estimates = ["log2_fold_change", "low", "high", "standard_error"]
    assert list(table) == ["gene", *estimates, "per_10000_upper", "per_10000_rest"]
    assert (table["low"] <= table["log2_fold_change"]).all()
    assert main(["compare", str(slide), half]) == 2
    assert "too few for intervals" in capsys.readouterr().err


def test_genes_are_tested_for_structure(slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["structure", str(slide), "--genes", "G1,G2,G3", "-o", str(tmp_path / "structure.csv")]) == 0
    assert "of 3 genes have q at most 0.05" in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "structure.csv")
    assert list(table) == ["gene", "moran_i", "p", "q"]
    assert set(table["gene"]) == {"G1", "G2", "G3"}


def test_pairs_of_genes_are_compared(slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "pairs.csv"
    assert main(["colocalization", str(slide), "G1,G2,G3", "--block", "2", "-o", str(output)]) == 0
    assert "A spot mixes several cells" in capsys.readouterr().err
    table = pd.read_csv(output)
    assert list(table) == ["gene_a", "gene_b", "correlation", "low", "high"]
    assert len(table) == 3
    expected = colocalization(read_slide(slide), ["G1", "G2", "G3"], block=2)
    pd.testing.assert_frame_equal(table, expected, check_exact=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["domains", "missing.zarr"], "no result at"),
        (["domains", "RESULT", "--n-domains", "3", "--resolution", "1"], "leave one of them out"),
        (["domains", "RESULT", "-o", "x.txt"], "no known ending"),
        (["domains", "RESULT", "--name", "a b"], "is not a name"),
        (["domains", "RESULT", "--genes", "Nothing"], "no gene 'Nothing'"),
        (["signatures", "RESULT", "missing.gmt"], "no file of gene sets"),
        (["structure", "SLIDE", "--permutations", "3"], "must be at least 19"),
        (["structure", "missing.zarr"], "no slide at 'missing.zarr'"),
        (["colocalization", "SLIDE", "G1"], "needs at least two genes"),
        (["colocalization", "SLIDE", "all"], "All genes of a slide have too many pairs"),
        (["colocalization", "SLIDE", "G1,Nothing"], "no gene 'Nothing'"),
        (["compare", "SLIDE", "tumor.geojson"], "write NAME=FILE.geojson"),
        (["compare", "SLIDE", "a=missing.geojson"], "'missing.geojson' cannot be read"),
        (["cells", "RESULT", "--cells", "nuclei"], "no labels or shapes 'nuclei'"),
        (["cells", "RESULT", "--cells", "nuclei", "--slide", "missing.zarr"], "no slide at 'missing.zarr'"),
        (["cells", "RESULT", "--cells", "nuclei", "-o", "cells.txt"], "no known ending"),
        (["signatures", "RESULT", "A: Nothing"], "no expression of any gene of 'A'"),
        (["signatures", "RESULT", "A:"], "has no name or no gene"),
    ],
)
def test_wrong_requests_are_refused_in_one_sentence(
    result: Path,
    slide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([{"RESULT": str(result), "SLIDE": str(slide)}.get(part, part) for part in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["domains", "signatures", "cells", "compare", "structure", "colocalization"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Example:\n    napari-srast {command}" in capsys.readouterr().out
