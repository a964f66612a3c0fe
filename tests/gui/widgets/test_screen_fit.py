"""The window on a small screen: what must stay visible, with the real viewer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.window import PATIENCE, SQUARE, click, open_slide, run, use_fast_method
from qtpy.QtCore import QPoint, QRect, QSize
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QDockWidget, QWidget

from napari_srast.gui.widget import SRastWidget
from napari_srast.gui.widgets.screen_fit import ScreenFit

pytestmark = pytest.mark.gui


def _is_in_sight(control: QWidget) -> bool:
    """Return whether all of a control is inside its window, and not hidden by a scroll area."""
    window = control.window()
    place = QRect(control.mapTo(window, QPoint(0, 0)), control.size())
    return (
        control.isVisible()
        and window.rect().contains(place)
        and control.visibleRegion().boundingRect() == control.rect()
    )


@pytest.mark.parametrize("screen", [QSize(1280, 800), QSize(1600, 1000)], ids=["1280", "1600"])
def test_run_and_export_are_visible_and_the_canvas_has_half_of_the_width(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, screen: QSize
) -> None:
    widget = open_window()
    window: Any = widget.window()
    ScreenFit(widget).fit(screen)
    open_slide(qtbot, widget, store)
    qtbot.waitUntil(lambda: window.centralWidget().width() >= screen.width() / 2, timeout=PATIENCE)
    assert window.width() <= screen.width()
    assert window.height() <= screen.height()
    qtbot.waitUntil(lambda: _is_in_sight(widget.run_bar.run), timeout=PATIENCE)
    assert all(_is_in_sight(tool) for tool in widget.region_panel.tools)
    qtbot.waitUntil(lambda: _is_in_sight(widget.settings_panel.factor.native), timeout=PATIENCE)  # after the layout
    assert not widget.slide_panel.section.is_open  # its title has the name of the slide; the genes have the room

    widget.controller.regions.add(SQUARE)
    use_fast_method(widget)
    run(qtbot, widget)
    qtbot.waitUntil(lambda: _is_in_sight(widget.result_panel.export_panel.export), timeout=PATIENCE)
    assert window.centralWidget().width() >= screen.width() / 2
    assert _is_in_sight(widget.run_bar.run)

    widget.tabs.setCurrentIndex(0)
    section = widget.slide_panel.section
    was_open = section.is_open
    click(qtbot, section.header)
    assert section.is_open != was_open
    window.resize(window.width(), window.height() - 20)
    qtbot.wait(50)
    assert section.is_open != was_open  # the choice of the user holds


def test_hidden_docks_are_back_for_the_next_start(open_window: Callable[[], SRastWidget], qtbot: Any) -> None:
    widget = open_window()
    window: Any = widget.window()
    fit = ScreenFit(widget)
    fit.fit(QSize(1280, 800))
    (controls,) = (dock for dock in window.findChildren(QDockWidget) if dock.objectName() == "layer controls")
    assert controls.isHidden()
    fit.eventFilter(window, QCloseEvent())
    assert not controls.isHidden()
