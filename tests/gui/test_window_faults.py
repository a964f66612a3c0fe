"""Whatever fails, the window stays usable: a second run works, the buttons come back, and a report can be copied."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gui_window import PATIENCE, SQUARE, click, layer_names, open_slide, run, visible, wait_ready, wait_shown
from napari.layers import Image
from qtpy.QtGui import QOpenGLContext
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget

from napari_srast import __version__, pipeline
from napari_srast.gui.controller import Phase
from napari_srast.gui.layers import role_of
from napari_srast.gui.widget import SRastWidget
from napari_srast.io.slides import read_slide
from napari_srast.slide import Slide

pytestmark = pytest.mark.gui

Patch = Callable[..., None]
STAGES = {
    "reading": "napari_srast.gui.opening.load",
    "raster": "napari_srast.pipeline.make_raster",
    "align": "napari_srast.models.slide_model.fit_sasa",
    "calibrate": "napari_srast.models.slide_model.coarsened_variants",
    "split": "napari_srast.interpolation.Interpolator.ratios",
    "checks": "napari_srast.pipeline.check_result",
    "figures": "napari_srast.gui.runs.finish",
    "landing": "napari_srast.gui.slides.OpenSlide.choose_result",
    "saving": "napari_srast.io.results.write_result",
}
"""What each stage of a slide's way through the window cannot do without."""
LOST = (
    ("align", RuntimeError("CUDA error: no CUDA-capable device is detected\nCUDA kernel errors"), "no CUDA-capable"),
    ("split", torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "choose device 'cpu'"),
    ("split", MemoryError("Unable to allocate 3.2 GiB"), "This computer ran out of memory"),
)
"""A device that vanishes, and two kinds of memory that are full, each at a stage."""
QUOTED = "90417"


def prepare(widget: SRastWidget, method: str = "bilinear") -> None:
    widget.tabs.setCurrentIndex(0)
    widget.settings_panel.method.setCurrentText(method)
    widget.controller.regions.clear()
    widget.controller.add_polygon(SQUARE)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def usable(qtbot: Any, widget: SRastWidget) -> None:
    """Run once more, as a user would."""
    assert not widget.run_bar.cancel.isEnabled()
    assert not widget.run_bar.progress.isVisible()
    prepare(widget)
    before = len(widget.controller.results)
    run(qtbot, widget)
    assert len(widget.controller.results) == before + 1
    assert "Done" in widget.run_bar.status.text()
    assert widget.result_panel.takeaway.export.isEnabled()


def copied_report(qtbot: Any, widget: SRastWidget) -> str:
    assert widget.run_bar.report.isVisible()
    click(qtbot, widget.run_bar.report)
    return QApplication.clipboard().text()


def assert_tells_nothing_of(slide: Slide, report: str) -> None:
    """No gene, spot, path or file of the slide, nor a count that was quoted."""
    source = slide.source
    assert source.path is not None
    for name in (*slide.genes, *slide.spot_ids, source.path, Path(source.path).name, source.image, QUOTED):
        assert str(name) not in report


def test_a_fault_in_any_stage_is_told_and_leaves_the_window_usable(
    widget: SRastWidget, qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = read_slide(store)
    words = f"Gene3 of {slide.source.path}: spot7 has {QUOTED} counts"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "out.zarr"), ""))
    for stage, target in STAGES.items():
        if stage not in ("reading", "saving"):
            prepare(widget, "srast" if stage in ("align", "calibrate") else "bilinear")
        with monkeypatch.context() as broken:
            broken.setattr(target, raising(LookupError(words)))
            if stage == "reading":
                widget.open_path(store)
            elif stage == "saving":
                widget.result_panel.takeaway.export_store.trigger()
            else:
                click(qtbot, widget.run_bar.run)
            assert widget.run_bar.cancel.isEnabled(), stage
            rest = Phase.EMPTY if stage == "reading" else Phase.READY
            qtbot.waitUntil(lambda rest=rest: widget.controller.phase is rest, timeout=PATIENCE)
        told = widget.run_bar.status.text()
        assert told.startswith("Unexpected error while"), stage
        assert f"LookupError: {words}" in told  # on the screen of the user, but not in what is sent away

        report = copied_report(qtbot, widget)
        assert "builtins.LookupError: its message is left out" in report
        assert "  test_window_faults:" in report  # where it was raised: the module, without its path
        assert f"napari-srast {__version__}, napari " in report
        assert_tells_nothing_of(slide, report)
        if stage == "reading":
            open_slide(qtbot, widget, store)
        else:
            assert "36 spots, 12 genes" in report
            assert "factor=2.0" in report
        if stage in ("align", "calibrate"):
            assert f"Failed: upsampling, at step '{stage}' (0 of 1 done)" in report
        usable(qtbot, widget)


