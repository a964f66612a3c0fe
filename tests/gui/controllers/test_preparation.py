"""Slides are prepared in the background while the window is idle; everything else has priority."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from helpers.heartbeat import Beats
from helpers.window import PATIENCE as LONG
from helpers.window import SQUARE, click, open_slide, wait_ready
from qtpy.QtCore import QTimer

from napari_srast.gui.controllers import preparation as module
from napari_srast.gui.widget import SRastWidget
from napari_srast.inference import preparation as engine
from napari_srast.inference.fit_cache import FitCache

pytestmark = pytest.mark.gui
PATIENCE = 60_000


class SlowEngine:
    """Preparation that lasts until it is released or canceled."""

    def __init__(self) -> None:
        self.begun: list[tuple[Any, Any]] = []
        self.n_canceled = 0
        self.release = threading.Event()
        self.niceness: list[int] = []

    def __call__(self, slide: Any, settings: Any, monitor: Any, fit: Any, cache: Any) -> None:
        import os

        self.niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        self.begun.append((slide, settings))
        while not self.release.wait(0.01):
            if monitor.is_canceled():
                self.n_canceled += 1
                monitor.check_canceled()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SlowEngine]:
    slow = SlowEngine()
    monkeypatch.setattr(engine, "prepare_slide", slow)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    yield slow
    slow.release.set()


@pytest.fixture
def preparing(qtbot: Any, widget: SRastWidget, store: Path, slow: SlowEngine) -> SRastWidget:
    """A window that prepares the slide it has opened."""
    widget.settings_panel.prepares_slides.value = True
    open_slide(qtbot, widget, store)
    assert widget.controller.preparation.text == ""  # not at once
    qtbot.waitUntil(lambda: len(slow.begun) == 1, timeout=PATIENCE)
    return widget


def wait_canceled(qtbot: Any, slow: SlowEngine, n: int = 1) -> None:
    qtbot.waitUntil(lambda: slow.n_canceled == n, timeout=PATIENCE)


def test_idle_window_prepares_its_slide_once_at_low_priority(
    qtbot: Any, preparing: SRastWidget, slow: SlowEngine
) -> None:
    import os
    import sys

    controller = preparing.controller
    slide, settings = slow.begun[0]
    assert slide is controller.slides.slide
    assert (settings.model, settings.seed) == ("default", 0)
    assert "Preparing" in preparing.run_bar.preparation.text()
    assert not preparing.run_bar.preparation.isHidden()
    if sys.platform == "linux":
        assert slow.niceness[0] > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    slow.release.set()
    qtbot.waitUntil(preparing.run_bar.preparation.isHidden, timeout=PATIENCE)
    preparing.settings_panel.factor.value = 3  # plays no role
    qtbot.wait(2 * module._IDLE_MS)
    assert len(slow.begun) == 1
    preparing.settings_panel.seed.value = 4
    qtbot.waitUntil(lambda: len(slow.begun) == 2, timeout=PATIENCE)
    assert slow.begun[1][1].seed == 4


def test_another_slide_and_closing_stop_the_preparation(
    qtbot: Any, preparing: SRastWidget, slow: SlowEngine, write_slide: Callable[..., Path]
) -> None:
    other = write_slide("other", seed=3)
    open_slide(qtbot, preparing, other)
    wait_canceled(qtbot, slow)
    qtbot.waitUntil(lambda: len(slow.begun) == 2, timeout=PATIENCE)
    assert slow.begun[1][0] is preparing.controller.slides.slide
    preparing.controller.slides.close()
    wait_canceled(qtbot, slow, 2)


def test_run_with_other_features_stops_the_preparation(qtbot: Any, preparing: SRastWidget, slow: SlowEngine) -> None:
    preparing.settings_panel.method.value = "uniform"
    wait_canceled(qtbot, slow)
    preparing.controller.regions.add(SQUARE)
    click(qtbot, preparing.run_bar.run)
    wait_ready(qtbot, preparing)
    qtbot.wait(2 * module._IDLE_MS)
    assert len(slow.begun) == 1  # the method does not need it


def test_switching_off_and_the_end_of_the_window_stop_the_preparation(
    qtbot: Any, preparing: SRastWidget, slow: SlowEngine
) -> None:
    panel, controller = preparing.settings_panel, preparing.controller
    panel.prepares_slides.value = False
    wait_canceled(qtbot, slow)
    assert controller.preparation.cache() is None
    assert type(controller.preferences).load(controller.preferences.file).prepares_slides is False
    panel.prepares_slides.value = True
    qtbot.waitUntil(lambda: len(slow.begun) == 2, timeout=PATIENCE)
    controller.shutdown()
    wait_canceled(qtbot, slow, 2)


def test_failed_preparation_is_silent_and_not_repeated(
    qtbot: Any, widget: SRastWidget, store: Path, slow: SlowEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fail(*_: Any) -> None:
        tried.append(1)
        raise MemoryError

    monkeypatch.setattr(engine, "prepare_slide", fail)
    widget.controller.preparation.set_on(True)
    open_slide(qtbot, widget, store)
    before = widget.run_bar.status.text()
    qtbot.waitUntil(lambda: bool(tried), timeout=PATIENCE)
    qtbot.wait(2 * module._IDLE_MS)
    assert len(tried) == 1
    assert widget.run_bar.status.text() == before
    assert widget.controller.preparation.text == ""


def test_very_large_slides_are_left_to_their_first_run(
    qtbot: Any, widget: SRastWidget, store: Path, slow: SlowEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES", 10)
    widget.controller.preparation.set_on(True)
    open_slide(qtbot, widget, store)
    qtbot.wait(2 * module._IDLE_MS)
    assert slow.begun == []


def test_cache_is_cleared_in_the_settings(qtbot: Any, widget: SRastWidget, slow: SlowEngine) -> None:
    cache = FitCache()
    cache.save(cache.file_name("a" * 32, "fit"), (np.zeros(1_000_000),))
    panel = widget.settings_panel
    panel.advanced.setChecked(True)
    assert panel.clear_cache.text == "Clear cache (8 MB)"
    click(qtbot, panel.clear_cache.native)
    assert cache.use().n_bytes == 0
    assert panel.clear_cache.text == "Clear cache"
    assert not panel.clear_cache.native.isEnabled()


def test_window_stays_responsive_while_a_slide_is_prepared(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    window, beats, pan = open_window(), Beats(), QTimer()
    preparation, viewer = window.controller.preparation, window.controller.viewer
    open_slide(qtbot, window, store)
    center = np.array(viewer.scene.camera.center)

    def move() -> None:
        viewer.scene.camera.center = tuple(center + 100 * np.sin(time.perf_counter() * np.array([0.0, 3.0, 4.0])))

    pan.timeout.connect(move)
    pan.start(100)
    qtbot.wait(1000)  # the first draws of the slide
    window.settings_panel.prepares_slides.value = True
    beats.start()
    qtbot.waitUntil(lambda: "Preparing" in preparation.text, timeout=LONG)
    qtbot.waitUntil(lambda: preparation.text == "", timeout=LONG)
    beats.stop()
    pan.stop()
    assert preparation.cache_use().n_bytes > 0  # it was prepared, not given up
    longest = beats.report(record_property, "while_a_slide_is_prepared")
    record_property("the_computer_was_crowded", beats.is_crowded)
    # The target is that of a run, 100 ms. The test allows twice that on an idle computer, and 2 s on a busy one.
    assert longest <= (2000 if beats.is_crowded else 2 * 100)
