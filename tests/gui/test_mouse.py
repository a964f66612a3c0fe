"""The mouse draws, and the cursor reads, at the visible position on the canvas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import napari
import numpy as np
import pytest
from helpers.window import PATIENCE, canvas_point, click, wait_ready, wait_shown
from qtpy.QtCore import Qt

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.panels import export
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def test_mouse_and_figure_match_world_coordinates(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    skewed_slide: Slide,
    make_result: Callable[..., UpsampleResult],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    window = open_window()
    controller, viewer = window.controller, window.controller.viewer
    controller.slides.show(LoadedSlide(slide=skewed_slide, source=None))
    wait_ready(qtbot, window)
    viewer.reset_view()
    canvas = napari.current_viewer().window._qt_viewer.canvas.native

    # A rectangle around four spots, which are 100 apart.
    click(qtbot, next(tool for tool in window.region_panel.tools if tool.objectName() == "draw_rectangle"))
    corners = [canvas_point(window, world) for world in ((-40, -40), (60, 60), (140, 140))]
    left = Qt.MouseButton.LeftButton
    qtbot.mousePress(canvas, left, pos=corners[0])
    for corner in corners[1:]:
        qtbot.mouseMove(canvas, corner)
        qtbot.wait(20)
    qtbot.mouseRelease(canvas, left, pos=corners[-1])
    assert window.region_panel.count.text() == "4 of 42 spots inside."
    np.testing.assert_allclose(controller.regions.region().geometry.bounds, (-40, -40, 140, 140), atol=12)

    result = make_result(skewed_slide, controller.regions.region())
    controller.results.add_saved(controller.slides.current, prepare_for_display(result))
    wait_shown(qtbot, window)
    spot = int(result.raster.spots[3])
    explore = window.result_panel

    def is_read() -> bool:
        for offset in (5, 8):  # two moves, because the layout of the panel may change after the first
            qtbot.mouseMove(canvas, canvas_point(window, tuple(skewed_slide.centers[spot] + offset)))
        return explore.readout.text().startswith(f"Spot {skewed_slide.spot_ids[spot]}:")

    qtbot.waitUntil(is_read, timeout=PATIENCE)

    # The length of a pixel of the figure is checked by a layer of known length.
    saved: list[tuple[np.ndarray, export.Caption]] = []
    monkeypatch.setattr(export, "save_figure", lambda *given: saved.append(given[:2]))
    explore.hide_all.click()
    for layer in viewer.layers:
        layer.visible = False
    viewer.add_image(np.ones((100, 300)), contrast_limits=(0, 1), affine=np.eye(3))
    viewer.reset_view()
    explore.export_panel.write_figure(tmp_path / "figure.png")
    ((pixels, caption),) = saved
    across = np.flatnonzero(pixels[..., :3].max(axis=(0, 2)) > 128)
    assert (across[-1] - across[0] + 1) * caption.pixel_length == pytest.approx(300, rel=0.02)
