from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.planted import planted_slide
from helpers.results import make_result, with_expression
from helpers.window import click, endless_work, show_result, wait_ready
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_srast.analysis.signatures import signatures
from napari_srast.gui.controllers import signatures as module
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.widget import SRastWidget

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore")]
SETS = {"Upper": ["G1", "G2"], "Lower": ["G3", "G4", "Missing"]}


@pytest.fixture
def shown(widget: SRastWidget, qtbot: Any) -> Any:
    """The section of the signatures with a result of the planted slide."""
    pytest.importorskip("scanpy")
    slide = planted_slide(n=6)
    result = with_expression(make_result(slide), range(40))
    return show_result(qtbot, widget, slide, result, widget.result_panel.signature_panel)


def score(qtbot: Any, widget: SRastWidget, panel: Any, text: str) -> None:
    panel.sets.clear()
    qtbot.keyClicks(panel.sets, text)
    qtbot.keyClick(panel.sets, Qt.Key.Key_Return)
    wait_ready(qtbot, widget)


def visible(widget: SRastWidget, role: str) -> list[str]:
    return [layer.name for layer in widget.controller.viewer.layers if role_of(layer) == role and layer.visible]


def test_scores_of_typed_sets_are_those_of_python_and_shown_instead_of_genes(
    widget: SRastWidget, qtbot: Any, shown: Any
) -> None:
    assert not shown.start.isEnabled()
    score(qtbot, widget, shown, "Upper: G1, G2; Lower: G3, G4, Missing")
    result = widget.controller.results.current.result
    expected = signatures(result, SETS)
    pd.testing.assert_frame_equal(widget.controller.signatures.current, expected)
    assert visible(widget, "signature") == ["Score of Upper"]
    assert visible(widget, "gene") == []
    layer = widget.controller.signatures.layer
    np.testing.assert_allclose(layer.data, result.raster.to_image(expected["Upper"].to_numpy()))
    assert layer.colorbar.visible
    assert shown.note.text() == "'Upper' has 2 genes: G1, G2."
    shown.shown.setCurrentIndex(2)
    shown.shown.activated.emit(2)
    assert visible(widget, "signature") == ["Score of Lower"]
    assert "without Missing, which have no expression" in shown.note.text()
    shown.shown.setCurrentIndex(0)
    shown.shown.activated.emit(0)
    assert visible(widget, "signature") == []
    assert len(visible(widget, "gene")) == 1


def test_views_and_removal_show_the_genes_again(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    score(qtbot, widget, shown, "Upper: G1, G2")
    signatures_of = widget.controller.signatures
    signatures_of.layer.visible = False  # the eye of the layer list
    assert len(visible(widget, "gene")) == 1
    signatures_of.layer.visible = True
    assert visible(widget, "gene") == []
    click(qtbot, widget.result_panel.views["after"])
    assert signatures_of.layer is None
    assert len(visible(widget, "gene")) == 1
    signatures_of.show("Upper")
    widget.controller.viewer.layers.remove(signatures_of.layer)
    assert len(visible(widget, "gene")) == 1
    assert shown.shown.currentIndex() == 0
    signatures_of.show("Upper")
    widget.controller.results.drop()
    assert visible(widget, "signature") == []
    assert not shown.start.isEnabled()


def test_sets_of_files_are_added_and_all_scores_are_saved(
    widget: SRastWidget, qtbot: Any, shown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sets.gmt").write_text("Lower\t-\tG3\tG4\nUpper\t-\tG5\n")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "sets.gmt"), ""))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "scores"), "CSV (*.csv)"))
    score(qtbot, widget, shown, "Upper: G1, G2; Other: G7")
    click(qtbot, shown.load)
    wait_ready(qtbot, widget)
    assert [shown.shown.itemText(i) for i in range(1, 4)] == ["Other", "Lower", "Upper"]
    click(qtbot, shown.save)
    wait_ready(qtbot, widget)
    table = pd.read_csv(tmp_path / "scores.csv", index_col="pixel")
    assert list(table) == ["x", "y", "spot", "score:Other", "score:Lower", "score:Upper"]
    expected = signatures(widget.controller.results.current.result, {"Upper": ["G5"]})
    np.testing.assert_allclose(table["score:Upper"], expected["Upper"])


def test_wrong_sets_are_refused_in_one_sentence(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    for text, message in (("Upper", "has no name or no gene"), ("A: Missing", "no expression of any gene of 'A'")):
        score(qtbot, widget, shown, text)
        assert message in widget.run_bar.status.text()
        assert widget.controller.signatures.current is None


def test_scoring_can_be_canceled(widget: SRastWidget, qtbot: Any, shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work, stopped = endless_work()
    monkeypatch.setattr(module, "signatures", work)
    qtbot.keyClicks(shown.sets, "A: G1")
    click(qtbot, shown.start)
    assert widget.run_bar.status.text() == "Scoring the gene sets …"
    click(qtbot, widget.run_bar.cancel)
    assert stopped.wait(30)
    assert widget.controller.tasks.busy_reason() is None
