"""Actions of a user in the window, and what is visible in it, for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent, QKeySequence
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

PATIENCE = 300_000
"""Timeout in milliseconds, long enough for a busy machine."""
SKEWED = np.array([[-1.3, 0.4, 250.0], [0.3, 0.9, -70.0], [0.0, 0.0, 1.0]])
"""Affine with rotation, shear, reflection, unequal scales and translation."""
SQUARE = np.array([[-50, -50], [250, -50], [250, 250], [-50, 250]])
"""Square around nine spots of the small slides."""


def click(qtbot: Any, control: QWidget) -> None:
    assert control.isEnabled(), control.toolTip()
    qtbot.mouseClick(control, Qt.MouseButton.LeftButton)


def wait_ready(qtbot: Any, widget: SRastWidget, timeout: int = PATIENCE) -> None:
    qtbot.waitUntil(lambda: widget.controller.tasks.state is AppState.READY, timeout=timeout)


def endless_work() -> tuple[Callable[..., None], threading.Event]:
    """Return a function that works until its argument ``should_stop`` says so, and an event that is set then."""
    stopped = threading.Event()

    def work(*_: Any, should_stop: Callable[[], bool], **__: Any) -> None:
        while not should_stop():
            stopped.wait(0.01)
        stopped.set()

    return work, stopped


def open_slide(qtbot: Any, widget: SRastWidget, store: Path) -> Slide:
    widget.slide_panel.path.setText(str(store))
    qtbot.keyClick(widget.slide_panel.path, Qt.Key.Key_Return)
    assert widget.controller.tasks.state is AppState.OPENING
    wait_ready(qtbot, widget)
    assert widget.controller.slides.slide is not None, widget.run_bar.status.text()
    return widget.controller.slides.slide


def use_fast_method(widget: SRastWidget) -> None:
    widget.settings_panel.method.value = "uniform"


def run(qtbot: Any, widget: SRastWidget) -> Any:
    click(qtbot, widget.run_bar.run)
    assert widget.controller.tasks.state is AppState.RUNNING
    wait_ready(qtbot, widget)
    assert widget.controller.results.current is not None, widget.run_bar.status.text()
    wait_shown(qtbot, widget)
    return widget.controller.results.current.result


def wait_shown(qtbot: Any, widget: SRastWidget) -> None:
    overlay = widget.controller.results.overlay
    assert overlay is not None
    qtbot.waitUntil(lambda: len(overlay.shown) == len(overlay.genes), timeout=PATIENCE)


def tick(qtbot: Any, view: Any, gene: str) -> None:
    """Click the check box of a listed gene."""
    row = view.model().listed.index(gene)
    view.scrollTo(view.model().index(row, 0))
    box = view.visualRect(view.model().index(row, 0))
    qtbot.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=box.topLeft() + QPoint(10, box.height() // 2))


def layer_names(widget: SRastWidget) -> list[str]:
    return [layer.name for layer in widget.controller.viewer.layers]


def visible(widget: SRastWidget, role: str = "gene") -> list[str]:
    """Return the names of the visible layers with a role."""
    return [layer.name for layer in widget.controller.viewer.layers if role_of(layer) == role and layer.visible]


def drop(widget: SRastWidget, path: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    move, button, keys = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    widget.dropEvent(QDropEvent(QPointF(5, 5), move, data, button, keys))


def canvas_point(widget: SRastWidget, world: tuple[float, float]) -> QPoint:
    """Return the canvas pixel of a world position (x, y)."""
    viewer: Any = widget.controller.viewer
    rows, cols = viewer.canvas.size
    y0, x0 = viewer.scene.camera.center[-2:]
    zoom = viewer.scene.camera.zoom
    return QPoint(round(cols / 2 + (world[0] - x0) * zoom), round(rows / 2 + (world[1] - y0) * zoom))


def press(widget: SRastWidget, keys: str, target: QWidget | None = None) -> None:
    """Press keys such as "Alt+B" in the window of the widget, or in one of its controls."""
    target = target or widget.window()
    assert target is not None
    target.activateWindow()
    QTest.qWaitForWindowActive(target.window(), 5000)
    if target is not widget.window():
        target.setFocus()
    combination = QKeySequence(keys)[0]
    QTest.keyClick(target, combination.key(), combination.keyboardModifiers())


def show_result(qtbot: Any, widget: SRastWidget, slide: Slide, result: UpsampleResult, panel: Any) -> Any:
    """Show a result of a slide, and unfold a panel of the page *Explore*, which is returned."""
    widget.controller.slides.show(LoadedSlide(slide=slide, source=None))
    wait_ready(qtbot, widget)
    widget.controller.results.add_saved(widget.controller.slides.current, prepare_for_display(result))
    wait_shown(qtbot, widget)
    widget.tabs.setCurrentWidget(widget.result_panel)
    click(qtbot, panel.section.header)
    return panel
