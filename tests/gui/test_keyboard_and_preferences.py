"""Contrast of colors, reasons for disabled controls, and use without a mouse."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
from helpers.window import SQUARE, click, open_slide, press, use_fast_method, visible, wait_ready, wait_shown
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QMessageBox, QWidget

from napari_srast.analysis.traffic_lights import LIGHTS
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.gene_colors import PALETTE
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget
from napari_srast.gui.widgets.shortcuts import SHORTCUTS
from napari_srast.gui.widgets.tooltips import TOOLTIPS

pytestmark = pytest.mark.gui
Rgb = tuple[int, ...]


def _rgb(color: str) -> Rgb:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def _contrast(one: Rgb, other: Rgb) -> float:
    """Return the contrast ratio of WCAG 2.1, which requires 4.5 for text and 3 for graphics."""

    def luminance(color: Rgb) -> float:
        parts = [c / 255 for c in color]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_colors_have_enough_contrast_on_both_themes(widget: SRastWidget) -> None:
    widget.controller.messages.error_message.emit("An error occurred.")
    text, background = map(_rgb, re.findall("#[0-9a-f]{6}", widget.run_bar.status.styleSheet()))
    assert _contrast(text, background) >= 4.5
    (box,) = map(_rgb, re.findall("#[0-9a-f]{6}", widget.gene_panel.view.styleSheet()))
    for name in ("dark", "light"):
        theme = get_theme(name)
        for surface in (theme.background, theme.foreground):
            for color in (box, *(_rgb(color) for _, color in LIGHTS.values())):
                assert _contrast(color, surface.as_rgb_tuple()[:3]) >= 3, (name, color)
    assert all(_contrast(_rgb(color), (0, 0, 0)) >= 4.5 for color in PALETTE)


def _unexplained(widget: SRastWidget) -> list[str]:
    """Return the names of disabled controls whose tooltip does not show the reason."""
    controls = [control for control in widget.findChildren(QWidget) if control.objectName() in TOOLTIPS]
    assert len(controls) >= len(TOOLTIPS)
    return [
        control.objectName()
        for control in controls
        if not control.isEnabledTo(widget)
        and (control.accessibleDescription() or TOOLTIPS[control.objectName()]).startswith(
            TOOLTIPS[control.objectName()]
        )
    ]


def test_disabled_controls_show_the_reason(
    widget: SRastWidget, qtbot: Any, skewed_slide: Slide, make_result: Callable[..., UpsampleResult]
) -> None:
    controller, explore = widget.controller, widget.result_panel
    assert _unexplained(widget) == []
    controller.slides.show(LoadedSlide(slide=skewed_slide, source=None))
    wait_ready(qtbot, widget)
    assert _unexplained(widget) == []
    result = make_result(skewed_slide, std=True)
    controller.results.add_saved(controller.slides.current, prepare_for_display(result))
    wait_shown(qtbot, widget)
    assert _unexplained(widget) == []
    click(qtbot, explore.views["std"])
    assert controller.results.overlay.view == "std"
    assert explore.meaning.text() == "standard deviation of the counts per pixel"
    click(qtbot, explore.views["after"])
    assert len(visible(widget)) == 1


def test_the_keyboard_is_sufficient(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, panel, explore = widget.controller, widget.gene_panel, widget.result_panel
    chain, control = [], widget.nextInFocusChain()
    while control is not None and control is not widget:
        chain.append(control)
        control = control.nextInFocusChain()
    reached = {c.objectName() for c in chain if c.focusPolicy() & Qt.FocusPolicy.TabFocus}
    assert set(TOOLTIPS) - reached == {"run_progress"}  # read-only

    open_slide(qtbot, widget, store)
    assert "spots" in widget.slide_panel.coordinate_system.currentText()
    qtbot.keyClicks(panel.filter, "gene3")
    panel.view.setCurrentIndex(panel.model.index(0, 0))
    for key, ticked in ((Qt.Key.Key_Space, ["Gene3"]), (Qt.Key.Key_Space, []), (Qt.Key.Key_Space, ["Gene3"])):
        qtbot.keyClick(panel.view, key)
        assert panel.model.checked == ticked
    panel.view.setCurrentIndex(panel.model.index(0, 1))  # also works from another column of the row
    qtbot.keyClick(panel.view, Qt.Key.Key_F)
    assert controller.preferences.genes == ["Gene3"]
    use_fast_method(widget)
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)
    press(widget, "Alt+Return")
    assert controller.tasks.state is AppState.RUNNING
    assert _unexplained(widget) == []
    wait_ready(qtbot, widget)
    wait_shown(qtbot, widget)
    assert widget.tabs.currentWidget() is explore
    for keys, view in (("Alt+B", "before"), ("Alt+B", "after"), ("Alt+Shift+B", "side_by_side")):
        press(widget, keys)
        assert controller.results.overlay.view == view
    press(widget, "Alt+K")
    assert QApplication.clipboard().text().startswith("napari-srast upsample ")
    press(widget, "Alt+1")
    assert widget.tabs.currentIndex() == 0


def test_every_shortcut_acts_once_while_the_canvas_or_the_panel_has_the_focus(
    open_window: Callable[[], SRastWidget], qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed: list[str] = []
    names = [shortcut.control for shortcut in SHORTCUTS]
    monkeypatch.setattr(SRastWidget, "_actions", lambda _: {name: partial(pressed.append, name) for name in names})
    window = open_window()
    canvas = napari.current_viewer().window._qt_viewer.canvas.native
    window.controller.viewer.add_shapes()  # its keys are active, too
    for target in (canvas, window.tabs.tabBar(), window.run_bar.help):
        pressed.clear()
        expected = [s for s in SHORTCUTS if target is not canvas or not s.in_panel]
        for shortcut in expected:
            press(window, shortcut.keys, target)
        assert pressed == [shortcut.control for shortcut in expected]


def test_ctrl_z_undoes_and_ctrl_shift_z_redoes_the_region(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path
) -> None:
    window = open_window()
    open_slide(qtbot, window, store)
    canvas, regions = napari.current_viewer().window._qt_viewer.canvas.native, window.controller.regions
    regions.add(SQUARE)
    regions.add(SQUARE + 300)
    both = regions.n_spots_inside()
    press(window, "Ctrl+Z", canvas)
    assert regions.n_spots_inside() == 9
    press(window, "Ctrl+Shift+Z", canvas)
    assert regions.n_spots_inside() == both > 9
    labels = window.controller.viewer.add_labels(np.zeros((9, 9), dtype=int))
    labels.fill((0, 0), 3)
    press(window, "Ctrl+Z", canvas)  # the undo of the active layer comes first
    assert labels.data.max() == 0
    assert regions.n_spots_inside() == both
    press(window, "Ctrl+Z", window.run_bar.help)
    press(window, "Ctrl+Shift+Z", window.run_bar.help)
    assert regions.n_spots_inside() == both
    window.gene_panel.filter.setFocus()
    qtbot.keyClicks(window.gene_panel.filter, "Gene3")
    press(window, "Ctrl+Z", window.gene_panel.filter)  # undoes the typing, not the region
    assert window.gene_panel.filter.text() != "Gene3"
    assert regions.n_spots_inside() == both
