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
