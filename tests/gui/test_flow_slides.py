"""Several slides in one window, regions that wait their turn, and results that are opened again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.window import (
    PATIENCE,
    SQUARE,
    click,
    drop,
    layer_names,
    open_slide,
    run,
    use_fast_method,
    visible,
    wait_ready,
    wait_shown,
)
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_srast import api
from napari_srast.core.progress import Progress
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.widget import SRastWidget
from napari_srast.io.result_reader import read_result

pytestmark = pytest.mark.gui


def test_two_slides_keep_their_regions_and_results(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    write_slide: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window = open_window()
    controller = window.controller
    use_fast_method(window)
    breast = open_slide(qtbot, window, write_slide("breast"))
    controller.regions.add(SQUARE)
    window.gene_panel.model.check(["Gene3", "Gene4"])
    first = run(qtbot, window)

    drop(window, write_slide("colon", n_genes=7, seed=1))
    wait_ready(qtbot, window)
    panel = window.slide_panel
    assert [panel.slides.itemText(i) for i in range(panel.slides.count())] == ["breast", "colon"]
    assert panel.slides.currentText() == "colon"
    assert {"breast histology", "colon histology"} < set(layer_names(window))
    assert visible(window) == []
    assert visible(window, "histology") == ["colon histology"]
    assert controller.regions.n_spots_inside() is None
    assert window.gene_panel.genes is None
    assert not window.result_panel.export_panel.export.isEnabled()

    # One region runs, two wait; what is drawn meanwhile is the next one's.
    release, true_steps = threading.Event(), api.upsample_steps

    def slow(*args: Any, **options: Any) -> Generator[Progress, None, Any]:
        yield Progress("align", 1, 4, 0.25)
        release.wait(60)
        return (yield from true_steps(*args, **options))

    monkeypatch.setattr(api, "upsample_steps", slow)
    window.tabs.setCurrentIndex(0)
    assert not window.run_bar.queue.isEnabled()
    controller.regions.add(SQUARE)
    click(qtbot, window.run_bar.run)
    for n_waiting, place in enumerate((200, 300), start=1):
        controller.regions.clear()
        controller.regions.add(SQUARE + place)
        qtbot.waitUntil(lambda: window.run_bar.queue.isEnabled(), timeout=PATIENCE)
        click(qtbot, window.run_bar.queue)
        assert len(controller.runs.waiting) == n_waiting
        assert controller.regions.n_spots_inside() is None
    assert window.run_bar.waiting.text() == "Waiting: colon, region of 9 spots; colon, region of 9 spots"
    assert not panel.close_slide.isEnabled()

    # The other slide can be looked at meanwhile, and has its own region, genes and result.
    panel.slides.setCurrentIndex(0)
    panel.slides.activated.emit(0)
    assert controller.slides.slide is breast
    assert controller.regions.n_spots_inside() == 9
    assert window.gene_panel.genes == ["Gene3", "Gene4"]
    assert controller.results.current is not None
    assert controller.results.current.result is first
    assert sorted(visible(window)) == ["Gene3", "Gene4"]
    assert visible(window, "histology") == ["breast histology"]
    release.set()
    qtbot.waitUntil(lambda: controller.tasks.state is AppState.READY and not controller.runs.waiting, timeout=PATIENCE)
    assert controller.results.current.result is first
    assert sorted(visible(window)) == ["Gene3", "Gene4"]

    panel.slides.activated.emit(1)
    wait_shown(qtbot, window)
    results = window.result_panel.results
    assert results.count() == 3
    assert results.currentText().startswith("3: 9 spots")
    assert len(visible(window)) > 0
    spots = [sorted(f.result.raster.spots) for f in controller.results.all]
    assert spots[0] != spots[1] != spots[2]
    results.activated.emit(0)
    assert controller.results.current is controller.results.all[0]
    click(qtbot, window.result_panel.close_result)
    assert results.count() == 2

    click_tab(window, 0)
    click(qtbot, panel.close_slide)
    assert controller.slides.slide is breast
    assert not any(name.startswith("colon") for name in layer_names(window))
    # Opened again, a slide that is open is not loaded twice.
    panel.path.setText(str(breast.source.path))
    qtbot.keyClick(panel.path, Qt.Key.Key_Return)
    assert controller.tasks.state is AppState.READY
    assert len(controller.slides.sessions) == 1
    # Layers removed in napari's own list close the slide, too.
    viewer = controller.viewer
    for layer in [layer for layer in viewer.layers if role_of(layer) in ("histology", "spots")]:
        viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: controller.tasks.state is AppState.EMPTY, timeout=PATIENCE)
    assert layer_names(window) == []


def click_tab(window: SRastWidget, place: int) -> None:
    window.tabs.setCurrentIndex(place)


def test_cancel_drops_what_waits(widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_slide(qtbot, widget, store)
    ended = threading.Event()

    def endless(*args: Any, should_stop: Callable[[], bool], **options: Any) -> Generator[Progress, None, None]:
        while not should_stop():
            yield Progress("align", 1, 4, 0.25)
            ended.wait(0.01)
        ended.set()

    monkeypatch.setattr(api, "upsample_steps", endless)
    widget.controller.regions.add(SQUARE)
    click(qtbot, widget.run_bar.run)
    widget._refresh_estimate()
    click(qtbot, widget.run_bar.queue)
    assert widget.run_bar.waiting.isVisible()
    click(qtbot, widget.run_bar.cancel)
    assert "1 waiting region was dropped" in widget.run_bar.status.text()
    assert not widget.controller.runs.waiting
    assert not widget.run_bar.waiting.isVisible()
    assert ended.wait(10)


def test_results_are_opened_again_with_their_settings(
    widget: SRastWidget, qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, settings = widget.controller, widget.settings_panel
    open_slide(qtbot, widget, store)
    controller.regions.add(SQUARE)
    widget.gene_panel.model.check(["Gene3", "Gene4"])
    settings.method.value = "bilinear"
    settings.factor.value = 3
    settings.seed.value = 7
    made = run(qtbot, widget)
    export_panel = widget.result_panel.export_panel
    for action, name in ((export_panel.export_store, "out.zarr"), (export_panel.export_h5ad, "out.h5ad")):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, name=name: (str(tmp_path / name), ""))
        action.trigger()
        wait_ready(qtbot, widget)
    export_panel.export_into.trigger()
    wait_ready(qtbot, widget)
    click_tab(widget, 0)
    click(qtbot, widget.slide_panel.close_slide)
    settings.factor.value = 2
    settings.seed.value = 0

    def is_back() -> None:
        wait_shown(qtbot, widget)
        assert controller.results.current is not None
        result = controller.results.current.result
        np.testing.assert_array_equal(result.counts.toarray(), made.counts.toarray())
        assert result.slide is controller.slides.slide
        assert (settings.factor.value, settings.seed.value) == (3, 7)
        assert settings.method.value == "bilinear"
        assert widget.gene_panel.genes == ["Gene3", "Gene4"]
        assert controller.regions.n_spots_inside() == 9
        np.testing.assert_allclose(controller.regions.region().geometry.area, made.region.geometry.area)
        assert sorted(visible(widget)) == ["Gene3", "Gene4"]
        settings.factor.value = 2
        settings.seed.value = 0

    # From the slide itself, by the list of results.
    open_slide(qtbot, widget, store)
    results = widget.result_panel.results
    assert [results.itemText(i) for i in range(results.count())] == [f"saved: {made.run}"]
    results.activated.emit(0)
    assert controller.tasks.state is AppState.OPENING
    wait_ready(qtbot, widget)
    is_back()
    assert results.count() == 1
    click(qtbot, widget.result_panel.reuse)
    assert settings.factor.value == 3
    click_tab(widget, 0)
    click(qtbot, widget.slide_panel.close_slide)
    # From files of their own, dropped on the panel.
    for name in ("out.zarr", "out.h5ad"):
        drop(widget, tmp_path / name)
        wait_ready(qtbot, widget)
        is_back()
        click_tab(widget, 0)
        click(qtbot, widget.slide_panel.close_slide)
    # Recent slides open by a click.
    assert widget.slide_panel.recent.isEnabled()
    widget.slide_panel.recent_menu.aboutToShow.emit()
    actions = widget.slide_panel.recent_menu.actions()
    assert actions[0].text() == str(store)
    actions[0].trigger()
    wait_ready(qtbot, widget)
    assert controller.slides.slide is not None


def test_regions_are_kept_with_the_slide_and_as_geojson(
    widget: SRastWidget, qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, panel = widget.controller, widget.region_panel
    assert not panel.files.isEnabled()
    open_slide(qtbot, widget, store)
    controller.regions.add(SQUARE)
    controller.regions.add(SQUARE + 300)
    click(qtbot, panel.undo)
    assert "9 of 36" in panel.count.text()
    drawn = controller.regions.region()
    target = tmp_path / "region.geojson"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(target), ""))
    panel.files.menu().aboutToShow.emit()
    assert panel.save_with_slide.isEnabled()
    panel.save_geojson.trigger()
    panel.save_with_slide.trigger()
    assert "srast_region_1" in widget.run_bar.status.text()
    click(qtbot, panel.clear)
    assert "whole slide" in panel.count.text()
    panel.load_geojson.trigger()
    assert controller.regions.region().geometry.equals(drawn.geometry)
    click(qtbot, panel.clear)
    panel.saved.aboutToShow.emit()
    panel.saved.actions()[0].trigger()
    assert controller.regions.region().geometry.equals(drawn.geometry)
    target.write_text("no region")
    panel.load_geojson.trigger()
    assert "not GeoJSON" in widget.run_bar.status.text()
    assert controller.regions.region().geometry.equals(drawn.geometry)

    # Shapes drawn in a layer that is not the region's are pointed out, and taken over by a click.
    click(qtbot, panel.clear)
    controller.viewer.add_shapes([SQUARE[:, ::-1]], shape_type="polygon", name="my shapes")
    panel.refresh()
    assert "'my shapes'" in panel.count.text()
    click(qtbot, panel.take)
    assert "9 of 36" in panel.count.text()
    assert not controller.viewer.layers["my shapes"].visible


@pytest.mark.contract(
    section="In the window",
    case="Cancel during a run or an export",
    response="nothing lands, nothing is left",
)
def test_an_export_can_be_stopped_and_leaves_nothing(
    widget: SRastWidget, qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_srast.io import results

    open_slide(qtbot, widget, store)
    use_fast_method(widget)
    widget.controller.regions.add(SQUARE)
    run(qtbot, widget)
    begun, release, true_write = threading.Event(), threading.Event(), results.write_result

    def slow(*args: Any, on_progress: Callable[[float], None], **options: Any) -> Any:
        def wait(done: float) -> None:
            on_progress(done)
            begun.set()
            release.wait(60)

        return true_write(*args, on_progress=wait, **options)

    monkeypatch.setattr(results, "write_result", slow)
    folder = tmp_path / "exports"
    folder.mkdir()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(folder / "out.zarr"), ""))
    widget.result_panel.export_panel.export_store.trigger()
    qtbot.waitUntil(begun.is_set, timeout=PATIENCE)
    qtbot.waitUntil(lambda: "saving" in widget.run_bar.progress.format(), timeout=PATIENCE)
    click(qtbot, widget.run_bar.cancel)
    assert "Nothing was left on the disk" in widget.run_bar.status.text()
    release.set()
    qtbot.waitUntil(lambda: list(folder.iterdir()) == [], timeout=PATIENCE)
    monkeypatch.setattr(results, "write_result", true_write)
    widget.result_panel.export_panel.export_store.trigger()
    wait_ready(qtbot, widget)
    assert read_result(folder / "out.zarr").n_pixels > 0
