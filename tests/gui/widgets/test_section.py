"""Sections that fold to their title."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.window import PATIENCE, click
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