def test_a_device_that_gives_out_is_told_with_what_to_do(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_slide(qtbot, widget, store)
    for stage, error, told in LOST:
        prepare(widget, "srast" if stage == "align" else "bilinear")
        with monkeypatch.context() as broken:
            broken.setattr(STAGES[stage], raising(error))
            click(qtbot, widget.run_bar.run)
            wait_ready(qtbot, widget)
        assert told in widget.run_bar.status.text()
        assert "Unexpected" not in widget.run_bar.status.text()
        report = copied_report(qtbot, widget)
        assert told in report
        assert f"because of {type(error).__module__}.{type(error).__qualname__}" in report
        usable(qtbot, widget)


class Halted:
    """A run that stands still in the middle until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.release, self.ended = threading.Event(), threading.Event(), threading.Event()
        self._true = pipeline.upsample_steps
        monkeypatch.setattr(pipeline, "upsample_steps", self._steps)

    def _steps(self, *args: Any, **options: Any) -> Any:
        steps = self._true(*args, **options)
        try:
            yield next(steps)
            self.begun.set()
            self.release.wait(60)
            return (yield from steps)
        finally:
            self.ended.set()


def halted_run(qtbot: Any, widget: SRastWidget, monkeypatch: pytest.MonkeyPatch) -> Halted:
    """Press Run, and stop in the middle of it."""
    halted = Halted(monkeypatch)
    click(qtbot, widget.run_bar.run)
    qtbot.waitUntil(halted.begun.is_set, timeout=PATIENCE)
    return halted


def remove(widget: SRastWidget, role: str) -> None:
    layers = widget.controller.viewer.layers
    for layer in [layer for layer in layers if role_of(layer) == role]:
        layers.remove(layer)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def slow_export(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event, threading.Event]:
    """Halt exports in the middle; returns what tells that one began, lets it go on, and tells that it ended."""
    from napari_srast.io import results

    begun, release, ended, true_write = threading.Event(), threading.Event(), threading.Event(), results.write_result

    def slow(*args: Any, watch: Callable[[float], None], **options: Any) -> Any:
        def wait(done: float) -> None:
            begun.set()
            release.wait(60)
            watch(done)

        try:
            return true_write(*args, watch=wait, **options)
        finally:
            ended.set()

    monkeypatch.setattr(results, "write_result", slow)
    return begun, release, ended


def test_what_goes_with_a_layer_is_freed_in_the_context_of_the_canvas(
    open_window: Callable[[], SRastWidget], qtbot: Any
) -> None:
    """Freed in another, OpenGL's names are those of other objects, and the process is lost at a later drawing."""
    window = open_window()
    layers = window.controller.viewer.layers
    canvas = next(c for c in window.window().centralWidget().findChildren(QWidget) if hasattr(c, "makeCurrent"))
    layers.append(Image(np.zeros((4, 4))))
    qtbot.waitUntil(canvas.isValid, timeout=PATIENCE)
    seen = []
    layers.events.removed.connect(lambda: seen.append(QOpenGLContext.currentContext() is canvas.context()))
    canvas.doneCurrent()
    assert QOpenGLContext.currentContext() is not canvas.context()
    layers.clear()
    assert seen == [True]


def test_layers_slides_and_the_viewer_go_while_something_runs(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    make_store: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window = open_window()
    controller = window.controller
    open_slide(qtbot, window, make_store("breast"))
    prepare(window)
    with monkeypatch.context() as patch:
        halted = halted_run(qtbot, window, patch)
        remove(window, "histology")
        remove(window, "region")
        halted.release.set()
        wait_ready(qtbot, window)
    assert "Done" in window.run_bar.status.text()
    wait_shown(qtbot, window)
    assert len(visible(window)) > 0
    usable(qtbot, window)

    # The layers of the result on show go while the next one is made.
    prepare(window)
    with monkeypatch.context() as patch:
        halted = halted_run(qtbot, window, patch)
        remove(window, "gene")
        halted.release.set()
        wait_ready(qtbot, window)
    usable(qtbot, window)

    # Every layer of the slide goes: the slide is closed, its run stopped, and that of another slide takes its turn.
    breast = controller.current
    open_slide(qtbot, window, make_store("colon", n_genes=7, seed=1))
    prepare(window)
    with monkeypatch.context() as patch:
        halted = halted_run(qtbot, window, patch)
        controller.switch(breast)
        prepare(window)
        window._refresh_estimate()
        click(qtbot, window.run_bar.queue)
        controller.switch(controller.slides[1])
        for layer in [*controller.current.layers, controller.regions.layer]:
            controller.viewer.layers.remove(layer)
        qtbot.waitUntil(lambda: len(controller.slides) == 1, timeout=PATIENCE)
        assert controller.phase is Phase.RUNNING
        assert not controller.waiting
        halted.release.set()
        n_results = len(breast.results)
        wait_ready(qtbot, window)
    assert controller.current is breast
    assert len(breast.results) == n_results + 1
    assert not any("colon" in name for name in layer_names(window))
    usable(qtbot, window)

    # Everything goes at once, with a run under way.
    prepare(window)
    with monkeypatch.context() as patch:
        halted = halted_run(qtbot, window, patch)
        controller.viewer.layers.clear()
        qtbot.waitUntil(lambda: controller.phase is Phase.EMPTY, timeout=PATIENCE)
        assert "its run was stopped" in window.run_bar.status.text()
        halted.release.set()
        qtbot.waitUntil(halted.ended.is_set, timeout=PATIENCE)
    qtbot.wait(50)
    assert layer_names(window) == []
    assert not window.run_bar.run.isEnabled()
    third = make_store("third")
    open_slide(qtbot, window, third)
    usable(qtbot, window)

    # The viewer is closed while a result is added to the slide's own store, and while genes are about to be shown.
    before = content(third)
    with monkeypatch.context() as patch:
        begun, release, ended = slow_export(patch)
        window.result_panel.takeaway.export_into.trigger()
        qtbot.waitUntil(begun.is_set, timeout=PATIENCE)
        controller.show_genes([])
        remove(window, "gene")
        controller.show_genes(["Gene1", "Gene2"])
        controller.viewer.close()
        release.set()
        assert ended.wait(60)
        qtbot.wait(50)
    assert content(third) == before
    assert sorted(path.name for path in tmp_path.glob("*.zarr")) == ["breast.zarr", "colon.zarr", "third.zarr"]
    assert not any(path.is_dir() for path in tmp_path.glob(".*"))


def test_a_disk_that_fills_up_during_an_export(
    widget: SRastWidget,
    qtbot: Any,
    store: Path,
    tmp_path: Path,
    filling_disk: Callable[[], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_slide(qtbot, widget, store)
    prepare(widget)
    run(qtbot, widget)
    folder, before = tmp_path / "exports", content(store)
    folder.mkdir()
    takeaway = widget.result_panel.takeaway
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(folder / "out"), ""))
    for action in (takeaway.export_store, takeaway.export_h5ad, takeaway.export_csv, takeaway.export_into):
        with filling_disk():
            action.trigger()
            wait_ready(qtbot, widget)
        assert "cannot be written" in widget.run_bar.status.text()
        assert "nothing was left behind" in widget.run_bar.status.text()
        assert_tells_nothing_of(widget.controller.slide, copied_report(qtbot, widget))
        assert os.listdir(folder) == []
        assert content(store) == before
    takeaway.export_store.trigger()
    wait_ready(qtbot, widget)
    assert os.listdir(folder) == ["out.zarr"]
    usable(qtbot, widget)
