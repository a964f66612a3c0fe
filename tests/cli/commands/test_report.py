"""Reports from the command line: ``report`` and ``upsample --report``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.planted import planted_slide
from helpers.results import make_result
from helpers.slides import make_store

from napari_srast.analysis.domains import Domains
from napari_srast.cli import main
from napari_srast.io.result_reader import read_result
from napari_srast.io.result_writer import write_result


def test_report_of_a_stored_result_has_its_domains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_result(make_result(planted_slide(n=4)), tmp_path / "fine.zarr", include_image=False)
    result = read_result(store)
    labels = pd.Categorical.from_codes(np.arange(result.n_pixels) % 2, pd.Index(["<i>tumor", "stroma"]))
    Domains(result=result, labels=labels, markers=pd.DataFrame(), genes=("G0",), resolution=1.0, seed=0).write(
        store, "mine"
    )
    report = tmp_path / "fine.html"
    assert main(["report", str(store), "-o", str(report), "--genes", "G1,G2", "--title", "A <b>title"]) == 0
    assert f"Wrote {report}" in capsys.readouterr().out
    text = report.read_text(encoding="utf-8")
    assert "A &lt;b&gt;title" in text
    assert "&lt;i&gt;tumor" in text
    assert text.count("<img") == 4  # slide, two genes, domains
    assert str(tmp_path) not in text
    assert main(["report", str(store), "-o", str(report)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["report", str(store), "-o", str(tmp_path / "fine.pdf")]) == 2
    assert ".html" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["fine.zarr", "fine.h5ad"])
def test_upsample_writes_a_report_of_its_result(output: str, tmp_path: Path) -> None:
    make_store(planted_slide(n=4), "squares").write(tmp_path / "slide.zarr")
    report = tmp_path / "fine.html"
    command = ["upsample", str(tmp_path / "slide.zarr"), "-o", str(tmp_path / output), "--method", "uniform"]
    assert main([*command, "--genes", "G1,G2", "--report", str(report)]) == 0
    text = report.read_text(encoding="utf-8")
    assert text.count("<img") == 3
    assert "slide.zarr" in text


def test_report_that_cannot_be_written_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(planted_slide(n=4), "squares").write(tmp_path / "slide.zarr")
    slide = str(tmp_path / "slide.zarr")
    assert main(["upsample", slide, "-o", str(tmp_path / "fine.zarr"), "--report", str(tmp_path / "a.txt")]) == 2
    assert "has no known ending" in capsys.readouterr().err
    assert main(["upsample", slide, slide, "-o", str(tmp_path / "out"), "--report", str(tmp_path / "a.html")]) == 2
    assert "one result" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slide.zarr"]
