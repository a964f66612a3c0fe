"""Read saved results while their slide changes."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import SlideSource
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.state import slide_loading
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def test_a_saved_result_is_dropped_if_its_slide_closes_while_it_is_read(
    widget: SRastWidget, make_result: Callable[..., UpsampleResult], monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    controller, result = widget.controller, make_result()
    slide = dataclasses.replace(result.slide, source=SlideSource(path="slide.zarr"))
    controller.slides.show(LoadedSlide(slide=slide, source=None))
    wait = qtbot.waitUntil
    wait(lambda: controller.tasks.state is AppState.READY, timeout=60_000)
    closed = threading.Event()
    monkeypatch.setattr(slide_loading, "load_run", lambda *_: (closed.wait(60), prepare_for_display(result))[1])
    controller.results.open_saved("run")
    controller.viewer.layers.clear()
    wait(lambda: not controller.slides.sessions, timeout=60_000)
    closed.set()
    wait(lambda: controller.tasks.state is AppState.EMPTY and not controller.tasks.is_working, timeout=60_000)
    qtbot.wait(300)  # gene layers would be added one by one
    assert [role_of(layer) for layer in controller.viewer.layers] == []
    assert controller.results.current is None
