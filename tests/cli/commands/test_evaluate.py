"""The options of ``evaluate`` for fine truth reach the evaluation, and bad ones are refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bins import bins_table
from PIL import Image

from napari_srast import api
from napari_srast.cli import main
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.io.convert.importer import import_slide


@pytest.fixture
def bins_path(tmp_path: Path) -> Path:
    table = bins_table(40, n_genes=4, depth=3)
    table.obsm["spatial_px"] = table.obsm["spatial"]
    table.write_h5ad(tmp_path / "bins.h5ad")
    Image.fromarray(np.full((80, 80, 3), 200, np.uint8)).save(tmp_path / "he.png")
    return tmp_path / "bins.h5ad"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Slide, UpsampleSettings]]:
    """Replace the model by a fast method; return the slides and settings of the runs."""
    runs = []

    def upsample(slide: Slide, *, settings: UpsampleSettings, **_: Any) -> UpsampleResult:
        runs.append((slide, settings))
        return api.upsample(slide, factor=settings.factor, method="bilinear")

    monkeypatch.setattr("napari_srast.evaluation.fine_truth.upsample", upsample)
    return runs


def evaluate(path: Path, *options: str) -> tuple[int, Path]:
    scores = path.parent / "scores.json"
    return main(["evaluate", str(path), "--pitch", "12", "--factor", "3", "--json", str(scores), *options]), scores


def test_discs_thinnings_and_genes_reach_the_report(
    bins_path: Path, seen: list[tuple[Slide, UpsampleSettings]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--spot-diameter", "7", "--lattice", "hexagon", "--thin", "2", "--genes", "3", "--mode", "sample"]
    status, scores = evaluate(bins_path, *options)
    assert status == 0
    values = json.loads(scores.read_text())
    assert {"spot_diameter": 7, "lattice": "hex", "thinnings": 2, "factor": 3}.items() <= values["settings"].items()
    assert values["n_genes"] == 3
    assert len(values["methods"]["srast"]["thinnings"]) == 2
    assert [settings.mode for _, settings in seen] == ["sample", "sample"]
    assert seen[0][0].spot_diameter == 7
    text = capsys.readouterr().out
    for word in ("composition", "stated", "achieved", "slide nats", "SSIM", "seam ratio", "thinning 2"):
        assert word in text


def test_image_is_a_file_or_an_element_of_a_store(bins_path: Path, seen: list[tuple[Slide, UpsampleSettings]]) -> None:
    image = bins_path.parent / "he.png"
    assert evaluate(bins_path, "--image", str(image))[0] == 0
    assert [slide.image is not None for slide, _ in seen] == [True, False]
    (bins_path.parent / "scores.json").unlink()
    store = import_slide(bins_path, bins_path.with_suffix(".zarr"), image=image)
    seen.clear()
    assert evaluate(store)[0] == 0
    assert [slide.image is not None for slide, _ in seen] == [True, False]
    (bins_path.parent / "scores.json").unlink()
    seen.clear()
    assert evaluate(store, "--image", "none")[0] == 0
    assert [slide.image is not None for slide, _ in seen] == [False]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--spot-diameter", "0"], "--spot-diameter"),
        (["--spot-diameter", "13"], "spot diameter is 13"),
        (["--image", "nothing.png"], "nothing.png"),
        (["--thin", "0"], "--thin"),
        (["--mode", "magic"], "magic"),
        (["--genes", "Gene9"], "Gene9"),
        (["--thin", "1", "--factor", "9"], "smaller factor"),
    ],
)
def test_bad_options_are_one_sentence(
    bins_path: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, scores = evaluate(bins_path, *options)
    assert status == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert not scores.exists()
