"""The dock widget in a real window: real controls are pressed, and what they leave in the viewer is looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.window import PATIENCE, click, layer_names, open_slide, run, tick, use_fast_method, visible, wait_ready
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
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


@pytest.mark.contract(
    section="In the window",
    case="a region off the tissue; an output that exists; a path to nothing",
    response="the same, before anything runs where that can be known",
)
def test_from_slide_to_export(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = open_window()
    controller, viewer = window.controller, window.controller.viewer
    for control in (
        window.run_bar.run,
        window.run_bar.cancel,
        *window.region_panel.tools,
        window.result_panel.export_panel.export,
    ):
        assert not control.isEnabled()
        assert any(word in control.toolTip() for word in ("Open a slide first", "Nothing is running", "Run first"))

    slide = open_slide(qtbot, window, store)
    assert layer_names(window) == ["breast histology", "breast spots"]
    assert "36 spots" in window.slide_panel.about.text()

    tools = {"draw_rectangle": "add_rectangle", "draw_ellipse": "add_ellipse", "draw_polygon": "add_polygon"}
    for tool in window.region_panel.tools:
        click(qtbot, tool)
        region = viewer.layers.selection.active
        assert region.mode == tools.get(tool.objectName(), "add_polygon_lasso")
    region.add_rectangles(np.array([[-50.0, -50.0], [-50.0, 250.0], [250.0, 250.0], [250.0, -50.0]]))
    assert "9 of 36 spots" in window.region_panel.count.text()
    region.add_ellipses(np.array([[350.0, 350.0], [350.0, 550.0], [550.0, 550.0], [550.0, 350.0]]))
    assert "13 of 36 spots" in window.region_panel.count.text()

    panel = window.gene_panel
    qtbot.keyClicks(panel.filter, "gene1")
    assert panel.model.listed == ["Gene1", "Gene10", "Gene11"]
    tick(qtbot, panel.view, "Gene10")
    assert panel.model.checked == ["Gene10"]
    (tmp_path / "markers.csv").write_text("gene\nGene3\ngene4\nNOPE\n")
    panel.import_list(tmp_path / "markers.csv")
    assert panel.genes == ["Gene3", "Gene4", "Gene10"]
    assert "NOPE" in window.run_bar.status.text()
    qtbot.waitUntil(
        lambda: "13 spots" in window.run_bar.estimate.text() and "3 genes" in window.run_bar.estimate.text(),
        timeout=PATIENCE,
    )

    click(qtbot, window.settings_panel.advanced)
    use_fast_method(window)
    result = run(qtbot, window)
    assert list(result.genes) == ["Gene3", "Gene4", "Gene10"]
    np.testing.assert_array_equal(np.sort(result.raster.spots), np.flatnonzero(result.region.spots(slide)))
    assert visible(window) == ["Gene3", "Gene4", "Gene10"]
    assert window.tabs.currentWidget() is window.result_panel
    assert "All of the painted area was measured" not in window.result_panel.export_panel.quality.text()
    assert "conserved" in window.result_panel.export_panel.quality.text()

    explore, export_panel = window.result_panel, window.result_panel.export_panel
    tick(qtbot, explore.view, "Gene4")
    assert visible(window) == ["Gene3", "Gene10"]
    assert [row.name.text() for row in explore.legend.rows if row.style is not None] == ["Gene3", "Gene10"]
    click(qtbot, explore.views["before"])
    assert visible(window) == []
    assert viewer.layers["SRast measured spots"].visible
    click(qtbot, explore.views["after"])
    assert visible(window) == ["Gene3", "Gene10"]
    assert not explore.views["std"].isEnabled()
    assert "sample" in explore.views["std"].toolTip()
    explore.brightness.setValue(90)
    assert viewer.layers["SRast dimmer"].opacity == pytest.approx(0.1)
    viewer.layers.remove("Gene3")
    assert explore.model.checked == ["Gene10"]

    target = tmp_path / "out"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    for action, name in (
        (export_panel.export_store, "out.zarr"),
        (export_panel.export_h5ad, "out.h5ad"),
        (export_panel.export_csv, "out.csv"),
    ):
        action.trigger()
        assert not export_panel.export.isEnabled()
        wait_ready(qtbot, window)
        assert (tmp_path / name).exists(), window.run_bar.status.text()
    export_panel.export_store.trigger()
    wait_ready(qtbot, window)
    assert "exists already" in window.run_bar.status.text()
    export_panel.export_into.trigger()
    wait_ready(qtbot, window)
    assert "Saved" in window.run_bar.status.text()
    again = napari_srast.read_result(tmp_path / "out.zarr")
    np.testing.assert_allclose(again.counts.toarray(), result.counts.toarray())

    # The whole slide is asked for first.
    answers: list[str] = []
    reply = QMessageBox.StandardButton.No

    def question(parent: QWidget, title: str, text: str) -> QMessageBox.StandardButton:
        answers.append(text)
        return reply

    monkeypatch.setattr(QMessageBox, "question", question)
    window.tabs.setCurrentIndex(0)
    click(qtbot, window.region_panel.clear)
    assert "whole slide" in window.region_panel.count.text()
    qtbot.waitUntil(lambda: "36 spots" in window.run_bar.estimate.text(), timeout=PATIENCE)
    click(qtbot, window.run_bar.run)
    assert controller.tasks.state is AppState.READY
    assert "36 spots" in answers[0]
    reply = QMessageBox.StandardButton.Yes
    assert run(qtbot, window).region is None

    # Closed, nothing of it is left.
    window.tabs.setCurrentIndex(0)
    click(qtbot, window.slide_panel.close_slide)
    assert layer_names(window) == []
    assert controller.tasks.state is AppState.EMPTY
    assert not export_panel.export.isEnabled()
    assert not window.run_bar.run.isEnabled()


@pytest.mark.contract(
    section="In the window",
    case="a region off the tissue; an output that exists; a path to nothing",
    response="the same, before anything runs where that can be known",
)
@pytest.mark.contract(
    section="In the window",
    case="Cancel during a run or an export",
    response="nothing lands, nothing is left",
)
def test_cancel_errors_and_stale_runs(
    open_window: Callable[[], SRastWidget], qtbot: Any, skewed_slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = open_window()
    controller, viewer = window.controller, window.controller.viewer
    controller.slides.show(LoadedSlide(slide=skewed_slide, source=None))
    wait_ready(qtbot, window)
    assert "Synthetic, not a measurement" in window.slide_panel.about.text()
    assert viewer.canvas.overlays.text.text == "Synthetic slide"
    controller.regions.add(np.array([[-50, -50], [350, -50], [350, 350], [-50, 350]]))
    use_fast_method(window)
    true_steps, release, ended = api.upsample_steps, threading.Event(), threading.Event()

    def slow(*args: Any, should_stop: Callable[[], bool], **options: Any) -> Generator[Progress, None, Any]:
        yield Progress("align", 1, 4, 0.25)
        release.wait(20)  # deaf: as long as one large step takes
        try:
            if should_stop():
                raise Cancelled
            return (yield from true_steps(*args, **options))
        finally:
            ended.set()

    monkeypatch.setattr(api, "upsample_steps", slow)
    before = layer_names(window)
    click(qtbot, window.run_bar.run)
    qtbot.waitUntil(lambda: "fitting features 1 of 4" in window.run_bar.progress.format(), timeout=PATIENCE)
    assert not window.run_bar.run.isEnabled()
    assert "cancel it" in window.slide_panel.path.toolTip()
    start = time.monotonic()
    click(qtbot, window.run_bar.cancel)
    assert time.monotonic() - start < 1
    assert controller.tasks.state is AppState.READY
    assert window.run_bar.run.isEnabled()
    assert not window.run_bar.progress.isVisible()
    assert layer_names(window) == before

    # The next run lands although the canceled one is still winding down, and that one never does.
    monkeypatch.setattr(api, "upsample_steps", true_steps)
    kept = run(qtbot, window)
    release.set()
    assert ended.wait(60)
    qtbot.wait(100)
    assert controller.results.current is not None
    assert controller.results.current.result is kept

    # Errors are told in one sentence, and everything works again.
    def broken(*args: Any, **options: Any) -> Generator[Progress, None, Any]:
        yield Progress("align", 1, 4, 0.25)
        raise RuntimeError("the device ran out of memory")

    monkeypatch.setattr(api, "upsample_steps", broken)
    window.tabs.setCurrentIndex(0)
    click(qtbot, window.run_bar.run)
    wait_ready(qtbot, window)
    assert "ran out of memory" in window.run_bar.status.text()
    assert "ran out of memory" in notification_manager.records[-1].message
    assert controller.results.current.result is kept
    assert window.run_bar.run.isEnabled()
    monkeypatch.setattr(api, "upsample_steps", true_steps)

    # A region without spots, and settings that make no sense, stop the run before it starts.
    controller.regions.clear()
    controller.regions.add(np.array([[9000, 9000], [9100, 9000], [9100, 9100]]))
    assert "No spot is inside" in window.region_panel.count.text()
    qtbot.waitUntil(lambda: not window.run_bar.run.isEnabled(), timeout=PATIENCE)
    assert "encloses no spot" in window.run_bar.run.toolTip()
    controller.regions.clear()
    window.open_path("/nowhere/slide.zarr")
    wait_ready(qtbot, window)
    assert "There is no slide at" in window.run_bar.status.text()
    assert controller.slides.slide is skewed_slide

    # Switching coordinate systems moves slide, region and result together.
    controller.regions.add(np.array([[-50, -50], [350, -50], [350, 350], [-50, 350]]))
    inside = controller.regions.n_spots_inside()
    for system in ("skewed", "turned", "global"):
        chooser = window.slide_panel.coordinate_system
        chooser.setCurrentIndex(chooser.findData(system))
        chooser.activated.emit(chooser.currentIndex())
        assert controller.regions.n_spots_inside() == inside
        gene = next(layer for layer in viewer.layers if role_of(layer) == "gene")
        corner = np.array(gene.data_to_world((-0.5, -0.5)))[::-1]
        affine = skewed_slide.transforms[system] @ kept.raster.affine
        np.testing.assert_allclose(corner, affine[:2, 2], atol=1e-3)
        in_micrometers = controller.slides.slide.cs_scale == 1
        assert window.settings_panel.pixel_size.native.suffix() == (" um" if in_micrometers else "")
    window.result_panel.hide_all.click()
    assert "No gene is shown" in window.result_panel.meaning.text()


def test_every_control_has_a_tooltip_and_every_tooltip_a_control(open_window: Callable[[], SRastWidget]) -> None:
    window = open_window()
    found = set()
    for control in window.findChildren(_CONTROLS):
        name = control.objectName()
        if _is_part_of_another(control, window):
            continue
        assert name in TOOLTIPS, f"{type(control).__name__} '{name}' in {control.parentWidget()}"
        assert control.toolTip()
        found.add(name)
    assert found == set(TOOLTIPS)


def _is_part_of_another(control: QWidget, window: QWidget) -> bool:
    """Tell Qt's own inner parts (the text field of a spin box, a scroll bar, the arrows of tabs) from controls."""
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
def test_the_window_closes_during_a_run(
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
    widget.controller.regions.add(np.array([[-50, -50], [350, -50], [350, 350], [-50, 350]]))
    click(qtbot, widget.run_bar.run)
    qtbot.waitUntil(started.is_set, timeout=PATIENCE)
    widget.controller.viewer.close()
    assert ended.wait(60)
    qtbot.wait(50)


def test_nothing_private_of_napari_is_used_and_samples_are_adopted(
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
    widget.controller.regions.add(np.array([[-50, -50], [350, -50], [350, 350], [-50, 350]]))
    use_fast_method(widget)
    widget.gene_panel.model.check(["Gene0", "Gene1"])
    widget.run_bar.run.click()
    wait_ready(qtbot, widget)
    qtbot.waitUntil(lambda: len(visible(widget)) == 2, timeout=PATIENCE)
    widget.result_panel.views["before"].click()
    widget.controller.shutdown()


def test_a_slide_on_show_is_used_and_not_shown_twice(
    make_napari_viewer: Callable[..., Any], qtbot: Any, store: Path
) -> None:
    import spatialdata
    from spatialdata.transformations import Affine, set_transformation

    sdata = spatialdata.read_zarr(store)
    turned = Affine(np.array([[0.0, -1, 5], [1, 0, 7], [0, 0, 1]]), input_axes=("x", "y"), output_axes=("x", "y"))
    image_name = next(iter(sdata.images))
    for name in ("spots", image_name):
        set_transformation(sdata[name], turned, "turned")
    viewer = make_napari_viewer()
    theirs = viewer.add_image(
        np.zeros((10, 10, 3), dtype=np.uint8),
        name="theirs",
        metadata={"sdata": sdata, "name": image_name, "_current_cs": "global", "_active_in_cs": {"global"}},
    )
    widget = SRastWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    assert widget.slide_panel.use_shown.isVisible()
    widget.slide_panel.use_shown.click()
    wait_ready(qtbot, widget)
    assert layer_names(widget) == ["theirs", "breast spots"]
    theirs.metadata["_current_cs"] = "turned"
    theirs.affine = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # as napari-spatialdata's own switch does
    assert widget.controller.slides.slide is not None
    assert widget.controller.slides.slide.coordinate_system == "turned"
    assert widget.slide_panel.coordinate_system.currentData() == "turned"
    assert set(theirs.metadata) == {"sdata", "name", "_current_cs", "_active_in_cs"}
    widget.controller.shutdown()
