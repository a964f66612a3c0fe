"""The bar of the run: what it shows while a slide opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.window import PATIENCE, wait_ready

from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def test_opening_is_counted_in_seconds_without_an_animation(widget: SRastWidget, qtbot: Any, store: Path) -> None:
    progress = widget.run_bar.progress
    widget.open_path(store)
    assert progress.isVisible()
    assert progress.format() == "opening"
    assert progress.maximum() > progress.minimum()  # equal ones start Qt's animation, which draws the canvas each time
    widget.run_bar._show_elapsed()
    assert progress.format() == "opening, 0 s"
    wait_ready(qtbot, widget, PATIENCE)
    assert not progress.isVisible()
    assert not widget.run_bar._clock.isActive()


def test_long_message_scrolls_and_leaves_the_panel_its_room(widget: SRastWidget, qtbot: Any) -> None:
    widget.resize(350, 700)
    bar, tabs = widget.run_bar, widget.tabs
    bar.show_status("Ready.")
    qtbot.waitUntil(lambda: bar.message.viewport().height() == bar.status.minimumSizeHint().height(), timeout=PATIENCE)
    one_line, scroll = bar.message.height(), bar.message.verticalScrollBar()
    qtbot.waitUntil(lambda: not scroll.isVisible(), timeout=PATIENCE)
    bar.show_error(" ".join(["Three spots have no place and are left out."] * 3))
    qtbot.waitUntil(lambda: bar.message.height() > 2 * one_line, timeout=PATIENCE)
    qtbot.waitUntil(lambda: bar.message.viewport().height() == bar.status.height(), timeout=PATIENCE)
    qtbot.waitUntil(lambda: not scroll.isVisible(), timeout=PATIENCE)
    bar.show_status(" ".join(f"Notice {number}: the image is larger than the slide." for number in range(40)))
    qtbot.waitUntil(lambda: bar.status.height() > 3 * bar.message.height(), timeout=PATIENCE)
    assert bar.message.height() < 8 * one_line
    assert tabs.height() > 400
    qtbot.waitUntil(scroll.isVisible, timeout=PATIENCE)
    scroll.setValue(scroll.maximum())
    bar.show_status("Ready.")
    qtbot.waitUntil(lambda: bar.message.height() == one_line, timeout=PATIENCE)
    qtbot.waitUntil(lambda: not scroll.isVisible() and scroll.value() == 0, timeout=PATIENCE)
