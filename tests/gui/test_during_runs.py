"""Actions during a run or an export, and slides that were open before the dock widget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
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
    press,
    run,
    use_fast_method,
    wait_ready,
    wait_shown,
)
from qtpy.QtGui import QCloseEvent, QHideEvent
from qtpy.QtWidgets import QToolButton

from napari_srast import api
from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.cursor_readout import PixelReadout
from napari_srast.gui.sample import sample_layers
from napari_srast.gui.state.gene_values import ValueView
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget
from napari_srast.io import result_writer

pytestmark = pytest.mark.gui


def open_with_result(open_window: Callable[[], SRastWidget], qtbot: Any, store: Path) -> SRastWidget:
    """Return a window with a slide, a region and the result of a run."""
    window = open_window()
    open_slide(qtbot, window, store)
    use_fast_method(window)
    window.controller.regions.add(SQUARE)
    window.gene_panel.model.check(["Gene3"])
    run(qtbot, window)
    window.tabs.setCurrentIndex(0)
    return window


@pytest.fixture
def release_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An event: while it is cleared, runs do not finish."""
    true_steps, release = api.upsample_steps, threading.Event()
    release.set()

    def slow(*args: Any, should_stop: Callable[[], bool], **options: Any) -> Any:
        yield api.Progress("align", 1, 4, 0.25)
        while not (release.wait(0.02) or should_stop()):
            pass
        return (yield from true_steps(*args, should_stop=should_stop, **options))

    monkeypatch.setattr(api, "upsample_steps", slow)
    yield release
    release.set()


