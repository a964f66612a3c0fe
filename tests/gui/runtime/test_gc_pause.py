from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.window import PATIENCE, SQUARE, open_slide, run, use_fast_method, wait_shown
from napari.layers import Image

from napari_srast.gui.controllers.task_runner import TaskRunner
from napari_srast.gui.runtime import gc_pause
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def test_gc_pause_ends_when_the_user_is_idle_or_layers_go(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc_pause, "_QUIET_MS", 50)
    monkeypatch.setattr(gc_pause, "_pause", gc_pause._GcPause())
    window = open_window()
    open_slide(qtbot, window, store)
    working = [True]
    gc_pause.freeze_gc(keep=lambda: working[0])
    qtbot.wait(300)
    assert gc.get_freeze_count() > 1000  # while a run is in progress
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
    layers.pop()  # not a layer of this plugin
    assert gc.get_freeze_count() < 1000
    gc.collect()
    assert gone() is None
    gc_pause.freeze_gc(keep=lambda: True)
    window.controller.shutdown()
    assert gc.get_freeze_count() < 1000


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
