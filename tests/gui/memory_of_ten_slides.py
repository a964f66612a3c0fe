"""Memory of a window after ten slides; run by test_endurance.py in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from helpers.window import PATIENCE, SQUARE, click, run, use_fast_method, visible, wait_ready

from napari_srast.core.slide import Slide, SlideSource
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def return_freed_memory() -> None:
    """Return freed memory to the system where the C library can: what it keeps for later use is not a leak."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def test_memory_is_freed_after_ten_slides(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    make_slide: Callable[..., Slide],
    record_property: Callable[[str, object], None],
) -> None:
    window = open_window()
    use_fast_method(window)
    process = psutil.Process()
    references: list[weakref.ref[Any]] = []

    def open_run_close(seed: int) -> None:
        slide = make_slide(12, 12, n_genes=400, seed=seed, source=SlideSource(synthetic=True))
        window.controller.slides.show(LoadedSlide(slide=slide, source=None))
        wait_ready(qtbot, window)
        window.controller.regions.add(SQUARE * 3)
        window.tabs.setCurrentIndex(0)
        result = run(qtbot, window)
        window.result_panel.set_view("before")
        window.result_panel.set_view("side_by_side")
        qtbot.waitUntil(lambda: len(visible(window, "side_by_side")) >= 2, timeout=PATIENCE)
        references.extend((weakref.ref(slide), weakref.ref(result), weakref.ref(window.controller.slides.current)))
        window.tabs.setCurrentIndex(0)
        click(qtbot, window.slide_panel.close_slide)
        assert window.controller.tasks.state is AppState.EMPTY

    def used_memory() -> int:
        qtbot.wait(200)
        gc.collect()
        return_freed_memory()
        return int(process.memory_info().rss)

    for seed in range(3):  # load modules and fill caches
        open_run_close(seed)
    before = used_memory()
    for seed in range(10):
        open_run_close(seed)
    after = used_memory()
    record_property("memory_growth", after / before - 1)
    assert after < 1.05 * before
    assert sum(ref() is not None for ref in references) <= 3  # Qt may keep what it showed last
