from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.window import PATIENCE, SQUARE, click, open_slide, run, use_fast_method, visible, wait_ready, wait_shown
from napari import current_viewer
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtGui import QOpenGLContext
from qtpy.QtWidgets import QWidget

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.task_runner import TaskRunner
from napari_srast.gui.runtime import gc_pause
from napari_srast.gui.runtime.layer_batches import changing, insert_unchosen, removing
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


class _Cycle:
    """Garbage that only a collection frees."""

    def __init__(self) -> None:
        self.itself = self


def _batches(viewer: Any) -> list[str]:
    seen: list[str] = []
    for event in (viewer.layers.events.begin_batch, viewer.layers.events.end_batch):
        event.connect(lambda event: seen.append(event.type.removesuffix("_batch")))
    return seen


def test_what_is_inside_a_batch_is_part_of_it() -> None:
    viewer = ViewerModel()
    seen = _batches(viewer)
    with removing(viewer.layers), removing(viewer.layers), changing(viewer.layers), changing(viewer.layers):
        assert seen == ["begin"]
    assert seen == ["begin", "end"]
    with pytest.raises(ZeroDivisionError), changing(viewer.layers):
        1 / 0  # noqa: B018
    with changing(viewer.layers):
        assert seen == ["begin", "end"] * 2 + ["begin"]


def test_a_change_looks_through_new_objects_only_and_a_removal_through_all() -> None:
    viewer, lost = ViewerModel(), []
    viewer.layers.events.end_batch.connect(lambda: gc.collect())  # as the canvas does

    def lose() -> weakref.ref[_Cycle]:
        return weakref.ref(_Cycle())

    gc.collect()
    gc.disable()
    try:
        lost.append(lose())
        with changing(viewer.layers):
            lost.append(lose())
        assert [ref() is None for ref in lost] == [False, True]
        with removing(viewer.layers):
            lost.append(lose())
        assert [ref() is None for ref in lost] == [True, True, True]
    finally:
        gc.enable()


def test_what_is_set_aside_is_taken_back_once_nobody_works(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc_pause, "_QUIET_MS", 50)
    monkeypatch.setattr(gc_pause, "_aside", gc_pause._Aside())
    window = open_window()
    open_slide(qtbot, window, store)
    working = [True]
    gc_pause.freeze_gc(keep=lambda: working[0])
    qtbot.wait(300)
    assert gc.get_freeze_count() > 1000  # as long as a run goes on
    working.clear()
    working.append(False)
    qtbot.waitUntil(lambda: gc.get_freeze_count() < 1000, timeout=PATIENCE)

    gc_pause.freeze_gc(keep=lambda: True)
    layers = window.controller.viewer.layers
    other = Image(np.zeros((4, 4)))
    layers.append(other)
    gone = weakref.ref(other)
    gc_pause.freeze_gc(keep=lambda: True)
    del other
    layers.pop()  # somebody else's
    assert gc.get_freeze_count() < 1000
    gc.collect()
    assert gone() is None
    gc_pause.freeze_gc(keep=lambda: True)
    window.controller.shutdown()
    assert gc.get_freeze_count() < 1000


def test_nothing_is_taken_back_between_a_run_and_its_layers(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the run took: the clock is set anew when it ends, and when a slide has been read."""
    window = open_window()
    controller, aside = window.controller, gc_pause._aside
    left: dict[str, float] = {}

    def note(event: Any) -> None:
        clock = aside._clock
        assert clock is not None
        left[event.value.name] = clock.remainingTime() if aside.any else 0.0

    controller.viewer.layers.events.inserted.connect(note)

    def spent(*arguments: Any, **options: Any) -> Any:
        """Begin as if the clock were about to ring."""
        result = begin(*arguments, **options)
        assert aside._clock is not None
        aside._clock.start(2_000)
        return result

    begin = TaskRunner.start
    monkeypatch.setattr(TaskRunner, "start", spent)
    open_slide(qtbot, window, store)
    use_fast_method(window)
    controller.regions.add(SQUARE)
    window.gene_panel.model.check(["Gene3"])
    run(qtbot, window)
    wait_shown(qtbot, window)
    shown = {name: ms for name, ms in left.items() if name == "Gene3" or name.startswith("breast")}
    assert len(shown) == 3
    assert min(shown.values()) > 2_000


def test_a_batch_ends_in_the_context_of_the_canvas(
    open_window: Callable[[], SRastWidget], qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its end napari frees and uploads what waits; elsewhere OpenGL's names are those of other objects."""
    window = open_window()
    layers = window.controller.viewer.layers
    canvas = next(c for c in window.window().centralWidget().findChildren(QWidget) if hasattr(c, "makeCurrent"))
    layers.append(Image(np.zeros((4, 4))))
    qtbot.waitUntil(canvas.isValid, timeout=PATIENCE)
    seen = []
    own = current_viewer().window._qt_viewer.canvas
    update = own._clean_and_update_scenegraph

    def look() -> None:
        seen.append(QOpenGLContext.currentContext() is canvas.context())
        update()

    monkeypatch.setattr(own, "_clean_and_update_scenegraph", look)  # napari's own end comes before all events
    for batch in (changing, removing):
        canvas.doneCurrent()
        with batch(layers):
            pass
    assert seen == [True, True]


def test_all_layers_can_be_removed_at_once_while_two_pictures_stand_side_by_side(
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


def test_a_layer_comes_in_without_being_chosen(open_window: Callable[[], SRastWidget], qtbot: Any) -> None:
    """Nor is anything else, in napari's own list as little as in the model."""
    ours = open_window().controller.viewer.layers  # as plugins get them
    layers, own = current_viewer().layers, current_viewer().window._qt_viewer
    for name in "abc":
        layers.append(Image(np.zeros((4, 4)), name=name))
    heard: list[Any] = []
    layers.selection.events.active.connect(heard.append)
    for name, chosen in (("one", ["a"]), ("both", ["a", "c"]), ("none", [])):
        layers.selection = [layers[other] for other in chosen]
        qtbot.wait(20)
        before, controls = layers.selection.active, own.controls.currentWidget()
        heard.clear()
        insert_unchosen(ours, 1, Image(np.ones((4, 4)), name=name))
        qtbot.wait(20)
        assert [layer.name for layer in layers][1] == name
        assert sorted(layer.name for layer in layers.selection) == chosen
        assert {type(layer) for layer in layers.selection} <= {Image}  # and not what plugins see of them
        assert layers.selection.active == before
        listed = own.layers.selectionModel().selectedRows()
        assert sorted(index.data() for index in listed) == chosen
        assert own.controls.currentWidget() is controls
        assert heard == []
    layers.selection.active = layers["one"]  # and can be chosen as any other
    assert own.controls.currentWidget() is own.controls.widgets[layers["one"]]


def test_before_and_after_are_one_batch_and_look_as_they_do_without(
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
    wait_shown(qtbot, window)
    viewer = controller.viewer
    click(qtbot, explore.views["before"])  # the spots are added the first time
    seen = _batches(viewer)
    for view in ("after", "before"):
        click(qtbot, explore.views[view])
        qtbot.wait(50)
        assert len(visible(window)) == (3 if view == "after" else 0)
        at_once = viewer.screenshot(flash=False)
        for layer in viewer.layers:  # one after the other, as napari's own list does
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