def test_export_is_refused_during_a_run_and_no_run_is_lost(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    store: Path,
    release_runs: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    ready = open_with_result(open_window, qtbot, store)
    release_runs.clear()
    menus: list[object] = []
    monkeypatch.setattr(QToolButton, "showMenu", menus.append)
    click(qtbot, ready.run_bar.run)
    click(qtbot, ready.run_bar.queue)
    press(ready, "Alt+E")
    assert menus == []
    ready.controller.results.export(tmp_path / "out.zarr")
    assert "A run is in progress" in ready.run_bar.status.text()
    assert ready.controller.tasks.state is AppState.RUNNING
    release_runs.set()
    qtbot.waitUntil(lambda: len(ready.controller.results.all) == 3, timeout=PATIENCE)
    assert ready.controller.runs.waiting == []
    assert not (tmp_path / "out.zarr").exists()


def test_run_submitted_during_an_export_starts_after_it(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ready = open_with_result(open_window, qtbot, store)
    begun, release, true_write = threading.Event(), threading.Event(), result_writer.write_result

    def slow(*args: Any, **options: Any) -> Any:
        begun.set()
        release.wait(60)
        return true_write(*args, **options)

    monkeypatch.setattr(result_writer, "write_result", slow)
    ready.controller.results.export(tmp_path / "out.zarr")
    qtbot.waitUntil(begun.is_set, timeout=PATIENCE)
    ready.controller.runs.submit(["Gene0"], ready.settings_panel.settings())
    assert "Run queued" in ready.run_bar.status.text()
    release.set()
    qtbot.waitUntil(lambda: len(ready.controller.results.all) == 2, timeout=PATIENCE)
    assert ready.controller.runs.waiting == []
    assert (tmp_path / "out.zarr").exists()


def test_run_continues_if_the_user_does_not_close_the_window(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, release_runs: threading.Event
) -> None:
    ready = open_with_result(open_window, qtbot, store)
    release_runs.clear()
    click(qtbot, ready.run_bar.run)
    ready.eventFilter(ready.window(), QCloseEvent())  # napari asks for confirmation, and the user declines
    qtbot.wait(50)
    assert ready.controller.tasks.state is AppState.RUNNING
    ready.eventFilter(ready.window(), QHideEvent())  # the user confirms
    assert ready.controller.tasks.state is AppState.READY
    assert len(ready.controller.results.all) == 1


def test_added_result_does_not_interrupt_drawing(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, release_runs: threading.Event
) -> None:
    ready = open_with_result(open_window, qtbot, store)
    release_runs.clear()
    controller = ready.controller
    controller.regions.draw("rectangle")
    click(qtbot, ready.run_bar.run)
    layer = controller.regions.layer
    assert layer is not None
    assert layer.mode == "pan_zoom"  # the drawn region is being run
    controller.regions.draw("polygon")
    release_runs.set()
    qtbot.waitUntil(lambda: len(controller.results.all) == 2, timeout=PATIENCE)
    wait_shown(qtbot, ready)
    assert layer.mode == "add_polygon"
    assert ready.tabs.currentIndex() == 0
    controller.regions.stop_drawing()
    run(qtbot, ready)
    assert ready.tabs.currentIndex() == 1


def test_choosing_another_image_keeps_the_results(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path
) -> None:
    ready = open_with_result(open_window, qtbot, store)
    controller, box = ready.controller, ready.slide_panel.image
    before, region = box.currentText(), controller.regions.region()
    box.textActivated.emit(before)
    assert controller.tasks.state is AppState.READY

    def choose(name: str) -> None:
        box.setCurrentText(name)
        box.textActivated.emit(name)

    choose("none")
    assert controller.tasks.state is AppState.OPENING
    controller.runs.cancel()
    assert box.currentText() == before  # the image that is still in use
    assert len(controller.results.all) == 1
    choose("none")
    wait_ready(qtbot, ready)
    assert controller.slides.slide is not None
    assert controller.slides.slide.image is None
    assert (controller.results.all, controller.regions.region()) == ([], None)
    choose(before)
    wait_ready(qtbot, ready)
    assert controller.slides.slide.image is not None
    assert len(controller.results.all) == 1
    assert controller.regions.region() == region


def test_camera_shows_each_slide_even_if_slides_are_far_apart(
    open_window: Callable[[], SRastWidget], qtbot: Any, make_slide: Callable[..., Slide]
) -> None:
    window = open_window()
    camera = window.controller.viewer.scene.camera
    far = make_slide(6, 6, seed=2)
    far = Slide(**{**{f: getattr(far, f) for f in far.__dataclass_fields__}, "centers": far.centers + 1e5})
    zooms = []
    for slide in (make_slide(6, 6, seed=1), far):
        window.controller.slides.show(LoadedSlide(slide=slide, source=None))
        wait_ready(qtbot, window)
        zooms.append(camera.zoom)
        np.testing.assert_allclose(np.array(camera.center)[-2:][::-1], slide.centers.mean(axis=0), atol=100)
    assert zooms[1] == pytest.approx(zooms[0], rel=0.1)
    window.controller.slides.switch(window.controller.slides.sessions[0])
    assert camera.center[-1] < 1000


def test_widget_adopts_a_slide_that_is_already_in_the_viewer(
    make_napari_viewer: Callable[..., Any], qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    for data, options, kind in sample_layers():
        getattr(viewer, f"add_{kind}")(data, **options)
    names = [layer.name for layer in viewer.layers]
    window = SRastWidget(viewer)
    qtbot.addWidget(window)
    wait_ready(qtbot, window)
    assert window.controller.slides.slide is not None
    assert window.controller.slides.slide.source.synthetic
    assert "No slide" not in window.slide_panel.about.text()
    assert layer_names(window) == names
    window.controller.shutdown()


def test_cursor_readout_in_before_view_reads_the_compared_result(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path
) -> None:
    ready = open_with_result(open_window, qtbot, store)
    controller = ready.controller
    ready.settings_panel.method.value = "bilinear"
    run(qtbot, ready)
    uniform, bilinear = controller.results.all
    controller.results.compare_with(uniform)
    controller.results.overlay.set_view("before")
    controller.results.overlay.set_values(ValueView(quantity="counts"))
    readouts: list[PixelReadout] = []
    controller.results.cursor_readout_changed.connect(readouts.append)
    raster = bilinear.result.raster
    expected = uniform.result.gene_image("Gene3")
    differs = np.abs(bilinear.result.gene_image("Gene3") - expected)
    row, col = np.unravel_index(np.nanargmax(differs), raster.shape)
    x, y = (raster.affine @ [col + 0.5, row + 0.5, 1])[:2]
    controller.viewer.cursor.position = (y, x)
    for callback in controller.viewer.mouse_move_callbacks:
        callback(controller.viewer, None)
    values = {entry.gene: entry.value for entry in readouts[-1].genes}
    assert values["Gene3"] == pytest.approx(float(expected[row, col]), abs=1e-5)


def test_restored_pixel_size_is_converted_to_the_coordinate_system(
    open_window: Callable[[], SRastWidget], qtbot: Any, make_slide: Callable[..., Slide]
) -> None:
    window = open_window()
    systems = {"global": np.eye(3), "tenfold": np.diag([10.0, 10.0, 1.0])}
    window.controller.slides.show(LoadedSlide(slide=make_slide(6, 6, transforms=systems), source=None))
    wait_ready(qtbot, window)
    use_fast_method(window)
    panel = window.settings_panel
    panel.resolution_kind.value = "Pixel size"
    panel.pixel_size.value = 25
    assert panel.pixel_size.native.suffix() == " um"
    first = run(qtbot, window) if window.controller.regions.add(SQUARE) is None else None
    window.controller.slides.set_coordinate_system("tenfold")
    assert panel.pixel_size.native.suffix() == ""
    window.controller.results.restore_settings()
    assert panel.pixel_size.value == pytest.approx(250)
    window.tabs.setCurrentIndex(0)
    assert run(qtbot, window).n_pixels == first.n_pixels


def test_result_saved_with_the_slide_is_listed(open_window: Callable[[], SRastWidget], qtbot: Any, store: Path) -> None:
    ready = open_with_result(open_window, qtbot, store)
    run_name = ready.controller.results.all[0].result.run
    ready.controller.results.export(None)
    wait_ready(qtbot, ready)
    ready.controller.results.drop()
    box = ready.result_panel.results
    assert f"saved: {run_name}" in [box.itemText(i) for i in range(box.count())]
