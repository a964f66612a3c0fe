"""Layers, slides and the viewer are removed while a run or an export is in progress."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.window import PATIENCE, SQUARE, click, layer_names, open_slide, run, visible, wait_ready, wait_shown
from napari.layers import Image
from qtpy.QtGui import QOpenGLContext
from qtpy.QtWidgets import QWidget

from napari_srast import api
from napari_srast.core.progress import Progress, ProgressCallback
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.widget import SRastWidget
from napari_srast.io import result_writer

pytestmark = pytest.mark.gui


class HaltedRun:
    """Press Run and stop the run after its first step, until ``release`` is set.

    The patch of ``api.upsample_steps`` ends with the context.
    """

    def __init__(self, qtbot: Any, widget: SRastWidget) -> None:
        self._qtbot, self._widget = qtbot, widget
        self._begun, self._release, self._ended = threading.Event(), threading.Event(), threading.Event()
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> HaltedRun:
        true_steps = api.upsample_steps

        def halted(*args: Any, **options: Any) -> Any:
            steps = true_steps(*args, **options)
            try:
                yield next(steps)
                self._begun.set()
                self._release.wait(60)
                return (yield from steps)
            finally:
                self._ended.set()

        self._patch.setattr(api, "upsample_steps", halted)
        click(self._qtbot, self._widget.run_bar.run)
        self._qtbot.waitUntil(self._begun.is_set, timeout=PATIENCE)
        return self

    def finish(self) -> None:
        """Continue the run and wait until its steps have ended."""
        self._release.set()
        self._qtbot.waitUntil(self._ended.is_set, timeout=PATIENCE)

    def __exit__(self, *_: object) -> None:
        self._release.set()
        self._patch.undo()


def prepare(widget: SRastWidget) -> None:
    widget.tabs.setCurrentIndex(0)
    widget.settings_panel.method.value = "bilinear"
    widget.controller.regions.clear()
    widget.controller.regions.add(SQUARE)


def check_usable(qtbot: Any, widget: SRastWidget) -> None:
    """Run again, as a user would."""
    prepare(widget)
    n_results = len(widget.controller.results.all)
    run(qtbot, widget)
    assert len(widget.controller.results.all) == n_results + 1
    assert "Done" in widget.run_bar.status.text()


def remove(widget: SRastWidget, role: str) -> None:
    layers = widget.controller.viewer.layers
    for layer in [layer for layer in layers if role_of(layer) == role]:
        layers.remove(layer)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_removed_layer_is_freed_in_the_opengl_context_of_the_canvas(
    open_window: Callable[[], SRastWidget], qtbot: Any
) -> None:
    """In another context the same OpenGL names belong to other objects, and a later drawing crashes the process."""
    window = open_window()
    layers = window.controller.viewer.layers
    canvas = next(c for c in window.window().centralWidget().findChildren(QWidget) if hasattr(c, "makeCurrent"))
    layers.append(Image(np.zeros((4, 4))))
    qtbot.waitUntil(canvas.isValid, timeout=PATIENCE)
    is_current = []
    layers.events.removed.connect(lambda: is_current.append(QOpenGLContext.currentContext() is canvas.context()))
    canvas.doneCurrent()
    assert QOpenGLContext.currentContext() is not canvas.context()
    layers.clear()
    assert is_current == [True]


@pytest.mark.contract(
    section="In the window",
    case="layers of the slide, the region or the genes are removed during a run",
    response="the result is added",
)
def test_run_finishes_after_its_layers_were_removed(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path
) -> None:
    window = open_window()
    open_slide(qtbot, window, store)
    for roles in (("histology", "region"), ("gene",)):  # in the second run, layers of the first result
        prepare(window)
        with HaltedRun(qtbot, window) as halted:
            for role in roles:
                remove(window, role)
            halted.finish()
            wait_ready(qtbot, window)
        assert "Done" in window.run_bar.status.text()
        wait_shown(qtbot, window)
        assert len(visible(window)) > 0
        check_usable(qtbot, window)


@pytest.mark.contract(
    section="In the window",
    case="a slide is closed during its run, by removing its layers",
    response="'… was closed, so its run was stopped.'; waiting runs of other slides start",
)
def test_closing_a_slide_stops_its_run_and_starts_the_next(
    open_window: Callable[[], SRastWidget], qtbot: Any, write_slide: Callable[..., Path]
) -> None:
    window = open_window()
    controller = window.controller
    open_slide(qtbot, window, write_slide("breast"))
    breast = controller.slides.current
    assert breast is not None
    open_slide(qtbot, window, write_slide("colon", n_genes=7, seed=1))
    prepare(window)
    with HaltedRun(qtbot, window) as halted:
        controller.slides.switch(breast)
        prepare(window)
        window.run_estimate.refresh()
        click(qtbot, window.run_bar.queue)
        controller.slides.switch(controller.slides.sessions[1])
        for layer in [*controller.slides.current.layers, controller.regions.layer]:
            controller.viewer.layers.remove(layer)
        qtbot.waitUntil(lambda: controller.slides.sessions == [breast], timeout=PATIENCE)
        assert controller.tasks.state is AppState.RUNNING
        assert not controller.runs.waiting
        halted.finish()
        wait_ready(qtbot, window)
    assert controller.slides.current is breast
    assert len(breast.results) == 1
    assert not any("colon" in name for name in layer_names(window))
    check_usable(qtbot, window)

    prepare(window)
    with HaltedRun(qtbot, window) as halted:
        controller.viewer.layers.clear()
        qtbot.waitUntil(lambda: controller.tasks.state is AppState.EMPTY, timeout=PATIENCE)
        assert "its run was stopped" in window.run_bar.status.text()
        halted.finish()
    qtbot.wait(50)
    assert layer_names(window) == []
    assert not window.run_bar.run.isEnabled()
    open_slide(qtbot, window, write_slide("third"))
    check_usable(qtbot, window)


@pytest.mark.contract(
    section="In the window",
    case="the viewer closes during an export",
    response="no file is left; the slide is as before",
)
def test_closing_the_viewer_during_an_export_leaves_the_slide_unchanged(
    open_window: Callable[[], SRastWidget], qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = open_window()
    open_slide(qtbot, window, store)
    prepare(window)
    run(qtbot, window)
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()
    true_write = result_writer.write_result

    def slow(*args: Any, progress: ProgressCallback, **options: Any) -> Any:
        def wait(step: Progress) -> None:
            begun.set()
            release.wait(60)
            progress(step)

        try:
            return true_write(*args, progress=wait, **options)
        finally:
            ended.set()

    monkeypatch.setattr(result_writer, "write_result", slow)
    before = content(store)
    window.result_panel.export_panel.export_into.trigger()
    qtbot.waitUntil(begun.is_set, timeout=PATIENCE)
    window.controller.results.show_genes([])
    remove(window, "gene")
    window.controller.results.show_genes(["Gene1", "Gene2"])  # layers that are about to be added
    window.controller.viewer.close()
    release.set()
    assert ended.wait(60)
    qtbot.wait(50)
    assert content(store) == before
    assert [path.name for path in tmp_path.glob("*.zarr")] == [store.name]
    assert not any(path.is_dir() for path in tmp_path.glob(".*"))
