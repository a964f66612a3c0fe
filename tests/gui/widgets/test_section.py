"""Sections that fold to their title."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.window import PATIENCE, SQUARE, click, open_slide
from qtpy.QtCore import QPoint

from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("page", [0, 1])
def test_the_room_of_a_folded_section_is_below_all_sections(widget: SRastWidget, qtbot: Any, page: int) -> None:
    prepare = (widget.gene_panel.section, widget.settings_panel.section)
    section, following = (prepare, (widget.result_panel.section, widget.result_panel.domain_panel.section))[page]
    widget.resize(430, 950)
    widget.tabs.setCurrentIndex(page)

    def distance() -> int:
        return following.header.mapTo(widget, QPoint()).y() - section.header.mapTo(widget, QPoint()).y()

    qtbot.waitUntil(lambda: distance() > 300, timeout=PATIENCE)  # the table has the free room
    click(qtbot, section.header)
    qtbot.waitUntil(lambda: 0 < distance() < 60, timeout=PATIENCE)
    click(qtbot, section.header)
    qtbot.waitUntil(lambda: distance() > 300, timeout=PATIENCE)


def test_several_genes_are_listed_next_to_a_region(widget: SRastWidget, qtbot: Any, store: Path) -> None:
    widget.resize(430, 920)  # as on a screen of 1600 x 1000
    open_slide(qtbot, widget, store)
    widget.controller.regions.add(SQUARE)
    rows, view = widget.gene_panel.view.verticalHeader(), widget.gene_panel.view
    assert rows is not None

    def n_rows() -> int:
        viewport = view.viewport()
        assert viewport is not None
        return int(viewport.height() // rows.defaultSectionSize())

    qtbot.waitUntil(lambda: n_rows() >= 6, timeout=20_000)
    assert not widget.slide_panel.section.is_open
    assert widget.slide_panel.section.summary.text().startswith("breast")
