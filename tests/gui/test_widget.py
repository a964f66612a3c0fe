"""The dock widget: controls are clicked, and the viewer and the files are checked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.window import (
    PATIENCE,
    SQUARE,
    click,
    layer_names,
    open_slide,
    run,
    tick,
    use_fast_method,
    visible,
    wait_ready,
)
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFileDialog,
    QHeaderView,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QScrollBar,
    QTabBar,
    QTabWidget,
    QWidget,
)

import napari_srast
from napari_srast import api
from napari_srast.core.progress import Progress
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget
from napari_srast.gui.widgets.tooltips import TOOLTIPS

pytestmark = pytest.mark.gui
SIXTEEN = np.array([[-50, -50], [350, -50], [350, 350], [-50, 350]])
"""Sixteen spots of the synthetic slide."""
_CONTROLS: Any = (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QProgressBar,
    QTabWidget,
)


def _open_synthetic(qtbot: Any, widget: SRastWidget, slide: Slide) -> None:
    """Open a slide in memory, draw a region of 16 spots and choose the uniform split."""
    widget.controller.slides.show(LoadedSlide(slide=slide, source=None))
    wait_ready(qtbot, widget)
    widget.controller.regions.add(SIXTEEN)
    use_fast_method(widget)


@pytest.fixture
def result(widget: SRastWidget, qtbot: Any, store: Path) -> Any:
    """Result of nine spots and three genes in the widget without a canvas."""
    open_slide(qtbot, widget, store)
    widget.controller.regions.add(SQUARE)
    widget.gene_panel.model.check(["Gene3", "Gene4", "Gene10"])
    use_fast_method(widget)
    return run(qtbot, widget)


def test_from_slide_to_result_on_the_canvas(open_window: Callable[[], SRastWidget], qtbot: Any, store: Path) -> None:
    window = open_window()
    viewer = window.controller.viewer
    slide = open_slide(qtbot, window, store)
    assert layer_names(window) == ["breast histology", "breast spots"]
    assert "36 spots" in window.slide_panel.about.text()

    modes = {"draw_rectangle": "add_rectangle", "draw_ellipse": "add_ellipse", "draw_polygon": "add_polygon"}
    for tool in window.region_panel.tools:
        click(qtbot, tool)
        region = viewer.layers.selection.active
        assert region.mode == modes.get(tool.objectName(), "add_polygon_lasso")
    region.add_rectangles(np.array([[-50.0, -50.0], [-50.0, 250.0], [250.0, 250.0], [250.0, -50.0]]))
    assert "9 of 36 spots" in window.region_panel.count.text()
    region.add_ellipses(np.array([[350.0, 350.0], [350.0, 550.0], [550.0, 550.0], [550.0, 350.0]]))
    assert "13 of 36 spots" in window.region_panel.count.text()

    window.gene_panel.model.check(["Gene3", "Gene4", "Gene10"])
    click(qtbot, window.settings_panel.advanced)
    use_fast_method(window)
    result = run(qtbot, window)
    assert list(result.genes) == ["Gene3", "Gene4", "Gene10"]
    np.testing.assert_array_equal(np.sort(result.raster.spots), np.flatnonzero(result.region.spots(slide)))
    assert visible(window) == ["Gene3", "Gene4", "Gene10"]
    assert window.tabs.currentWidget() is window.result_panel
    quality = window.result_panel.export_panel.quality.text()
    assert "conserved" in quality
    assert "The whole area was measured" in quality  # a gapless square lattice is one of bins


def test_controls_need_a_slide(widget: SRastWidget) -> None:
    for control, reason in (
        (widget.run_bar.run, "Open a slide first"),
        (widget.run_bar.cancel, "Nothing is running"),
        *((tool, "Open a slide first") for tool in widget.region_panel.tools),
        (widget.result_panel.export_panel.export, "Run first"),
    ):
        assert not control.isEnabled()
        assert reason in control.toolTip()


def test_genes_are_filtered_ticked_and_imported(widget: SRastWidget, qtbot: Any, store: Path, tmp_path: Path) -> None:
    open_slide(qtbot, widget, store)
    widget.controller.regions.add(SQUARE)
    panel = widget.gene_panel
    qtbot.keyClicks(panel.filter, "gene1")
    assert sorted(panel.model.listed) == ["Gene1", "Gene10", "Gene11"]
    tick(qtbot, panel.view, "Gene10")
    assert panel.model.checked == ["Gene10"]
    (tmp_path / "markers.csv").write_text("gene\nGene3\ngene4\nNOPE\n")
    panel.import_list(tmp_path / "markers.csv")
    assert panel.genes == ["Gene3", "Gene4", "Gene10"]
    assert "NOPE" in widget.run_bar.status.text()
    estimate = widget.run_bar.estimate
    qtbot.waitUntil(lambda: "9 spots" in estimate.text() and "3 genes" in estimate.text(), timeout=PATIENCE)


@pytest.mark.usefixtures("result")
def test_genes_and_views_of_a_result_are_switched(widget: SRastWidget, qtbot: Any) -> None:
    layers, explore = widget.controller.viewer.layers, widget.result_panel
    tick(qtbot, explore.view, "Gene4")
    assert visible(widget) == ["Gene3", "Gene10"]
    rows = [row for row in explore.legend.rows if row.style is not None]
    assert [row.name.text() for row in rows] == ["Gene3", "Gene10"]
    click(qtbot, explore.views["before"])
    assert visible(widget) == []
    assert layers["SRast measured spots"].visible
    click(qtbot, explore.views["after"])
    assert visible(widget) == ["Gene3", "Gene10"]
    assert not explore.views["std"].isEnabled()
    assert "sample" in explore.views["std"].toolTip()
    explore.brightness.setValue(90)
    assert layers["SRast backdrop"].opacity == pytest.approx(0.25)  # the colors of the histology become visible
    layers.remove("Gene3")
    assert explore.model.checked == ["Gene10"]
    click(qtbot, explore.hide_all)
    assert "No gene is shown" in explore.meaning.text()


@pytest.mark.contract(
    section="In the window",
    case="a region without spots; an output that exists; a path that does not exist",
    response="the same; a problem that is known before the run disables Run",
)
def test_result_is_exported_in_all_formats(
    widget: SRastWidget, qtbot: Any, result: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = widget.result_panel.export_panel
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "out"), ""))
    for action, name in (
        (panel.export_store, "out.zarr"),
        (panel.export_h5ad, "out.h5ad"),
        (panel.export_csv, "out.csv"),
    ):
        action.trigger()
        assert not panel.export.isEnabled()
        wait_ready(qtbot, widget)
        assert (tmp_path / name).exists(), widget.run_bar.status.text()
    panel.export_store.trigger()
    wait_ready(qtbot, widget)
    assert "exists already" in widget.run_bar.status.text()
    panel.export_into.trigger()
    wait_ready(qtbot, widget)
    assert "Saved" in widget.run_bar.status.text()
    again = napari_srast.read_result(tmp_path / "out.zarr")
    np.testing.assert_allclose(again.counts.toarray(), result.counts.toarray())


def test_the_whole_slide_needs_confirmation(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[str] = []
    reply = QMessageBox.StandardButton.No

    def question(parent: QWidget, title: str, text: str) -> QMessageBox.StandardButton:
        questions.append(text)
        return reply

    monkeypatch.setattr(QMessageBox, "question", question)
    open_slide(qtbot, widget, store)
    use_fast_method(widget)
    assert "whole slide" in widget.region_panel.count.text()
    qtbot.waitUntil(lambda: "36 spots" in widget.run_bar.estimate.text(), timeout=PATIENCE)
    click(qtbot, widget.run_bar.run)
    assert widget.controller.tasks.state is AppState.READY
    assert "36 spots" in questions[0]
    reply = QMessageBox.StandardButton.Yes
    assert run(qtbot, widget).region is None


def test_estimate_has_the_pixels_of_the_run(
    widget: SRastWidget, qtbot: Any, make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_srast.gui.panels import run_estimate

    widget.controller.slides.show(LoadedSlide(slide=make_slide(rows=9, cols=8, lattice="hex"), source=None))
    wait_ready(qtbot, widget)
    use_fast_method(widget)
    widget.controller.regions.add(SQUARE)
    widget.gene_panel.model.check(["Gene3"])
    for counted_at_once in (20_000, 0):  # in the GUI thread, and in the background
        monkeypatch.setattr(run_estimate, "_COUNTED_AT_ONCE", counted_at_once)
        widget.settings_panel.factor.value += 1
        qtbot.waitUntil(lambda: "about" not in widget.run_bar.estimate.text().split(":")[0], timeout=PATIENCE)
        qtbot.wait(300)
        text = widget.run_bar.estimate.text()
        assert f"{run(qtbot, widget).n_pixels:,} pixels, 1 gene: " in text
        widget.tabs.setCurrentIndex(0)


def _answer(qtbot: Any, wanted: str) -> list[str]:
    """Press a button of the next question; return its buttons, once it is open."""
    titles: list[str] = []

    def press() -> None:
        box = QApplication.activeModalWidget()
        assert isinstance(box, QMessageBox)
        titles.append(box.text())
        titles.extend(button.text() for button in box.buttons())
        click(qtbot, next(button for button in box.buttons() if button.text().replace("&", "").startswith(wanted)))

    QTimer.singleShot(300, press)
    return titles


def test_long_run_asks_first_and_offers_quick_ones(
    widget: SRastWidget, qtbot: Any, skewed_slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_srast.gui.state import run_estimate

    monkeypatch.setattr(run_estimate, "LONG_SECONDS", 60.0)
    monkeypatch.setattr("napari_srast.gui.panels.run_estimate.LONG_SECONDS", 60.0)
    monkeypatch.setattr(run_estimate, "_FEW_GENES", 2)
    submitted: list[Any] = []
    monkeypatch.setattr(widget.controller.runs, "submit", lambda *given: submitted.append(given))
    widget.controller.slides.show(LoadedSlide(slide=skewed_slide, source=None))
    wait_ready(qtbot, widget)
    panel = widget.settings_panel
    panel.mode.value, panel.factor.value, panel.draws.value = "sample", 40, 200
    titles = _answer(qtbot, "Cancel")
    click(qtbot, widget.run_bar.run)
    assert "takes about" in titles[0]
    assert not submitted
    assert any(title.startswith("Mode mean: ") for title in titles)
    _answer(qtbot, "Draw a region")
    click(qtbot, widget.run_bar.run)
    assert widget.controller.regions.layer.mode == "add_rectangle"
    assert not submitted
    _answer(qtbot, "Mode mean")
    click(qtbot, widget.run_bar.run)
    (given,) = submitted
    assert given[1].mode == panel.mode.value == "mean"
    panel.mode.value = "sample"
    _answer(qtbot, "Run anyway")
    click(qtbot, widget.run_bar.run)
    assert submitted[1][1].mode == "sample"


def test_error_report_is_offered_until_the_next_success(
    widget: SRastWidget, qtbot: Any, skewed_slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    _open_synthetic(qtbot, widget, skewed_slide)
    true_steps = api.upsample_steps

    def broken(*args: Any, **options: Any) -> Generator[Progress, None, Any]:
        yield Progress("align", 1, 4, 0.25)
        raise RuntimeError("boom")

    monkeypatch.setattr(api, "upsample_steps", broken)
    click(qtbot, widget.run_bar.run)
    wait_ready(qtbot, widget)
    assert widget.run_bar.report.isVisible()
    click(qtbot, widget.run_bar.report)
    assert "RuntimeError" in QApplication.clipboard().text()
    assert widget.run_bar.report.isVisible()
    monkeypatch.setattr(api, "upsample_steps", true_steps)
    run(qtbot, widget)
    assert not widget.run_bar.report.isVisible()


@pytest.mark.usefixtures("result")
def test_closing_the_slide_removes_all_layers(widget: SRastWidget, qtbot: Any) -> None:
    widget.tabs.setCurrentIndex(0)
    click(qtbot, widget.slide_panel.close_slide)
    assert layer_names(widget) == []
    assert widget.controller.tasks.state is AppState.EMPTY
    assert not widget.result_panel.export_panel.export.isEnabled()
    assert not widget.run_bar.run.isEnabled()


@pytest.mark.contract(
    section="In the window",
    case="Cancel during a run or an export",
    response="no result is added, no file is left",
)
def test_a_canceled_run_has_no_effect(
    widget: SRastWidget, qtbot: Any, skewed_slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    _open_synthetic(qtbot, widget, skewed_slide)
    assert "Synthetic, not a measurement" in widget.slide_panel.about.text()
    assert widget.controller.viewer.canvas.overlays.text.text == "Synthetic slide"
    true_steps, release, ended = api.upsample_steps, threading.Event(), threading.Event()

    def unresponsive(*args: Any, should_stop: Callable[[], bool], **options: Any) -> Generator[Progress, None, Any]:
        yield Progress("align", 1, 4, 0.25)
        release.wait(20)  # should_stop is not checked during one long step
        try:
            if should_stop():
                raise Cancelled
            return (yield from true_steps(*args, **options))
        finally:
            ended.set()

    monkeypatch.setattr(api, "upsample_steps", unresponsive)
    before = layer_names(widget)
    click(qtbot, widget.run_bar.run)
    qtbot.waitUntil(lambda: "fitting features 1 of 4" in widget.run_bar.progress.format(), timeout=PATIENCE)
    assert not widget.run_bar.run.isEnabled()
    assert "cancel it" in widget.slide_panel.path.toolTip()
    start = time.monotonic()
    click(qtbot, widget.run_bar.cancel)
    assert time.monotonic() - start < 1
    assert widget.controller.tasks.state is AppState.READY
    assert widget.run_bar.run.isEnabled()
    assert not widget.run_bar.progress.isVisible()
    assert layer_names(widget) == before

    # The next run is displayed although the canceled run has not ended, and the canceled run is not displayed.
    monkeypatch.setattr(api, "upsample_steps", true_steps)
    result = run(qtbot, widget)
    release.set()
    assert ended.wait(60)
    qtbot.wait(100)
    assert widget.controller.results.current is not None
    assert widget.controller.results.current.result is result


def test_the_error_of_a_run_keeps_the_previous_result(
    widget: SRastWidget, qtbot: Any, skewed_slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    _open_synthetic(qtbot, widget, skewed_slide)
    result = run(qtbot, widget)

    def broken(*args: Any, **options: Any) -> Generator[Progress, None, Any]:
        yield Progress("align", 1, 4, 0.25)
        raise RuntimeError("the device ran out of memory")

    monkeypatch.setattr(api, "upsample_steps", broken)
    widget.tabs.setCurrentIndex(0)
    click(qtbot, widget.run_bar.run)
    wait_ready(qtbot, widget)
    assert "ran out of memory" in widget.run_bar.status.text()
    assert "ran out of memory" in notification_manager.records[-1].message
    assert widget.controller.results.current.result is result
    assert widget.run_bar.run.isEnabled()


@pytest.mark.contract(
    section="In the window",
    case="a region without spots; an output that exists; a path that does not exist",
    response="the same; a problem that is known before the run disables Run",
)
def test_a_run_needs_spots_and_a_path_needs_a_slide(widget: SRastWidget, qtbot: Any, skewed_slide: Slide) -> None:
    _open_synthetic(qtbot, widget, skewed_slide)
    widget.controller.regions.clear()
    widget.controller.regions.add(np.array([[9000, 9000], [9100, 9000], [9100, 9100]]))
    assert "No spot is inside" in widget.region_panel.count.text()
    qtbot.waitUntil(lambda: not widget.run_bar.run.isEnabled(), timeout=PATIENCE)
    assert "encloses no spot" in widget.run_bar.run.toolTip()
    widget.open_path("/nowhere/slide.zarr")
    wait_ready(qtbot, widget)
    assert "There is no slide at" in widget.run_bar.status.text()
    assert widget.controller.slides.slide is skewed_slide


def test_the_coordinate_system_moves_slide_region_and_result(
    widget: SRastWidget, qtbot: Any, skewed_slide: Slide
) -> None:
    _open_synthetic(qtbot, widget, skewed_slide)
    controller = widget.controller
    result = run(qtbot, widget)
    n_inside = controller.regions.n_spots_inside()
    for system in ("skewed", "turned", "global"):
        chooser = widget.slide_panel.coordinate_system
        chooser.setCurrentIndex(chooser.findData(system))
        chooser.activated.emit(chooser.currentIndex())
        assert controller.regions.n_spots_inside() == n_inside
        gene = next(layer for layer in controller.viewer.layers if role_of(layer) == "gene")
        corner = np.array(gene.data_to_world((-0.5, -0.5)))[::-1]
        affine = skewed_slide.transforms[system] @ result.raster.affine
        np.testing.assert_allclose(corner, affine[:2, 2], atol=1e-3)
        in_micrometers = controller.slides.slide.cs_scale == 1
        assert widget.settings_panel.pixel_size.native.suffix() == (" um" if in_micrometers else "")


def test_controls_and_tooltips_match(open_window: Callable[[], SRastWidget]) -> None:
    window = open_window()
    names = set()
    for control in window.findChildren(_CONTROLS):
        name = control.objectName()
        if _is_part_of_another(control, window):
            continue
        assert name in TOOLTIPS, f"{type(control).__name__} '{name}' in {control.parentWidget()}"
        assert control.toolTip()
        names.add(name)
    assert names == set(TOOLTIPS)


def _is_part_of_another(control: QWidget, window: QWidget) -> bool:
    """Return whether a widget is an inner part of a Qt control, such as the text field of a spin box."""
    if isinstance(control, QScrollBar | QHeaderView):
        return True
    parent = control.parentWidget()
    while parent is not None and parent is not window:
        if isinstance(parent, QComboBox | QAbstractSpinBox | QAbstractItemView | QLineEdit | QTabBar):
            return True
        parent = parent.parentWidget()
    return False


@pytest.mark.contract(
    section="In the window",
    case="the viewer closes during a run",
    response="the run ends",
)
def test_closing_the_window_cancels_the_run(
    open_window: Callable[[], SRastWidget], qtbot: Any, skewed_slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = open_window()
    started, ended = threading.Event(), threading.Event()

    def slow(*args: Any, should_stop: Callable[[], bool], **options: Any) -> Generator[Progress, None, None]:
        started.set()
        try:
            while not should_stop():
                yield Progress("align", 1, 4, 0.25)
                time.sleep(0.01)
        finally:
            ended.set()
        raise Cancelled

    monkeypatch.setattr(api, "upsample_steps", slow)
    widget.controller.slides.show(LoadedSlide(slide=skewed_slide, source=None))
    wait_ready(qtbot, widget)
    widget.controller.regions.add(SIXTEEN)
    click(qtbot, widget.run_bar.run)
    qtbot.waitUntil(started.is_set, timeout=PATIENCE)
    widget.controller.viewer.close()
    assert ended.wait(60)
    qtbot.wait(50)


def test_sample_layers_are_adopted_without_private_napari_api(
    make_napari_viewer_proxy: Callable[..., Any], qtbot: Any, skewed_slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.layers import Layer

    from napari_srast.gui.sample import sample_layers

    viewer = make_napari_viewer_proxy()
    widget = SRastWidget(viewer)
    qtbot.addWidget(widget)
    monkeypatch.setattr("napari_srast.datasets.synthetic_colon.synthetic_colon", lambda: skewed_slide)
    for data in sample_layers():
        viewer.add_layer(Layer.create(*data))
    assert widget.controller.slides.slide is skewed_slide
    assert len(viewer.layers) == 2
    widget.controller.regions.add(SIXTEEN)
    use_fast_method(widget)
    widget.gene_panel.model.check(["Gene0", "Gene1"])
    widget.run_bar.run.click()
    wait_ready(qtbot, widget)
    qtbot.waitUntil(lambda: len(visible(widget)) == 2, timeout=PATIENCE)
    widget.result_panel.views["before"].click()
    widget.controller.shutdown()


def test_layers_of_napari_spatialdata_are_used(make_napari_viewer: Callable[..., Any], qtbot: Any, store: Path) -> None:
    import spatialdata
    from spatialdata.transformations import Affine, set_transformation

    sdata = spatialdata.read_zarr(store)
    turned = Affine(np.array([[0.0, -1, 5], [1, 0, 7], [0, 0, 1]]), input_axes=("x", "y"), output_axes=("x", "y"))
    image_name = next(iter(sdata.images))
    for name in ("spots", image_name):
        set_transformation(sdata[name], turned, "turned")
    viewer = make_napari_viewer()
    external = viewer.add_image(
        np.zeros((10, 10, 3), dtype=np.uint8),
        name="external",
        metadata={"sdata": sdata, "name": image_name, "_current_cs": "global", "_active_in_cs": {"global"}},
    )
    widget = SRastWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    assert widget.slide_panel.use_shown.isVisible()
    widget.slide_panel.use_shown.click()
    wait_ready(qtbot, widget)
    assert layer_names(widget) == ["external", "breast spots"]
    external.metadata["_current_cs"] = "turned"
    external.affine = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # as napari-spatialdata does on a switch
    assert widget.controller.slides.slide is not None
    assert widget.controller.slides.slide.coordinate_system == "turned"
    assert widget.slide_panel.coordinate_system.currentData() == "turned"
    assert set(external.metadata) == {"sdata", "name", "_current_cs", "_active_in_cs"}
    widget.controller.shutdown()
