"""The scale bar is drawn once, transparent, before the first slide, and is then as the user has set it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers.window import PATIENCE
from napari.components import ViewerModel

from napari_srast.gui.layers.scale_bar import ScaleBar
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def test_the_first_drawing_is_transparent_and_leaves_the_bar_as_it_was() -> None:
    viewer = ViewerModel()
    bar, overlay = ScaleBar(viewer), viewer.canvas.overlays.scale_bar
    overlay.opacity = 0.8
    bar.begin_drawing()
    bar.begin_drawing()
    assert (overlay.visible, overlay.opacity) == (True, 0.0)
    bar.end_drawing()
    bar.end_drawing()
    assert (overlay.visible, overlay.opacity) == (False, 0.8)


def test_a_slide_that_opens_meanwhile_shows_the_bar() -> None:
    viewer = ViewerModel()
    bar, overlay = ScaleBar(viewer), viewer.canvas.overlays.scale_bar
    bar.begin_drawing()
    bar.show_once()
    bar.end_drawing()
    assert (overlay.visible, overlay.opacity) == (True, 1.0)
    overlay.visible = False  # by the user
    bar.show_once()
    bar.begin_drawing()
    assert not overlay.visible


def test_a_bar_that_the_user_shows_stays() -> None:
    viewer = ViewerModel()
    bar, overlay = ScaleBar(viewer), viewer.canvas.overlays.scale_bar
    overlay.visible = True
    bar.begin_drawing()
    bar.end_drawing()
    assert (overlay.visible, overlay.opacity) == (True, 1.0)


def test_a_new_window_has_drawn_the_bar_before_a_slide_is_opened(
    open_window: Callable[[], SRastWidget], qtbot: Any
) -> None:
    overlay = open_window().controller.viewer.canvas.overlays.scale_bar
    qtbot.waitUntil(lambda: not overlay.visible and overlay.opacity == 1.0, timeout=PATIENCE)
