from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.window import PATIENCE, SQUARE, open_slide, run, use_fast_method, wait_shown
from napari.layers import Image
from qtpy.QtCore import QPoint

from napari_srast.gui.controllers.task_runner import TaskRunner
from napari_srast.gui.runtime import gc_pause
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


class _Cycle:
    """Garbage that only a collection finds, once nothing else holds it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> gc_pause._GcPause:
    """A pause of its own for the test, with short quiet periods."""
    monkeypatch.setattr(gc_pause, "_QUIET_MS", 50)
    monkeypatch.setattr(gc_pause, "_pause", gc_pause._GcPause())
    return gc_pause._pause


def _waits(pause: gc_pause._GcPause) -> bool:
    """Return whether the garbage is to be collected after the quiet period."""
    return pause._timer is not None and pause._timer.isActive()


def _wait_for_collection(qtbot: Any, pause: gc_pause._GcPause) -> None:
    qtbot.waitUntil(lambda: not _waits(pause), timeout=PATIENCE)


def test_only_new_objects_are_collected_when_the_window_is_quiet(qtbot: Any, pause: gc_pause._GcPause) -> None:
    working, old = [True], _Cycle()
    of_old = weakref.ref(old)
    gc.collect()
    gc_pause.freeze_gc(keep=lambda: bool(working))
    new = _Cycle()
    of_new = weakref.ref(new)
    del old, new
    qtbot.wait(300)
    assert _waits(pause)  # a run is in progress
    working.clear()
    gc.disable()  # an import is in progress
    try:
        qtbot.wait(300)
        assert _waits(pause)
    finally:
        gc.enable()
    _wait_for_collection(qtbot, pause)
    assert of_new() is None
    assert of_old() is not None  # to find it, all objects would be visited
    assert gc.get_freeze_count() > 1000


def test_all_objects_are_collected_once_after_layers_were_removed(qtbot: Any, pause: gc_pause._GcPause) -> None:
    for _ in range(2):
        cycle = _Cycle()
        gone = weakref.ref(cycle)
        gc_pause.unfreeze_gc()  # a layer is removed
        gc_pause.freeze_gc()
        del cycle
        _wait_for_collection(qtbot, pause)
        assert gone() is None
        assert gc.get_freeze_count() > 1000
        assert not pause.owes_collection


def test_collection_of_all_objects_waits_for_the_pointer_to_rest_but_not_for_long(
    qtbot: Any, pause: gc_pause._GcPause, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = itertools.count()
    monkeypatch.setattr(gc_pause.QCursor, "pos", lambda: QPoint(next(places), 0))
    gc_pause.unfreeze_gc()
    gc_pause.freeze_gc()
    qtbot.waitUntil(lambda: pause._n_periods == gc_pause._MAX_PERIODS - 1, timeout=PATIENCE)
    assert pause.owes_collection
    _wait_for_collection(qtbot, pause)
    assert not pause.owes_collection


def test_objects_are_unfrozen_when_layers_go_or_the_window_closes(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path
) -> None:
    window = open_window()
    open_slide(qtbot, window, store)
    gc_pause.freeze_gc(keep=lambda: True)
    layers = window.controller.viewer.layers
    other = Image(np.zeros((4, 4)))
    layers.append(other)
    gone = weakref.ref(other)
    gc_pause.freeze_gc(keep=lambda: True)
    del other
    layers.pop()  # not a layer of this plugin
    assert gc.get_freeze_count() < 1000
    gc.collect()
    assert gone() is None
    gc_pause.freeze_gc(keep=lambda: True)
    window.controller.shutdown()
    assert gc.get_freeze_count() < 1000


def test_opening_a_slide_leaves_no_collection_of_all_objects_for_later(
    widget: SRastWidget, qtbot: Any, store: Path, pause: gc_pause._GcPause
) -> None:
    open_slide(qtbot, widget, store)
    assert pause.is_active
    assert not pause.owes_collection
    widget.controller.slides.close()
    assert pause.owes_collection


def test_gc_pause_covers_loading_running_and_drawing(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer restarts when a run ends and when a slide was read, however long that took."""
    window = open_window()
    controller, pause = window.controller, gc_pause._pause
    left: dict[str, float] = {}

    def note(event: Any) -> None:
        timer = pause._timer
        assert timer is not None
        left[event.value.name] = timer.remainingTime() if pause.is_active else 0.0

    controller.viewer.layers.events.inserted.connect(note)

    def start_with_short_timer(*arguments: Any, **options: Any) -> Any:
        """Start the task with a timer that is about to expire."""
        result = true_start(*arguments, **options)
        assert pause._timer is not None
        pause._timer.start(2_000)
        return result

    true_start = TaskRunner.start
    monkeypatch.setattr(TaskRunner, "start", start_with_short_timer)
    open_slide(qtbot, window, store)
    use_fast_method(window)
    controller.regions.add(SQUARE)
    window.gene_panel.model.check(["Gene3"])
    run(qtbot, window)
    wait_shown(qtbot, window)
    shown = {name: ms for name, ms in left.items() if name == "Gene3" or name.startswith("breast")}
    assert len(shown) == 3
    assert min(shown.values()) > 2_000
