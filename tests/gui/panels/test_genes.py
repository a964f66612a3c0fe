"""The list of genes in Prepare: order and headings, with real mouse events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.window import open_slide
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QStyle, QTableView

from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def _click_heading(qtbot: Any, view: QTableView, column: int) -> None:
    header = view.horizontalHeader()
    position = QPoint(header.sectionViewportPosition(column) + 8, header.height() // 2)
    qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=position)


def test_genes_stay_sorted_when_the_slide_changes(
    widget: SRastWidget, qtbot: Any, write_slide: Callable[..., Path]
) -> None:
    panel, slides = widget.gene_panel, widget.controller.slides
    open_slide(qtbot, widget, write_slide(name="one"))
    _click_heading(qtbot, panel.view, 1)
    open_slide(qtbot, widget, write_slide(name="two", seed=1))
    for session in reversed(slides.sessions):
        slides.switch(session)
        totals = dict(zip(session.slide.genes, session.slide.counts.sum(axis=0).A1, strict=True))
        listed = [totals[gene] for gene in panel.model.listed]
        assert listed == sorted(totals.values(), reverse=True)
        assert panel.view.horizontalHeader().sortIndicatorSection() == 1


def test_headings_fit_next_to_the_arrow_of_the_sorted_column(widget: SRastWidget, qtbot: Any, store: Path) -> None:
    open_slide(qtbot, widget, store)
    header = widget.gene_panel.view.horizontalHeader()
    for column in range(1, header.count()):
        _click_heading(qtbot, widget.gene_panel.view, column)
        title = str(header.model().headerData(column, Qt.Orientation.Horizontal))
        arrow = header.style().pixelMetric(QStyle.PixelMetric.PM_HeaderMarkSize, None, header)
        assert header.fontMetrics().horizontalAdvance(title) + min(arrow, 12) < header.sectionSize(column)
