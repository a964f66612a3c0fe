"""Tables and plot of an evaluation on fine truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from napari_srast.evaluation.fine_report import fine_tables, write_fine_plots
from napari_srast.evaluation.fine_scores import MapScores
from napari_srast.evaluation.fine_truth import FineEvaluation
from napari_srast.evaluation.report import write_json


def scores(nats: float, **known: float) -> MapScores:
    names = [name for name in MapScores.__dataclass_fields__ if not name.startswith("gene_")]
    values = dict.fromkeys(names, np.nan) | {"nats_per_count": nats, "totals": 0.25 * nats, "composition": 0.75 * nats}
    values |= known
    genes = [name for name in MapScores.__dataclass_fields__ if name.startswith("gene_")]
    return MapScores(**values, **dict.fromkeys(genes, np.full(2, nats)))


@pytest.fixture
def evaluation() -> FineEvaluation:
    settings = {"spot_diameter": 55.0, "pitch": 96.0, "pixel_size": 16.0, "truth": "whole bins"}
    return FineEvaluation(
        name="kidney",
        genes=np.array(["A", "B"]),
        scores={"srast": [scores(0.1111), scores(0.1333)], "gp": [scores(0.4), scores(0.5)]},
        truth=[{"pcc_ceiling": 0.61, "ssim_other_half": 0.2, "seam_ratio": 1.01}] * 2,
        settings=settings,
        n_spots=7,
        n_pixels=99,
    )


def test_tables_list_mean_and_thinnings_with_the_best_method_first(evaluation: FineEvaluation) -> None:
    console = Console(width=200, record=True, force_terminal=False)
    with console.capture() as capture:
        for table in fine_tables(evaluation):
            console.print(table)
    text = capture.get()
    assert text.index("gp") < text.index("srast")
    for expected in ("0.1222", "0.1111", "0.1333", "thinning 2", "0.61", "1.01", "discs of 55", "whole bins"):
        assert expected in text
    assert "nan" not in text


def test_coverage_is_in_the_row_of_the_expression(evaluation: FineEvaluation) -> None:
    known = scores(0.1, slide_nats_expression=0.3, coverage_80=0.7931, coverage_80_high=0.8217)
    console = Console(width=200, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(fine_tables(replace(evaluation, scores={"srast": [known], "gp": [scores(0.4)]}))[1])
    lines = capture.get().splitlines()
    assert all("0.7931" in line and "0.8217" in line for line in lines if "srast, expression" in line)
    assert sum("0.7931" in line for line in lines) == 1


def test_json_and_plot_are_written(evaluation: FineEvaluation, tmp_path: Path) -> None:
    assert json.loads(write_json(evaluation, tmp_path / "scores.json").read_text()) == evaluation.to_dict()
    pytest.importorskip("matplotlib")
    (path,) = write_fine_plots(evaluation, tmp_path / "plots")
    assert path.name == "fine_truth.png"
    assert path.stat().st_size > 5000
