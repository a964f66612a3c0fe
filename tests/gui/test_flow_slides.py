"""Several slides in one window, a queue of runs, saved results, saved regions and canceled exports."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import napari
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
from qtpy.QtWidgets import QFileDialog, QListView

from napari_srast import api
from napari_srast.core.progress import Progress, ProgressCallback
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import KEY, gene_of, role_of
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget
from napari_srast.io import result_writer
from napari_srast.io.result_reader import read_result

pytestmark = pytest.mark.gui


def open_two_slides(qtbot: Any, widget: SRastWidget, write_slide: Callable[..., Path]) -> UpsampleResult:
    """Open "breast", run two genes in a region of nine spots, then drop "colon"; return the result."""
    use_fast_method(widget)
    open_slide(qtbot, widget, write_slide("breast"))
    widget.controller.regions.add(SQUARE)
    widget.gene_panel.model.check(["Gene3", "Gene4"])
    result = run(qtbot, widget)
    drop(widget, write_slide("colon", n_genes=7, seed=1))
    wait_ready(qtbot, widget)
    widget.tabs.setCurrentIndex(0)
    return result


def choose_slide(widget: SRastWidget, index: int) -> None:
    widget.slide_panel.slides.setCurrentIndex(index)
    widget.slide_panel.slides.activated.emit(index)


def test_second_slide_starts_without_region_genes_and_result(
    widget: SRastWidget, qtbot: Any, write_slide: Callable[..., Path]
) -> None:
    open_two_slides(qtbot, widget, write_slide)
    slides = widget.slide_panel.slides
    assert [slides.itemText(i) for i in range(slides.count())] == ["breast", "colon"]
    assert slides.currentText() == "colon"
    assert {"breast histology", "colon histology"} < set(layer_names(widget))
    assert visible(widget) == []
    assert visible(widget, "histology") == ["colon histology"]
    assert widget.controller.regions.n_spots_inside() is None
    assert widget.gene_panel.genes is None
    assert not widget.result_panel.export_panel.export.isEnabled()


def run_second_slide(qtbot: Any, window: SRastWidget, write_slide: Callable[..., Path]) -> None:
    """Run a region of a first slide, then the region of a second one, whose result is displayed."""
    open_two_slides(qtbot, window, write_slide)
    window.controller.regions.add(SQUARE)
    window.gene_panel.model.check(["Gene3"])
    run(qtbot, window)


def test_genes_of_a_second_slide_are_above_its_histology_and_below_its_region(
    open_window: Callable[[], SRastWidget], qtbot: Any, write_slide: Callable[..., Path]
) -> None:
    window = open_window()
    controller = window.controller
    run_second_slide(qtbot, window, write_slide)
    click(qtbot, window.result_panel.views["before"])

    def positions() -> list[int]:
        session = controller.slides.current
        groups = (session.layers, session.overlay.layers, session.region_layer.layers)
        listed = list(controller.viewer.layers)
        return [bound for group in groups for bound in (min(map(listed.index, group)), max(map(listed.index, group)))]

    assert len(controller.slides.current.overlay.layers) == 4  # a backdrop, spots with a color bar, a gene
    assert positions() == sorted(positions())
    choose_slide(window, 0)  # a run on the first slide, below the layers of the second one
    window.gene_panel.model.check(["Gene5"], only=True)
    window.tabs.setCurrentIndex(0)
    run(qtbot, window)
    assert positions() == sorted(positions())


def test_histology_slider_acts_on_both_pictures_of_a_second_slide(
    open_window: Callable[[], SRastWidget], qtbot: Any, write_slide: Callable[..., Path]
) -> None:
    window = open_window()
    controller, explore = window.controller, window.result_panel
    run_second_slide(qtbot, window, write_slide)
    choose_slide(window, 0)
    click(qtbot, explore.views["side_by_side"])
    qtbot.waitUntil(lambda: len(visible(window, "side_by_side")) == 4, timeout=PATIENCE)
    choose_slide(window, 1)
    click(qtbot, explore.views["side_by_side"])
    qtbot.waitUntil(lambda: len(visible(window, "side_by_side")) == 4, timeout=PATIENCE)
    canvas = [controller.viewer.screenshot(canvas_only=True, flash=False)[..., :3].mean()]
    for value in (60, 100):
        explore.brightness.setFocus()
        while explore.brightness.value() < value:
            qtbot.keyClick(explore.brightness, Qt.Key.Key_PageUp)
        canvas.append(controller.viewer.screenshot(canvas_only=True, flash=False)[..., :3].mean())
        backdrops = [layer for layer in controller.viewer.layers if layer.visible and "backdrop" in layer.name]
        assert len(backdrops) == 2
        assert len({(layer.opacity, *layer.contrast_limits) for layer in backdrops}) == 1
    assert canvas[0] < canvas[1] < canvas[2]


def test_scale_bar_is_in_micrometers_until_the_user_hides_it(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    make_slide: Callable[..., Slide],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window, warnings = open_window(), list[str]()
    monkeypatch.setattr("napari._vispy.canvas.show_warning", warnings.append)
    controller, viewer = window.controller, window.controller.viewer

    def units() -> set[str]:
        return {str(unit) for layer in viewer.layers for unit in layer.units}

    def show(unit: str) -> None:
        controller.slides.show(LoadedSlide(slide=dataclasses.replace(make_slide(), unit=unit), source=None))
        wait_ready(qtbot, window)

    show("um")
    controller.regions.add(SQUARE)
    assert units() == {"micrometer"}
    assert viewer.canvas.overlays.scale_bar.visible
    canvas = napari.current_viewer().window._qt_viewer.canvas
    (bar,) = canvas._viewer_overlay_to_visual[viewer.canvas.overlays.scale_bar]
    viewer.scene.camera.zoom = 0.29  # the bar is at most 150 pixels long
    assert bar.node.text.text in ("500 µm", "500 μm")
    show("unknown")
    viewer.add_shapes([SQUARE])
    assert units() == {"pixel"}  # napari shows a warning if units differ, even those of hidden layers
    choose_slide(window, 0)
    assert units() == {"micrometer"}
    assert not warnings  # no layer is drawn while only some have the units of the slide
    viewer.canvas.overlays.scale_bar.visible = False
    show("um")
    assert not viewer.canvas.overlays.scale_bar.visible


def test_layer_list_has_only_the_layers_of_the_current_slide(
    open_window: Callable[[], SRastWidget], qtbot: Any, write_slide: Callable[..., Path]
) -> None:
    window = open_window()
    run_second_slide(qtbot, window, write_slide)
    (view,) = (v for v in window.window().findChildren(QListView) if type(v).__name__ == "QtLayerList")

    def listed() -> list[str]:
        rows = [row for row in range(view.model().rowCount()) if not view.isRowHidden(row)]
        return [view.model().index(row, 0).data(Qt.ItemDataRole.UserRole).name for row in rows]

    of_second = ["SRast region", "Gene3", "colon spots", "colon histology"]
    qtbot.waitUntil(lambda: listed() == of_second, timeout=PATIENCE)
    for name, role, n in (("before", "measured", 1), ("side_by_side", "side_by_side", 4)):
        click(qtbot, window.result_panel.views[name])
        qtbot.waitUntil(lambda role=role, n=n: len(visible(window, role)) == n, timeout=PATIENCE)
        qtbot.waitUntil(lambda: listed() == of_second, timeout=PATIENCE)
    choose_slide(window, 0)
    window.result_panel.model.check(["Gene4"], only=True)  # the other layer is kept for the next gene
    qtbot.waitUntil(
        lambda: listed() == ["SRast region", "Gene4", "Gene3", "breast spots", "breast histology"], timeout=PATIENCE
    )
    viewer = window.controller.viewer
    viewer.add_image(np.zeros((4, 4)), name="helper", metadata={KEY: {"role": "neighbor"}})
    assert "helper" not in listed()  # at once, so that it is never drawn
    mine = viewer.add_image(np.zeros((4, 4)), name="mine")
    qtbot.waitUntil(lambda: "mine" in listed(), timeout=PATIENCE)
    mine.metadata[KEY] = {"role": "unused"}
    mine.name = "SRast unused"
    qtbot.waitUntil(lambda: "SRast unused" not in " ".join(listed()), timeout=PATIENCE)


def test_a_result_of_a_hidden_slide_gets_plain_names_when_it_is_shown(
    widget: SRastWidget, qtbot: Any, make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    slides, results = widget.controller.slides, widget.controller.results
    for seed in (0, 1):
        slide = make_slide(6, 7, seed=seed)
        slides.show(LoadedSlide(slide=slide, source=None))
        wait_ready(qtbot, widget)
    first, second = slides.sessions
    for session in (second, first):  # the run of the first one ends while the second one is shown
        results.add_saved(session, prepare_for_display(make_result(session.slide)))
        wait_shown(qtbot, widget)
    widget.result_panel.model.check(["Gene0"], only=True)
    wait_shown(qtbot, widget)
    first.overlay.show(["Gene0"])
    qtbot.waitUntil(lambda: [style.gene for style in first.overlay.shown] == ["Gene0"], timeout=PATIENCE)
    slides.switch(first)
    assert [layer.name for layer in first.overlay.layers if gene_of(layer) == "Gene0"] == ["Gene0"]
    slides.switch(second)
    assert [layer.name for layer in second.overlay.layers if gene_of(layer) == "Gene0"] == ["Gene0"]


def test_queued_runs_keep_their_region_while_another_slide_is_shown(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    write_slide: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window = open_window()
    controller = window.controller
    first = open_two_slides(qtbot, window, write_slide)
    release, true_steps = threading.Event(), api.upsample_steps

    def slow(*args: Any, **options: Any) -> Generator[Progress, None, Any]:
        yield Progress("align", 1, 4, 0.25)
        release.wait(60)
        return (yield from true_steps(*args, **options))

    monkeypatch.setattr(api, "upsample_steps", slow)
    assert not window.run_bar.queue.isEnabled()
    controller.regions.add(SQUARE)
    click(qtbot, window.run_bar.run)
    for n_waiting, shift in enumerate((200, 300), start=1):
        controller.regions.clear()
        controller.regions.add(SQUARE + shift)
        qtbot.waitUntil(lambda: window.run_bar.queue.isEnabled(), timeout=PATIENCE)
        click(qtbot, window.run_bar.queue)
        assert len(controller.runs.waiting) == n_waiting
        assert controller.regions.n_spots_inside() is None  # room for the next region
    assert window.run_bar.waiting.text() == "Queued: colon, region of 9 spots; colon, region of 9 spots"
    assert not window.slide_panel.close_slide.isEnabled()

    def shows_breast() -> bool:
        assert controller.results.current is not None
        return controller.results.current.result is first and sorted(visible(window)) == ["Gene3", "Gene4"]

    choose_slide(window, 0)
    assert shows_breast()
    assert controller.regions.n_spots_inside() == 9
    assert window.gene_panel.genes == ["Gene3", "Gene4"]
    assert visible(window, "histology") == ["breast histology"]
    release.set()
    qtbot.waitUntil(lambda: controller.tasks.state is AppState.READY and not controller.runs.waiting, timeout=PATIENCE)
    assert shows_breast()

    choose_slide(window, 1)
    wait_shown(qtbot, window)
    results = window.result_panel.results
    assert results.count() == 3
    assert results.currentText().startswith("3: 9 spots")
    assert len(visible(window)) > 0
    spots = [sorted(displayed.result.raster.spots) for displayed in controller.results.all]
    assert spots[0] != spots[1] != spots[2]
    results.activated.emit(0)
    assert controller.results.current is controller.results.all[0]
    click(qtbot, window.result_panel.close_result)
    assert results.count() == 2


def test_closing_a_slide_shows_the_previous_one(
    widget: SRastWidget, qtbot: Any, write_slide: Callable[..., Path]
) -> None:
    open_two_slides(qtbot, widget, write_slide)
    click(qtbot, widget.slide_panel.close_slide)
    assert [session.title for session in widget.controller.slides.sessions] == ["breast"]
    assert sorted(visible(widget)) == ["Gene3", "Gene4"]
    assert not any(name.startswith("colon") for name in layer_names(widget))


def test_opening_an_open_slide_switches_to_it(widget: SRastWidget, qtbot: Any, store: Path) -> None:
    slide = open_slide(qtbot, widget, store)
    widget.slide_panel.path.setText(str(store))
    qtbot.keyClick(widget.slide_panel.path, Qt.Key.Key_Return)
    assert widget.controller.tasks.state is AppState.READY
    assert [session.slide for session in widget.controller.slides.sessions] == [slide]


def test_removing_all_layers_of_a_slide_closes_it(widget: SRastWidget, qtbot: Any, store: Path) -> None:
    open_slide(qtbot, widget, store)
    layers = widget.controller.viewer.layers
    for layer in [layer for layer in layers if role_of(layer) in ("histology", "spots")]:
        layers.remove(layer)
    qtbot.waitUntil(lambda: widget.controller.tasks.state is AppState.EMPTY, timeout=PATIENCE)
    assert layer_names(widget) == []


def test_cancel_drops_waiting_runs(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    widget.run_estimate.refresh()
    click(qtbot, widget.run_bar.queue)
    assert widget.run_bar.waiting.isVisible()
    click(qtbot, widget.run_bar.cancel)
    assert "1 waiting run was dropped" in widget.run_bar.status.text()
    assert not widget.controller.runs.waiting
    assert not widget.run_bar.waiting.isVisible()
    assert ended.wait(10)


def test_saved_results_are_opened_with_their_settings(
    widget: SRastWidget, qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, settings = widget.controller, widget.settings_panel
    open_slide(qtbot, widget, store)
    controller.regions.add(SQUARE)
    widget.gene_panel.model.check(["Gene3", "Gene4"])
    settings.method.value = "bilinear"
    settings.factor.value = 3
    settings.seed.value = 7
    saved = run(qtbot, widget)
    export_panel = widget.result_panel.export_panel
    for action, name in ((export_panel.export_store, "out.zarr"), (export_panel.export_h5ad, "out.h5ad")):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, name=name: (str(tmp_path / name), ""))
        action.trigger()
        wait_ready(qtbot, widget)
    export_panel.export_into.trigger()
    wait_ready(qtbot, widget)

    def close_slide() -> None:
        widget.tabs.setCurrentIndex(0)
        click(qtbot, widget.slide_panel.close_slide)
        settings.factor.value = 2
        settings.seed.value = 0

    def check_restored() -> None:
        wait_shown(qtbot, widget)
        assert controller.results.current is not None
        result = controller.results.current.result
        np.testing.assert_array_equal(result.counts.toarray(), saved.counts.toarray())
        assert result.slide is controller.slides.slide
        assert (settings.factor.value, settings.seed.value) == (3, 7)
        assert settings.method.value == "bilinear"
        assert widget.gene_panel.genes == ["Gene3", "Gene4"]
        assert controller.regions.n_spots_inside() == 9
        np.testing.assert_allclose(controller.regions.region().geometry.area, saved.region.geometry.area)
        assert sorted(visible(widget)) == ["Gene3", "Gene4"]

    close_slide()
    open_slide(qtbot, widget, store)
    results = widget.result_panel.results
    assert [results.itemText(i) for i in range(results.count())] == [f"saved: {saved.run}"]
    results.activated.emit(0)
    assert controller.tasks.state is AppState.OPENING
    wait_ready(qtbot, widget)
    check_restored()
    assert results.count() == 1
    settings.factor.value = 2
    click(qtbot, widget.result_panel.reuse)
    assert settings.factor.value == 3
    close_slide()
    for name in ("out.zarr", "out.h5ad"):
        drop(widget, tmp_path / name)
        wait_ready(qtbot, widget)
        check_restored()
        close_slide()


def test_recent_slides_are_opened_from_the_menu(widget: SRastWidget, qtbot: Any, store: Path) -> None:
    open_slide(qtbot, widget, store)
    click(qtbot, widget.slide_panel.close_slide)
    assert widget.slide_panel.recent.isEnabled()
    widget.slide_panel.recent_menu.aboutToShow.emit()
    actions = widget.slide_panel.recent_menu.actions()
    assert actions[0].text() == str(store)
    actions[0].trigger()
    wait_ready(qtbot, widget)
    assert widget.controller.slides.slide is not None


def test_regions_are_saved_with_the_slide_and_as_geojson(
    widget: SRastWidget, qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions, panel = widget.controller.regions, widget.region_panel
    assert not panel.files.isEnabled()
    open_slide(qtbot, widget, store)
    regions.add(SQUARE)
    regions.add(SQUARE + 300)
    click(qtbot, panel.undo)
    assert "9 of 36" in panel.count.text()
    drawn = regions.region()
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
    assert regions.region().geometry.equals(drawn.geometry)
    click(qtbot, panel.clear)
    panel.saved.aboutToShow.emit()
    panel.saved.actions()[0].trigger()
    assert regions.region().geometry.equals(drawn.geometry)
    target.write_text("no region")
    panel.load_geojson.trigger()
    assert "not GeoJSON" in widget.run_bar.status.text()
    assert regions.region().geometry.equals(drawn.geometry)


def test_shapes_of_another_layer_are_taken_into_the_region(widget: SRastWidget, qtbot: Any, store: Path) -> None:
    open_slide(qtbot, widget, store)
    viewer, panel = widget.controller.viewer, widget.region_panel
    viewer.add_shapes([SQUARE[:, ::-1]], shape_type="polygon", name="my shapes")
    panel.refresh()
    assert "'my shapes'" in panel.count.text()
    click(qtbot, panel.take)
    assert "9 of 36" in panel.count.text()
    assert not viewer.layers["my shapes"].visible


@pytest.mark.contract(
    section="In the window",
    case="Cancel during a run or an export",
    response="no result is added, no file is left",
)
def test_canceled_export_leaves_no_file(
    widget: SRastWidget, qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_slide(qtbot, widget, store)
    use_fast_method(widget)
    widget.controller.regions.add(SQUARE)
    run(qtbot, widget)
    begun, release, true_write = threading.Event(), threading.Event(), result_writer.write_result

    def slow(*args: Any, progress: ProgressCallback, **options: Any) -> Any:
        def wait(step: Progress) -> None:
            progress(step)
            begun.set()
            release.wait(60)

        return true_write(*args, progress=wait, **options)

    monkeypatch.setattr(result_writer, "write_result", slow)
    folder = tmp_path / "exports"
    folder.mkdir()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(folder / "out.zarr"), ""))
    widget.result_panel.export_panel.export_store.trigger()
    qtbot.waitUntil(begun.is_set, timeout=PATIENCE)
    qtbot.waitUntil(lambda: "saving" in widget.run_bar.progress.format(), timeout=PATIENCE)
    click(qtbot, widget.run_bar.cancel)
    assert "No file was left on the disk" in widget.run_bar.status.text()
    release.set()
    qtbot.waitUntil(lambda: list(folder.iterdir()) == [], timeout=PATIENCE)
    monkeypatch.setattr(result_writer, "write_result", true_write)
    widget.result_panel.export_panel.export_store.trigger()
    wait_ready(qtbot, widget)
    assert read_result(folder / "out.zarr").n_pixels > 0
