"""The scale bar is drawn once, transparent, before the first slide, and is then as the user has set it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers.window import PATIENCE, wait_ready
from napari.components import ViewerModel

from napari_srast.core.slide import Slide
from napari_srast.gui.layers.scale_bar import NO_SCALE_BAR, ScaleBar
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def test_the_first_drawing_is_transparent_and_leaves_the_bar_as_it_was() -> None:
    viewer = ViewerModel()
    bar, overlay = ScaleBar(viewer, lambda: None), viewer.canvas.overlays.scale_bar
    overlay.opacity = 0.8
    bar.begin_drawing()
    bar.begin_drawing()
    assert (overlay.visible, overlay.opacity) == (True, 0.0)
    bar.end_drawing()
    bar.end_drawing()
    assert (overlay.visible, overlay.opacity) == (False, 0.8)


def test_a_slide_that_opens_meanwhile_shows_the_bar() -> None:
    viewer = ViewerModel()
    bar, overlay = ScaleBar(viewer, lambda: None), viewer.canvas.overlays.scale_bar
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
    bar, overlay = ScaleBar(viewer, lambda: None), viewer.canvas.overlays.scale_bar
    overlay.visible = True
    bar.begin_drawing()
    bar.end_drawing()
    assert (overlay.visible, overlay.opacity) == (True, 1.0)


def test_a_new_window_has_drawn_the_bar_before_a_slide_is_opened(
    open_window: Callable[[], SRastWidget], qtbot: Any
) -> None:
    overlay = open_window().controller.viewer.canvas.overlays.scale_bar
    qtbot.waitUntil(lambda: not overlay.visible and overlay.opacity == 1.0, timeout=PATIENCE)


@pytest.mark.parametrize("unit", ["unknown", "array units", "px"])
def test_slide_without_a_unit_of_length_has_no_bar_and_says_so(
    open_window: Callable[[], SRastWidget], qtbot: Any, make_slide: Callable[..., Slide], unit: str
) -> None:
    """napari would measure it in "pixel"."""
    window = open_window()
    controller = window.controller
    overlay = controller.viewer.canvas.overlays.scale_bar
    for slide_unit in (unit, "um"):
        controller.slides.show(LoadedSlide(slide=make_slide(unit=slide_unit), source=None))
        wait_ready(qtbot, window)
        assert overlay.visible == (slide_unit == "um")
        assert (NO_SCALE_BAR in window.run_bar.status.text()) == (slide_unit != "um")
        assert (NO_SCALE_BAR in window.slide_panel.about.text()) == (slide_unit != "um")
    without_unit, in_micrometers = controller.slides.sessions
    controller.slides.switch(without_unit)
    assert not overlay.visible
    controller.slides.switch(in_micrometers)
    assert overlay.visible
    overlay.visible = False  # by the user
    controller.slides.switch(without_unit)
    controller.slides.switch(in_micrometers)
    assert not overlay.visible
