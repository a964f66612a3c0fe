"""The panel at ordinary and double screen resolution: texts fit, and the mouse position is exact."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from helpers.window import PATIENCE, SQUARE, click, visible, wait_ready, wait_shown
from napari import current_viewer
from qtpy.QtCore import QPoint, QRect
from qtpy.QtGui import QFont, QFontMetrics
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QStyle,
    QStyleOptionComboBox,
    QTableView,
    QWidget,
)

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.demo import wait_until
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui
PICTURES = "NAPARI_SRAST_PICTURES"
"""Environment variable with a folder for screenshots, for visual inspection."""


def _advance(control: QWidget, text: str) -> int:
    lines = text.replace("&", "").splitlines() or [""]
    return max(QFontMetrics(QFont(control.font())).horizontalAdvance(line) for line in lines)


def _too_long(control: QWidget) -> str | None:
    """Return the text of a control if it does not fit; None if it does."""
    room, line = control.contentsRect(), control.fontMetrics().height()
    if isinstance(control, QLabel):
        if control.wordWrap():
            return control.text() if control.height() < control.heightForWidth(control.width()) else None
        return control.text() if _advance(control, control.text()) > room.width() else None
    if isinstance(control, QCheckBox):
        return control.text() if control.sizeHint().width() > control.width() else None
    if isinstance(control, QAbstractButton):
        fits = _advance(control, control.text()) <= room.width() and (line <= room.height() or not control.text())
        return None if fits else control.text()
    if isinstance(control, QLineEdit):
        text = control.text() or control.placeholderText()
        fits = isinstance(control.parent(), QComboBox | QAbstractSpinBox) or _advance(control, text) <= room.width()
        return None if fits and line <= room.height() else text
    if isinstance(control, QAbstractSpinBox):
        edit = control.lineEdit()
        return control.text() if _advance(edit, control.text()) > edit.width() else None
    if isinstance(control, QComboBox) and control.objectName().startswith("shown_"):
        option, box = QStyleOptionComboBox(), QStyle.ComplexControl.CC_ComboBox
        control.initStyleOption(option)
        room = control.style().subControlRect(box, option, QStyle.SubControl.SC_ComboBoxEditField, control)
        texts = [control.itemText(index) for index in range(control.count())]
        return next((text for text in texts if _advance(control, text) > room.width()), None)
    if isinstance(control, QComboBox):  # may be narrower than its longest item
        return control.currentText() if line > room.height() or control.width() < 60 else None
    if isinstance(control, QTableView):
        header, model = control.horizontalHeader(), control.model()
        for i in range(header.count()):
            title = str(model.headerData(i, header.orientation()) or "")
            if not header.isSectionHidden(i) and _advance(header, title) > header.sectionSize(i):
                return title
    return None


def _shown(window: SRastWidget) -> Iterator[QWidget]:
    for control in window.findChildren(QWidget):
        if control.isVisible() and type(control).__module__.startswith(("PyQt", "PySide", "napari_srast", "superqt")):
            yield control


def _cut_off(window: SRastWidget) -> list[str]:
    """List visible controls whose text does not fit, which exceed their parent, or which overlap."""
    problems = []
    for control in _shown(window):
        name = control.objectName() or type(control).__name__
        text = _too_long(control)
        if text is not None:
            problems.append(f"{name}: no room for {text!r}")
        parent = control.parentWidget()
        inside_scroll = parent is not None and isinstance(parent.parentWidget(), QAbstractScrollArea)
        if parent is not None and not inside_scroll and not parent.rect().contains(control.geometry()):
            problems.append(f"{name}: exceeds {type(parent).__name__}")
        if inside_scroll and control.width() > parent.width():
            problems.append(f"{name}: is wider than its scroll area")
        laid_out = [w for w in control.children() if isinstance(w, QWidget) and w.isVisible() and not w.isWindow()]
        for one, other in combinations(laid_out if control.layout() is not None else [], 2):
            if not one.geometry().intersected(other.geometry()).isEmpty():
                problems.append(f"{name}: {one.objectName()} and {other.objectName()} overlap")
    return problems


def test_all_texts_fit(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    skewed_slide: Slide,
    make_result: Callable[..., UpsampleResult],
    tmp_path: Path,
) -> None:
    window = open_window()
    viewer = current_viewer()
    scale = viewer.window._qt_window.devicePixelRatioF()
    assert scale == pytest.approx(float(os.environ.get("QT_SCALE_FACTOR", 1)))
    viewer.window.resize(1500, 940)
    controller, explore = window.controller, window.result_panel
    pictures = Path(os.environ.get(PICTURES, tmp_path))
    problems: dict[str, list[str]] = {}

    def check(stage: str) -> None:
        qtbot.wait(200)
        wait_until(lambda: not _cut_off(window), 10)  # the layout may be late on a busy machine
        assert window.visibleRegion().boundingRect().width() >= window.minimumSizeHint().width()
        problems[stage] = _cut_off(window)
        viewer.window._qt_window.grab().save(str(pictures / f"{stage}_at_{scale:g}.png"))

    check("empty")
    controller.slides.show(LoadedSlide(slide=skewed_slide, source=None))
    wait_ready(qtbot, window)
    window.gene_panel.model.check(["Gene1", "Gene3"])
    check("slide")
    controller.regions.add(SQUARE)
    click(qtbot, window.settings_panel.advanced)
    qtbot.waitUntil(lambda: "9 of 42 spots" in window.region_panel.count.text(), timeout=PATIENCE)
    check("region")
    controller.messages.error_message.emit(
        "The region holds no spot; draw it over the spots, or clear it to use the whole slide."
    )
    check("error")
    result = make_result(skewed_slide, std=True)
    controller.results.add_saved(controller.slides.current, prepare_for_display(result))
    explore.model.check([f"Gene{i}" for i in (0, 1, 3, 4, 5, 6)], only=True)
    wait_shown(qtbot, window)
    assert len(visible(window)) == 6
    check("result")
    click(qtbot, explore.views["side_by_side"])
    qtbot.waitUntil(lambda: len(visible(window, "side_by_side")) == 4, timeout=PATIENCE)
    check("side_by_side")
    explore.legend.set_style("Gene3", limits=(0.004, 0.709))
    viewer.window.resize(1366, 768)  # a small laptop's screen
    check("small")
    assert viewer.window._qt_window.height() <= 768
    assert {stage: texts for stage, texts in problems.items() if texts} == {}

    # The panel is inside the window, so that every control can be reached, if necessary by scrolling.
    assert viewer.window._qt_window.rect().contains(QRect(window.mapTo(window.window(), QPoint()), window.size()))
    picture = viewer.screenshot(canvas_only=True, flash=False)
    rows, cols = viewer.canvas.size
    assert picture.shape[:2] == pytest.approx((rows * scale, cols * scale), abs=2)  # full resolution of the screen


def test_texts_without_room_are_detected(widget: SRastWidget, qtbot: Any) -> None:
    widget.resize(420, 900)
    qtbot.wait(50)
    assert _cut_off(widget) == []
    bar, panel = widget.run_bar, widget.gene_panel
    bar.run.setFixedWidth(20)
    bar.status.setText("Nothing was changed. " * 9)
    bar.status.setFixedHeight(10)
    panel.filter.setFixedWidth(30)
    qtbot.wait(50)
    problems = " ".join(_cut_off(widget))
    for text in ("'Run'", "'Nothing was changed. Nothing", "'Filter genes'"):
        assert f"no room for {text}" in problems
    bar.run.move(bar.queue.pos())
    assert "overlap" in " ".join(_cut_off(widget))
    bar.run.move(bar.width(), 0)
    assert "exceeds" in " ".join(_cut_off(widget))


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_texts_and_mouse_at_double_resolution() -> None:
    """Run the tests in another process, because Qt reads the scale factor when it starts."""
    folder = Path(__file__).parent
    screen = ["xvfb-run", "-a", "-s", "-screen 0 3200x2000x24"] if shutil.which("xvfb-run") else []
    tests = [f"{__file__}::test_all_texts_fit", str(folder / "test_mouse.py")]
    done = subprocess.run(
        [*screen, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env={**os.environ, "QT_SCALE_FACTOR": "2", "PYTEST_ADDOPTS": ""},
        cwd=folder.parents[1],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "2 passed" in done.stdout
