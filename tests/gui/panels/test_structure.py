from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.planted import planted_slide
from helpers.results import make_result
from helpers.window import click, endless_work, wait_ready, wait_shown
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_srast.analysis.structure import colocalization, spatially_variable
from napari_srast.gui.controllers import structure as module
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def shown(widget: SRastWidget, qtbot: Any) -> Any:
    """The section of the structure with the planted slide, without a result."""
    widget.controller.slides.show(LoadedSlide(slide=planted_slide(n=14, n_genes=6), source=None))
    wait_ready(qtbot, widget)
    widget.tabs.setCurrentWidget(widget.result_panel)
    panel = widget.result_panel.structure_panel
    click(qtbot, panel.section.header)
    return panel


def texts(panel: Any, column: int) -> list[str]:
    return [panel.model.index(row, column).data() for row in range(panel.model.rowCount())]


def test_all_genes_or_named_ones_are_tested_as_in_python(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    slide = widget.controller.slides.slide
    click(qtbot, shown.test)
    wait_ready(qtbot, widget)
    expected = spatially_variable(slide)
    pd.testing.assert_frame_equal(widget.controller.structure.current.table, expected)
    assert texts(shown, 0) == list(expected["gene"])
    assert texts(shown, 1) == [f"{value:+.2f}" for value in expected["moran_i"]]
    assert f"{(expected['q'] <= 0.05).sum()} of 6 genes have q at most 0.05" in shown.note.text()
    assert shown.section._summary == "6 genes"
    shown.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    assert texts(shown, 0) == sorted(expected["gene"])
    shown.table.sortByColumn(1, Qt.SortOrder.AscendingOrder)
    assert texts(shown, 0) == list(expected["gene"])[::-1]
    shown.genes.setText("G1, G3")
    shown.permutations.setValue(19)
    click(qtbot, shown.test)
    wait_ready(qtbot, widget)
    assert widget.controller.structure.current.table["p"].min() >= 0.05
    assert set(texts(shown, 0)) == {"G1", "G3"}


def test_typed_or_shown_genes_are_compared_in_pairs_and_saved(
    widget: SRastWidget, qtbot: Any, shown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = widget.controller.slides.slide
    assert "Name at least two genes" in shown.pair.toolTip()
    qtbot.keyClicks(shown.genes, "G1 G2 G4")
    click(qtbot, shown.pair)
    wait_ready(qtbot, widget)
    expected = colocalization(slide, ["G1", "G2", "G4"])
    pd.testing.assert_frame_equal(widget.controller.structure.current.table, expected)
    assert texts(shown, 3) == [
        f"{low:+.2f} to {high:+.2f}" for low, high in zip(expected["low"], expected["high"], strict=True)
    ]
    assert "mixes several cells" in shown.note.text()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "pairs"), "CSV (*.csv)"))
    click(qtbot, shown.save)
    wait_ready(qtbot, widget)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "pairs.csv"), expected)
    shown.genes.clear()
    assert not shown.pair.isEnabled()
    result = make_result(slide)
    widget.controller.results.add_saved(widget.controller.slides.current, prepare_for_display(result))
    wait_shown(qtbot, widget)
    widget.controller.results.show_genes(["G0", "G5"])
    wait_shown(qtbot, widget)
    click(qtbot, shown.pair)
    wait_ready(qtbot, widget)
    assert {*texts(shown, 0), *texts(shown, 1)} == {"G0", "G5"}


def test_unknown_genes_and_too_many_pairs_are_refused_in_one_sentence(
    widget: SRastWidget, qtbot: Any, shown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown.genes.setText("G1, Nothing")
    click(qtbot, shown.test)
    wait_ready(qtbot, widget)
    assert "no gene 'Nothing'" in widget.run_bar.status.text()
    monkeypatch.setattr(module, "MAX_PAIRED_GENES", 2)
    shown.genes.setText("G1, G2, G3")
    click(qtbot, shown.pair)
    assert "3 genes have too many pairs; name at most 2" in widget.run_bar.status.text()
    assert widget.controller.structure.current is None
    assert not shown.table.isEnabled()


def test_test_can_be_canceled(widget: SRastWidget, qtbot: Any, shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work, stopped = endless_work()
    monkeypatch.setattr(module, "spatially_variable", work)
    click(qtbot, shown.test)
    assert widget.run_bar.status.text() == "Testing the spatial structure …"
    click(qtbot, widget.run_bar.cancel)
    assert stopped.wait(30)
    assert widget.controller.tasks.busy_reason() is None


def test_empty_name_among_typed_genes_is_refused(qtbot: Any, shown: Any) -> None:
    qtbot.keyClicks(shown.genes, "G1,,G3")
    for control in (shown.test, shown.pair):
        assert not control.isEnabled()
        assert "empty" in control.toolTip()
    shown.genes.setText("G1, G3,")  # the next name is not typed yet
    assert shown.test.isEnabled()
    assert shown.pair.isEnabled()
