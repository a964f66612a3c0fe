from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.window import PATIENCE, click, visible, wait_ready, wait_shown
from napari import current_viewer
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtGui import QOpenGLContext
from qtpy.QtWidgets import QWidget

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.runtime.layer_batches import batch_changes, batch_removals, insert_unselected
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


class _Cycle:
    """A reference cycle, which only garbage collection frees."""

    def __init__(self) -> None:
        self.itself = self


def _batches(viewer: Any) -> list[str]:
    seen: list[str] = []
    for event in (viewer.layers.events.begin_batch, viewer.layers.events.end_batch):
        event.connect(lambda event: seen.append(event.type.removesuffix("_batch")))
    return seen


def test_nested_batches_join_the_outer_one() -> None:
    viewer = ViewerModel()
    seen = _batches(viewer)
    with (
        batch_removals(viewer.layers),
        batch_removals(viewer.layers),
        batch_changes(viewer.layers),
        batch_changes(viewer.layers),
    ):
        assert seen == ["begin"]
    assert seen == ["begin", "end"]
    with pytest.raises(ZeroDivisionError), batch_changes(viewer.layers):
        1 / 0  # noqa: B018
    with batch_changes(viewer.layers):
        assert seen == ["begin", "end"] * 2 + ["begin"]


def test_only_removals_collect_old_objects() -> None:
    viewer, garbage = ViewerModel(), []
    viewer.layers.events.end_batch.connect(lambda: gc.collect())  # as the canvas does

    def make_garbage() -> weakref.ref[_Cycle]:
        return weakref.ref(_Cycle())

    gc.collect()
    gc.disable()
    try:
        garbage.append(make_garbage())
        with batch_changes(viewer.layers):
            garbage.append(make_garbage())
        assert [ref() is None for ref in garbage] == [False, True]
        with batch_removals(viewer.layers):
            garbage.append(make_garbage())
        assert [ref() is None for ref in garbage] == [True, True, True]
    finally:
        gc.enable()


def test_batch_ends_in_the_opengl_context_of_the_canvas(
    open_window: Callable[[], SRastWidget], qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a batch napari frees and uploads OpenGL objects, which are valid only in their own context."""
    window = open_window()
    layers = window.controller.viewer.layers
    canvas = next(c for c in window.window().centralWidget().findChildren(QWidget) if hasattr(c, "makeCurrent"))
    layers.append(Image(np.zeros((4, 4))))
    qtbot.waitUntil(canvas.isValid, timeout=PATIENCE)
    seen = []
    napari_canvas = current_viewer().window._qt_viewer.canvas
    update = napari_canvas._clean_and_update_scenegraph

    def record() -> None:
        seen.append(QOpenGLContext.currentContext() is canvas.context())
        update()

    monkeypatch.setattr(
        napari_canvas, "_clean_and_update_scenegraph", record
    )  # napari calls it before it emits the event
    for batch in (batch_changes, batch_removals):
        canvas.doneCurrent()
        with batch(layers):
            pass
    assert seen == [True, True]


def test_all_layers_can_be_removed_in_side_by_side_view(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    make_slide: Callable[..., Slide],
    make_result: Callable[..., UpsampleResult],
) -> None:
    window = open_window()
    slide = make_slide(6, 6)
    controller = window.controller
    controller.slides.show(LoadedSlide(slide=slide, source=None))
    wait_ready(qtbot, window)
    controller.results.add_saved(
        controller.slides.current, prepare_for_display(make_result(slide, genes=["Gene0", "Gene1"]))
    )
    wait_shown(qtbot, window)
    click(qtbot, window.result_panel.views["side_by_side"])
    qtbot.waitUntil(lambda: len(visible(window, "side_by_side")) >= 2, timeout=PATIENCE)
    layers = controller.viewer.layers
    layers.select_all()
    layers.remove_selected()
    qtbot.waitUntil(lambda: len(layers) == 0, timeout=PATIENCE)
    qtbot.wait(50)
    assert len(layers) == 0


def test_insert_unselected_keeps_the_selection(open_window: Callable[[], SRastWidget], qtbot: Any) -> None:
    """The selection stays in the model, in napari's layer list and in its layer controls."""
    ours = open_window().controller.viewer.layers  # wrapped as for plugins
    layers, qt_viewer = current_viewer().layers, current_viewer().window._qt_viewer
    for name in "abc":
        layers.append(Image(np.zeros((4, 4)), name=name))
    events: list[Any] = []
    layers.selection.events.active.connect(events.append)
    for name, chosen in (("one", ["a"]), ("both", ["a", "c"]), ("none", [])):
        layers.selection = [layers[other] for other in chosen]
        qtbot.wait(20)
        before, controls = layers.selection.active, qt_viewer.controls.currentWidget()
        events.clear()
        insert_unselected(ours, 1, Image(np.ones((4, 4)), name=name))
        qtbot.wait(20)
        assert [layer.name for layer in layers][1] == name
        assert sorted(layer.name for layer in layers.selection) == chosen
        assert {type(layer) for layer in layers.selection} <= {Image}  # not the wrappers for plugins
        assert layers.selection.active == before
        listed = qt_viewer.layers.selectionModel().selectedRows()
        assert sorted(index.data() for index in listed) == chosen
        assert qt_viewer.controls.currentWidget() is controls
        assert events == []
    layers.selection.active = layers["one"]  # it can still be selected
    assert qt_viewer.controls.currentWidget() is qt_viewer.controls.widgets[layers["one"]]


def test_switching_views_is_one_batch_and_draws_the_same(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    skewed_slide: Slide,
    make_result: Callable[..., UpsampleResult],
) -> None:
    window = open_window()
    controller, explore = window.controller, window.result_panel
    controller.slides.show(LoadedSlide(slide=skewed_slide, source=None))
    wait_ready(qtbot, window)
    controller.results.add_saved(controller.slides.current, prepare_for_display(make_result(skewed_slide)))
    controller.results.overlay.show(["Gene0", "Gene1", "Gene3"])
    wait_shown(qtbot, window)
    viewer = controller.viewer
    click(qtbot, explore.views["before"])  # the spots are added the first time
    seen = _batches(viewer)
    for view in ("after", "before"):
        click(qtbot, explore.views[view])
        qtbot.wait(50)
        assert len(visible(window)) == (3 if view == "after" else 0)
        at_once = viewer.screenshot(flash=False)
        for layer in viewer.layers:  # one by one, as napari's layer list does
            layer.visible = bool(layer.visible)
        np.testing.assert_array_equal(viewer.screenshot(flash=False), at_once)
    assert seen == ["begin", "end"] * 2

    n_layers = len(viewer.layers)
    click(qtbot, explore.views["side_by_side"])
    qtbot.waitUntil(lambda: len(visible(window, "side_by_side")) == 4, timeout=PATIENCE)
    seen.clear()
    click(qtbot, explore.views["after"])
    assert len(viewer.layers) == n_layers
    assert seen == ["begin", "end"]
