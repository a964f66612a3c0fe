"""The command ``export``: its outputs, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import tifffile
from helpers.results import make_result
from helpers.slides import make_slide

from napari_srast.cli import main
from napari_srast.io.result_writer import write_result


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of four genes."""
    return write_result(make_result(), tmp_path_factory.mktemp("result") / "fine.zarr")


@pytest.mark.parametrize(("option", "channels"), [([], 4), (["--genes", "Gene1,Gene2"], 2), (["--genes", "all"], 4)])
def test_genes_become_channels(result: Path, tmp_path: Path, option: list[str], channels: int) -> None:
    assert main(["export", str(result), str(tmp_path / "fine.ome.tif"), *option]) == 0
    assert tifffile.imread(tmp_path / "fine.ome.tif").shape[0] == channels


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--help"]) == 0
    assert "Example:\n    napari-srast export" in capsys.readouterr().out


def test_an_image_of_a_slide_without_micrometers_is_written_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = write_result(make_result(make_slide(5, 6, n_genes=1, unit="unknown")), tmp_path / "fine.h5ad")
    assert main(["export", str(stored), str(tmp_path / "fine.ome.tif")]) == 0
    assert "does not state the size of a pixel" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.zarr", "x.ome.tif"], "no result at"),
        (["RESULT", "x.tif"], "no known ending"),
        (["RESULT", "x.ome.tif", "--genes", "Nothing"], "no gene 'Nothing'"),
        (["RESULT", "x.ome.tif", "--layer", "rates"], "must be one of"),
        (["RESULT", "x.geojson", "--objects", "region"], "has no region"),
        (["RESULT", "x.ome.tif", "--run", "other"], "holds no run 'other'"),
    ],
)
def test_wrong_requests_are_refused_in_one_sentence(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    source, output, *options = arguments
    status = main(["export", source.replace("RESULT", str(result)), str(tmp_path / output), *options])
    lines = capsys.readouterr().err.splitlines()
    assert status == 2
    assert len(lines) == 1
    assert message in lines[0]
    assert not list(tmp_path.iterdir())
