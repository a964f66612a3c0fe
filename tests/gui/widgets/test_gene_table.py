from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QTableView

from napari_srast.gui.widgets.gene_table import Column, GeneTableModel

pytestmark = pytest.mark.gui
CHECK = Qt.ItemDataRole.CheckStateRole


def _model(limit: int | None = None) -> GeneTableModel:
    model = GeneTableModel(limit=limit)
    skill = np.array([0.3, np.nan, -0.1, 0.2])
    model.set_genes(["ERBB2", "KRT19", "Krt8", "CD74"], [Column("Skill", skill, lambda v: f"{v:.1f}")])
    return model


def test_filter_ignores_case_and_keeps_checks() -> None:
    model = _model()
    model.check(["ERBB2"])
    model.set_filter(" krt ")
    assert model.listed == ["KRT19", "Krt8"]
    model.setData(model.index(1, 0), Qt.CheckState.Checked, CHECK)
    assert model.checked == ["ERBB2", "Krt8"]
    model.set_filter("")
    model.set_listing("checked")
    assert model.listed == ["ERBB2", "Krt8"]
    model.setData(model.index(0, 0), Qt.CheckState.Unchecked.value, CHECK)  # views pass the number
    assert model.listed == ["Krt8"]


def test_marks_are_symbols_before_texts_in_the_color_of_the_theme(qtbot: Any) -> None:
    model = GeneTableModel()
    column = Column("Gain", np.array([0.5]), lambda v: f"{v:.1f}", marks=[("■", "#ba660e", "the reason")])
    model.set_genes(["ERBB2"], [column])
    index = model.index(0, 1)
    assert model.data(index) == "0.5"
    assert model.data(index, Qt.ItemDataRole.ForegroundRole) is None
    assert model.data(index, Qt.ItemDataRole.ToolTipRole) == "the reason"
    assert model.data(index, Qt.ItemDataRole.AccessibleTextRole) == "■ 0.5"
    picture = model.data(index, Qt.ItemDataRole.DecorationRole).toImage()
    assert picture.pixelColor(picture.width() // 2, picture.height() // 2).name() == "#ba660e"


def test_missing_values_are_sorted_last() -> None:
    model = _model()
    model.sort(1, Qt.SortOrder.DescendingOrder)
    assert model.listed == ["ERBB2", "CD74", "Krt8", "KRT19"]
    model.sort(1, Qt.SortOrder.AscendingOrder)
    assert model.listed == ["Krt8", "CD74", "ERBB2", "KRT19"]
    model.sort(0, Qt.SortOrder.AscendingOrder)
    assert model.listed == ["CD74", "ERBB2", "KRT19", "Krt8"]


def test_first_click_on_a_number_heading_sorts_descending(qtbot: Any) -> None:
    model, view = _model(), QTableView()
    qtbot.addWidget(view)
    view.setModel(model)
    header = view.horizontalHeader()
    assert header is not None
    header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
    view.setSortingEnabled(True)
    view.show()
    for column, listed in (
        (1, ["ERBB2", "CD74", "Krt8", "KRT19"]),
        (1, ["Krt8", "CD74", "ERBB2", "KRT19"]),
        (0, ["CD74", "ERBB2", "KRT19", "Krt8"]),
    ):
        heading = QPoint(header.sectionViewportPosition(column) + 10, header.height() // 2)
        qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=heading)
        assert model.listed == listed


def test_order_holds_for_the_genes_of_another_slide() -> None:
    model = _model()
    model.set_genes(["A", "B", "C"], order=np.array([2, 0, 1]))
    assert model.listed == ["C", "A", "B"]
    model.sort(0, Qt.SortOrder.DescendingOrder)
    model.set_genes(["D", "F", "E"], order=np.array([2, 0, 1]))
    assert model.listed == ["F", "E", "D"]
    assert model.sorted_column == (0, Qt.SortOrder.DescendingOrder)


def test_checked_genes_are_limited() -> None:
    model, refusals = _model(limit=2), []
    model.refused.connect(lambda: refusals.append(1))
    model.check(["ERBB2", "CD74"])
    model.setData(model.index(1, 0), Qt.CheckState.Checked, CHECK)
    assert model.checked == ["ERBB2", "CD74"]
    assert len(refusals) == 1
    model.check(["KRT19", "not a gene"], only=True)
    assert model.checked == ["KRT19"]


def test_model_passes_qtmodeltester(qtmodeltester: object) -> None:
    qtmodeltester.check(_model())  # type: ignore[attr-defined]


def test_filtering_twenty_thousand_genes_is_fast(qtbot: object) -> None:
    from napari.components import ViewerModel

    from napari_srast.gui.controllers.controller import Controller
    from napari_srast.gui.widgets.common import gene_view

    rng = np.random.default_rng(0)
    genes = [f"{''.join(rng.choice(list('ABCDEFGHKLMNPRST'), 4))}{i}" for i in range(20_000)]
    model = GeneTableModel()
    view = gene_view("gene_table", model, Controller(ViewerModel()))
    qtbot.addWidget(view)  # type: ignore[attr-defined]
    view.show()
    model.set_genes(genes, [Column("Counts", np.arange(20_000.0), lambda v: f"{v:.0f}")])
    model.check(genes[::3])
    times = []
    for text in ("A", "AB", "AB1", "AB", "A", "", "7"):
        start = time.process_time()
        model.set_filter(text)
        view.viewport().repaint()
        times.append(time.process_time() - start)
    assert sorted(times)[len(times) // 2] < 0.05


def test_filter_finds_ids() -> None:
    model = GeneTableModel()
    model.set_genes(["ERBB2", "KRT19"], ids=["ENSG00000141736", "ENSG00000171345"])
    model.set_filter("ensg00000171345")
    assert model.listed == ["KRT19"]
    model.set_filter("ENSG00000171345.7")
    assert model.listed == ["KRT19"]
    model.set_filter("erbb")
    assert model.listed == ["ERBB2"]
