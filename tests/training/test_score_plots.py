"""Plots of scores are images, or the folder is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.score_rows import make_row

from napari_srast.errors import OutputError
from napari_srast.training.score_plots import write_score_plots


def test_plots_are_written_or_the_folder_is_reported(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [make_row("a", "one", default=0.06, gp=0.02, bilinear=0.01), make_row("b", "two", 0.01, 0.005, 0.02)]
    for path in write_score_plots(rows, tmp_path / "plots"):
        assert path.read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="another folder"):
        write_score_plots(rows, tmp_path / "file")
