"""The tour of the first start, and the help of the sections."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.window import click
from napari.components import ViewerModel
from qtpy.QtGui import QDesktopServices

from napari_srast.gui.state.preferences import UserPreferences
from napari_srast.gui.widget import SRastWidget
from napari_srast.gui.widgets.help_pages import page_url

pytestmark = pytest.mark.gui


def first_start(qtbot: Any) -> SRastWidget:
    preferences = UserPreferences.load()
    assert preferences.file is not None
    preferences.file.unlink(missing_ok=True)
    widget = SRastWidget(ViewerModel())
    qtbot.addWidget(widget)
    widget.resize(400, 800)
    widget.show()
    return widget


def test_five_steps_explain_the_panel_once(qtbot: Any) -> None:
    widget = first_start(qtbot)
    tour = widget.tour
    qtbot.waitUntil(tour.isVisible, timeout=5000)
    assert "1 of 5" in tour.text.text()
    assert not tour.back.isEnabled()
    for step in range(2, 6):
        click(qtbot, tour.following)
        assert f"{step} of 5" in tour.text.text()
        assert widget.rect().contains(tour.geometry())
    assert widget.tabs.currentWidget() is widget.result_panel
    click(qtbot, tour.back)
    assert "4 of 5" in tour.text.text()
    click(qtbot, tour.following)
    click(qtbot, tour.following)
    assert not tour.isVisible()
    assert widget.tabs.currentIndex() == 0  # where a user begins
    assert UserPreferences.load().has_toured
    widget.controller.shutdown()


def test_a_skipped_tour_does_not_come_back(qtbot: Any) -> None:
    widget = first_start(qtbot)
    click(qtbot, widget.tour.skip)
    assert not widget.tour.isVisible()
    widget.hide()
    widget.show()
    assert not widget.tour.isVisible()
    widget.controller.shutdown()
    again = SRastWidget(ViewerModel())
    qtbot.addWidget(again)
    again.show()
    assert not again.tour.isVisible()
    again.controller.shutdown()


def test_sections_link_their_page(widget: SRastWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    panels = (widget.slide_panel, widget.region_panel, widget.gene_panel, widget.settings_panel)
    for panel in panels:
        click(qtbot, panel.section.help)
    assert opened == [page_url(page) for page in ("window/opening", "window/region", "window/run", "window/run")]


def test_a_postponed_tour_stays_closed_when_the_panel_is_shown_again(qtbot: Any) -> None:
    widget = first_start(qtbot)
    widget.tour.postpone()
    widget.hide()
    widget.show()
    assert not widget.tour.isVisible()
    assert not UserPreferences.load().has_toured
    widget.controller.shutdown()


def test_the_tour_turns_to_the_result_of_a_run(qtbot: Any) -> None:
    widget = first_start(qtbot)
    qtbot.waitUntil(widget.tour.isVisible, timeout=5000)
    widget.controller.results.result_added.emit()
    assert "5 of 5" in widget.tour.text.text()
    assert widget.tabs.currentWidget() is widget.result_panel
    widget.controller.shutdown()
