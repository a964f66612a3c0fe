from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.window import wait_ready, wait_shown
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QFileDialog, QWidget

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.export.panel_figure import FigureOptions
from napari_srast.gui.panels.figure_dialog import FigureDialog
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def test_dialog_gives_the_chosen_layout_and_requires_a_panel(qtbot: Any) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    dialog = FigureDialog(parent, FigureOptions(brightness=0.5, scale="log", smooth=True))
    assert dialog.options() == FigureOptions(brightness=0.5, scale="log", smooth=True)
    qtbot.keyClicks(dialog.title, "Section C4")
    dialog.dpi.setValue(600)
    dialog.views["measured"].click()
    dialog.overview.click()
    assert dialog.options() == FigureOptions(
        views=("counts", "expression"),
        title="Section C4",
        dpi=600,
        brightness=0.5,
        scale="log",
        smooth=True,
        overview=False,
    )
    save = dialog.buttons.button(QDialogButtonBox.StandardButton.Save)
    assert save.isEnabled()
    dialog.views["counts"].click()
    dialog.views["expression"].click()
    assert not save.isEnabled()


def test_figure_is_written_from_the_menu(
    widget: SRastWidget,
    qtbot: Any,
    skewed_slide: Slide,
    make_result: Callable[..., UpsampleResult],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    controller, panel = widget.controller, widget.result_panel.export_panel
    controller.slides.show(LoadedSlide(slide=skewed_slide, source=None))
    wait_ready(qtbot, widget)
    controller.results.add_saved(controller.slides.current, prepare_for_display(make_result(skewed_slide)))
    wait_shown(qtbot, widget)
    path, asked = tmp_path / "figure.svg", []
    monkeypatch.setattr(FigureDialog, "exec", lambda _: QDialog.DialogCode.Accepted)

    def answer(_: QWidget, title: str, suggested: str, kinds: str) -> tuple[str, str]:
        asked.append((suggested, kinds))
        return str(path.with_suffix("")), "SVG (*.svg)"

    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    panel.export_panels.trigger()
    assert controller.tasks.state is AppState.EXPORTING
    assert widget.run_bar.cancel.isEnabled()
    assert widget.run_bar.progress.format() == "writing"
    wait_ready(qtbot, widget)
    assert f"Saved to {path}" in widget.run_bar.status.text()
    gene = controller.results.overlay.shown[0].gene
    assert f">{gene}<" in path.read_text(encoding="utf-8")
    assert asked == [(str(Path.home() / f"Synthetic_slide_{gene}.png"), "PNG (*.png);;PDF (*.pdf);;SVG (*.svg)")]
    written = path.read_bytes()
    panel.export_panels.trigger()  # the dialog did not ask whether to replace the file with the completed name
    assert "exists already" in widget.run_bar.status.text()
    assert controller.tasks.state is AppState.READY
    assert path.read_bytes() == written
