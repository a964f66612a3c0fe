"""Report: JSON, table, plots, and errors for paths that cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
from rich.console import Console
from scipy import sparse

from napari_srast.errors import OutputError
from napari_srast.evaluation.protocol import Evaluation, evaluate
from napari_srast.evaluation.report import evaluation_table, write_json, write_plots


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 800, (2000, 2))
    rate = np.exp(np.sin(points[:, :1] / 100 + np.arange(4))) * [0.1, 1, 3, 9]
    table = anndata.AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)))
    table.obsm["spatial"] = points
    return evaluate(table, pitch=100, methods=["uniform", "bilinear", "gp"])


def test_json_contains_all_scores(evaluation: Evaluation, tmp_path: Path) -> None:
    path = write_json(evaluation, tmp_path / "report.json")
    assert json.loads(path.read_text()) == evaluation.to_dict()
    with pytest.raises(OutputError, match="another file"):
        write_json(evaluation, tmp_path / "missing" / "report.json")


def test_table_lists_the_best_method_first(evaluation: Evaluation) -> None:
    console = Console(width=200, record=True, quiet=False, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(evaluation_table(evaluation))
    text = capture.get()
    assert text.index(str(evaluation.best_baseline)) < text.index("uniform")
    assert f"{evaluation.scores['gp'].nats_per_count:.4g}" in text


def test_plots_are_written(evaluation: Evaluation, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = write_plots(evaluation, tmp_path / "plots")
    assert [path.name for path in paths] == ["methods.png", "depth.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000 for path in paths)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="another folder"):
        write_plots(evaluation, tmp_path / "file")
