from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.window import wait_ready
from qtpy.QtWidgets import QFileDialog

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide, SlideSource
from napari_srast.gui.export import write
from napari_srast.gui.panels import export
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("synthetic", [True, False])
def test_export_into_the_slide_is_disabled_for_synthetic_slides(
    synthetic: bool,
    widget: SRastWidget,
    make_slide: Callable[..., Slide],
    make_result: Callable[..., UpsampleResult],
) -> None:
    slide = dataclasses.replace(make_slide(), source=SlideSource(path="slide.zarr", synthetic=synthetic))
    controller = widget.controller
    controller.slides.show(LoadedSlide(slide=slide, source=None))
    controller.results.add_saved(controller.slides.current, prepare_for_display(make_result(slide)))
    assert widget.result_panel.export_panel.export_into.isEnabled() is not synthetic


@pytest.mark.parametrize(
    ("action", "chosen", "written"), [("export_image", "a", "a.ome.tif"), ("export_objects", "a.geojson", "a.geojson")]
)
def test_exports_for_other_programs_are_written_from_the_menu(
    action: str,
    chosen: str,
    written: str,
    widget: SRastWidget,
    make_result: Callable[..., UpsampleResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
) -> None:
    result = make_result()
    controller, panel = widget.controller, widget.result_panel.export_panel
    controller.slides.show(LoadedSlide(slide=result.slide, source=None))
    controller.results.add_saved(controller.slides.current, prepare_for_display(result))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / chosen), ""))
    getattr(panel, action).trigger()
    qtbot.waitUntil(lambda: (tmp_path / written).exists(), timeout=60_000)
    wait_ready(qtbot, widget)
    assert [path.name for path in tmp_path.iterdir() if path.name != "state"] == [written]


def test_contrast_changes_do_not_compute_the_quality_again_and_figures_have_limits_of_the_values(
    widget: SRastWidget,
    make_result: Callable[..., UpsampleResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
) -> None:
    result = make_result()
    result = dataclasses.replace(result, std=100 * result.counts)
    controller, panel = widget.controller, widget.result_panel.export_panel
    controller.slides.show(LoadedSlide(slide=result.slide, source=None))
    controller.results.add_saved(controller.slides.current, prepare_for_display(result))
    overlay = controller.results.overlay
    qtbot.waitUntil(lambda: bool(overlay.shown), timeout=60_000)
    (style,) = overlay.shown
    computed: list[Any] = []
    monkeypatch.setattr(export, "own_detail", lambda *_: computed.append(1) or {})
    overlay.set_style(style.gene, limits=(0.0, style.limits[1] / 2))
    assert not computed
    overlay.set_view("std")
    drawn: list[Any] = []
    monkeypatch.setattr(write, "write_figure", lambda *arguments, **_: drawn.extend(arguments[2]))
    panel.write_panels(tmp_path / "a.png", export.FigureOptions())
    wait_ready(qtbot, widget)
    assert [one.limits for one in drawn] == [style.limits]


def test_report_of_the_shown_genes_is_written_from_the_window(
    widget: SRastWidget,
    make_result: Callable[..., UpsampleResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: Any,
) -> None:
    result = make_result()
    controller, panel = widget.controller, widget.result_panel.export_panel
    assert not panel.report.isEnabled()
    controller.slides.show(LoadedSlide(slide=result.slide, source=None))
    controller.results.add_saved(controller.slides.current, prepare_for_display(result))
    overlay = controller.results.overlay
    qtbot.waitUntil(lambda: bool(overlay.shown), timeout=60_000)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "a"), ""))
    panel.report.click()
    assert not panel.report.isEnabled()
    wait_ready(qtbot, widget)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text.count("<h3>") == len(overlay.shown)
    assert f"<h3><bdi>{overlay.shown[0].gene}</bdi></h3>" in text
    assert widget.run_bar.status.text() == f"Saved to {tmp_path / 'a.html'}"
