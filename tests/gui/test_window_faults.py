"""Whatever fails, the window stays usable: a second run works, the buttons come back, and a report can be copied."""

from __future__ import annotations

import json
import os
import pickle
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.window import PATIENCE, SQUARE, click, layer_names, open_slide, run, tick, visible, wait_ready, wait_shown
from napari.components import ViewerModel
from napari.layers import Image, Layer
from qtpy.QtGui import QOpenGLContext
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget
from safetensors import safe_open
from safetensors.torch import load_file, save

from napari_srast import __version__, api
from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.widget import SRastWidget
from napari_srast.inference import fitted_slide
from napari_srast.io.slide_reader import read_slide

pytestmark = pytest.mark.gui

Patch = Callable[..., None]
STAGES = {
    "reading": "napari_srast.gui.state.slide_loading.load",
    "raster": "napari_srast.api.make_raster",
    "align": "napari_srast.inference.executors.sasa_process_pool._fit",
    "calibrate": "napari_srast.calibration.holdout.coarsened_variants",
    "split": "napari_srast.interpolation.Interpolator.ratios",
    "checks": "napari_srast.api.check_result",
    "figures": "napari_srast.gui.state.run_request.finish",
    "landing": "napari_srast.gui.state.slide_session.SlideSession.choose_result",
    "saving": "napari_srast.io.result_writer.write_result",
}
"""What each stage of a slide's way through the window cannot do without."""
LOST = (
    ("align", RuntimeError("CUDA error: no CUDA-capable device is detected\nCUDA kernel errors"), "no CUDA-capable"),
    ("split", torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "choose device 'cpu'"),
    ("split", MemoryError("Unable to allocate 3.2 GiB"), "This computer ran out of memory"),
)
"""A device that vanishes, and two kinds of memory that are full, each at a stage."""
QUOTED = "90417"
FULL = MemoryError("Unable to allocate 3.2 GiB for an array with shape (20000, 40000)")
TOLD_FULL = "This computer ran out of memory"


@pytest.fixture(autouse=True)
def _nothing_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test before have fitted the same slide: what is kept is not fitted again, and cannot fail."""
    monkeypatch.setattr(fitted_slide, "_cache", type(fitted_slide._cache)())


def prepare(widget: SRastWidget, method: str = "bilinear") -> None:
    widget.tabs.setCurrentIndex(0)
    widget.settings_panel.method.value = method
    widget.controller.regions.clear()
    widget.controller.regions.add(SQUARE)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def usable(qtbot: Any, widget: SRastWidget) -> None:
    """Run once more, as a user would."""
    assert not widget.run_bar.cancel.isEnabled()
    assert not widget.run_bar.progress.isVisible()
    prepare(widget)
    before = len(widget.controller.results.all)
    run(qtbot, widget)
    assert len(widget.controller.results.all) == before + 1
    assert "Done" in widget.run_bar.status.text()
    assert widget.result_panel.export_panel.export.isEnabled()


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


@pytest.mark.contract(
    section="In the window",
    case="reading, any stage of a run, its checks, its landing or saving raises",
    response="one sentence, *Copy report*; the next run works",
)
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
                widget.result_panel.export_panel.export_store.trigger()
            else:
                click(qtbot, widget.run_bar.run)
            assert widget.run_bar.cancel.isEnabled(), stage
            rest = AppState.EMPTY if stage == "reading" else AppState.READY
            qtbot.waitUntil(lambda rest=rest: widget.controller.tasks.state is rest, timeout=PATIENCE)
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


@pytest.mark.contract(
    section="In the window",
    case="the device vanishes, or its memory or that of the computer is full",
    response="what to choose instead; the next run works",
)
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


def told_full(widget: SRastWidget) -> bool:
    """Whether the user was told that the memory is full, in one sentence with the next step."""
    told = widget.run_bar.status.text()
    return told.startswith(TOLD_FULL) and "close other programs, or" in told and told.count(".") == 1


@pytest.mark.contract(
    section="In the window",
    case="memory is full while a slide is read or put on show, a result lands, or genes are painted",
    response=(
        "ran out of memory while …; close other programs, or …; the slide is as before, the result is "
        "kept, what was on show stays"
    ),
)
@pytest.mark.parametrize("beside_another", [False, True])
def test_a_full_memory_while_a_slide_is_read_or_put_on_show_leaves_the_window_as_it_was(
    beside_another: bool,
    widget: SRastWidget,
    qtbot: Any,
    write_slide: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, controller = write_slide(), widget.controller
    if beside_another:
        open_slide(qtbot, widget, write_slide("colon", n_genes=7, seed=1))
    before, seen, rest = controller.slides.current, layer_names(widget), controller.tasks.resting_state()
    add_layer = ViewerModel.add_layer

    def add_one(viewer: ViewerModel, layer: Layer) -> Layer:
        if role_of(layer) == "spots":  # which come last
            raise FULL
        return add_layer(viewer, layer)

    for target, fail in (
        ("napari_srast.gui.state.slide_loading.load", raising(FULL)),
        ("napari_srast.io.slide_reader.raw_counts", raising(FULL)),
        ("napari_srast.gui.state.slide_loading.spatial_structure", raising(FULL)),
        ("napari_srast.gui.state.slide_session.slide_layer_data", raising(FULL)),
        ("napari.components.ViewerModel.add_layer", raising(FULL)),
        ("napari.components.ViewerModel.add_layer", add_one),
    ):
        with monkeypatch.context() as broken:
            broken.setattr(target, fail)
            widget.open_path(store)
            assert controller.tasks.state is AppState.OPENING, target
            qtbot.waitUntil(lambda: controller.tasks.state is rest, timeout=PATIENCE)
        assert told_full(widget), (target, widget.run_bar.status.text())
        assert str(store) not in copied_report(qtbot, widget)
        assert controller.slides.current is before
        assert layer_names(widget) == seen
        assert all(layer.visible for layer in controller.viewer.layers)
        assert not widget.run_bar.cancel.isEnabled()
        open_slide(qtbot, widget, store)
        usable(qtbot, widget)
        controller.slides.close()
        assert controller.slides.current is before


@pytest.mark.contract(
    section="In the window",
    case="memory is full while a slide is read or put on show, a result lands, or genes are painted",
    response=(
        "ran out of memory while …; close other programs, or …; the slide is as before, the result is "
        "kept, what was on show stays"
    ),
)
@pytest.mark.parametrize("stage", ["figures", "landing"])
def test_a_full_memory_while_a_result_lands_is_told_and_the_next_one_lands(
    stage: str, widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_slide(qtbot, widget, store)
    for has_one_before in (False, True):
        prepare(widget)
        n_before = len(widget.controller.results.all)
        with monkeypatch.context() as broken:
            broken.setattr(STAGES[stage], raising(FULL))
            click(qtbot, widget.run_bar.run)
            wait_ready(qtbot, widget)
        assert told_full(widget), widget.run_bar.status.text()
        assert (widget.controller.results.current is not None) == has_one_before
        listed = [widget.result_panel.results.itemText(i) for i in range(widget.result_panel.results.count())]
        assert len(listed) == len(widget.controller.results.all) == n_before + (stage == "landing")
        usable(qtbot, widget)
    if stage == "landing":  # what could not be shown was kept
        widget.controller.results.choose(widget.controller.results.all[0])
        wait_shown(qtbot, widget)
        assert len(visible(widget)) == 3


@pytest.mark.contract(
    section="In the window",
    case="memory is full while a slide is read or put on show, a result lands, or genes are painted",
    response=(
        "ran out of memory while …; close other programs, or …; the slide is as before, the result is "
        "kept, what was on show stays"
    ),
)
@pytest.mark.parametrize(
    "target",
    ["overlay.render_gene", "overlay.dimmer_layer", "gene_layers.GeneLayer.create", "overlay.insert_unselected"],
)
def test_a_full_memory_while_the_first_genes_are_painted_keeps_the_result(
    target: str, widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_slide(qtbot, widget, store)
    prepare(widget)
    with monkeypatch.context() as broken:
        broken.setattr(f"napari_srast.gui.layers.{target}", raising(FULL))
        click(qtbot, widget.run_bar.run)
        wait_ready(qtbot, widget)
        qtbot.waitUntil(lambda: told_full(widget), timeout=PATIENCE)
    assert "while showing the genes" in widget.run_bar.status.text()
    report = copied_report(qtbot, widget)
    assert "36 spots, 12 genes" in report
    assert_tells_nothing_of(widget.controller.slides.slide, report)
    panel = widget.result_panel
    assert widget.controller.results.current is not None
    assert widget.controller.results.overlay.genes == panel.model.checked == visible(widget) == []
    assert panel.export_panel.export.isEnabled()
    for gene in ("Gene5", "Gene7"):
        tick(qtbot, panel.view, gene)
    wait_shown(qtbot, widget)
    assert set(visible(widget)) == {"Gene5", "Gene7"}
    usable(qtbot, widget)


@pytest.mark.contract(
    section="In the window",
    case="memory is full while a slide is read or put on show, a result lands, or genes are painted",
    response=(
        "ran out of memory while …; close other programs, or …; the slide is as before, the result is "
        "kept, what was on show stays"
    ),
)
def test_a_full_memory_while_more_is_painted_leaves_what_was_on_show(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_slide(qtbot, widget, store)
    prepare(widget)
    run(qtbot, widget)
    panel, overlay = widget.result_panel, widget.controller.results.overlay
    shown = visible(widget)
    assert len(shown) == 3
    hidden = [f"Gene{i}" for i in range(12) if f"Gene{i}" not in shown]

    def breaks(target: str, act: Callable[[], object]) -> None:
        """Do something without the memory for it, and look whether all is as before; then do it with."""
        before = sorted(visible(widget))
        with monkeypatch.context() as broken:
            broken.setattr(f"napari_srast.gui.layers.{target}", raising(FULL))
            act()
            qtbot.waitUntil(lambda: told_full(widget), timeout=PATIENCE)
        assert sorted(visible(widget)) == sorted(panel.model.checked) == sorted(overlay.genes) == before
        assert overlay.view == "after"
        assert panel.views["after"].isChecked()
        assert not [name for name in layer_names(widget) if name.startswith("SRast side-by-side")]
        widget.controller.messages.status_message.emit("")
        act()
        wait_shown(qtbot, widget)

    breaks("overlay.render_gene", lambda: tick(qtbot, panel.view, hidden[0]))  # into a new layer
    assert hidden[0] in visible(widget)
    tick(qtbot, panel.view, hidden[0])
    breaks("overlay.render_gene", lambda: tick(qtbot, panel.view, hidden[1]))  # into the layer of the one before
    assert hidden[1] in visible(widget)
    pictures = {layer.name: np.array(layer.data) for layer in widget.controller.viewer.layers if layer.name in shown}
    for view, target in (
        ("before", "compared_layer.measured_layer"),
        ("before", "compared_layer.spot_colors"),
        ("side_by_side", "side_by_side.side_by_side_layers"),
        ("side_by_side", "compared_layer.spot_colors"),
        ("side_by_side", "overlay.insert_unselected"),
    ):
        breaks(target, lambda view=view: click(qtbot, panel.views[view]))
        assert overlay.view == view
        click(qtbot, panel.views["after"])
        if view == "before":  # its layer is kept, but shall be made anew next time
            remove(widget, "measured")
    for layer in widget.controller.viewer.layers:
        if layer.name in shown:
            np.testing.assert_array_equal(layer.data, pictures[layer.name])
    usable(qtbot, widget)


MODELS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "a text": (lambda _: b"weights: none", "no readable safetensors"),
    "empty": (lambda _: b"", "no readable safetensors"),
    "cut": (lambda ours: ours.read_bytes()[:-1000], "no readable safetensors"),
    "a pickle": (lambda _: pickle.dumps({"weights": 1}), "no readable safetensors"),
    "of others": (lambda _: save({"weights": torch.zeros(3)}), "is not a napari-srast model"),
    "of a later version": (lambda _: save({}, {"napari_srast": '{"format": 99}'}), "has format 99"),
    "with a damaged header": (lambda _: save({}, {"napari_srast": "{"}), "is damaged"),
    "a bomb": (lambda ours: with_header(ours, network={"width": 10**9}), "does not fit this version"),
    "for ever": (lambda ours: with_header(ours, sasa={"epochs": 10**12}), "does not fit this version"),
}


def with_header(ours: Path, **entries: Any) -> bytes:
    with safe_open(ours, framework="pt") as file:
        header = json.loads(file.metadata()["napari_srast"])
    return save(load_file(ours), {"napari_srast": json.dumps(header | entries)})


@pytest.mark.contract(
    section="In the window",
    case="a model is chosen that is damaged, not ours, or asks for too much",
    response="the sentence of the command line; the next run works",
)
def test_a_model_that_cannot_be_used_is_refused_in_one_sentence(
    widget: SRastWidget, qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_srast.checkpoints import storage

    ours = Path(storage.__file__).parent / "default.safetensors"
    open_slide(qtbot, widget, store)
    chosen = tmp_path / "chosen.safetensors"
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(chosen), ""))

    def refused(says: str) -> None:
        prepare(widget, "srast")
        click(qtbot, widget.settings_panel.browse_model)
        click(qtbot, widget.run_bar.run)
        wait_ready(qtbot, widget)
        told = widget.run_bar.status.text()
        assert says in told
        assert "chosen.safetensors" in told
        assert "Unexpected" not in told
        assert "\n" not in told

    widget.settings_panel.advanced.setChecked(True)
    refused("There is no model")
    for content, says in MODELS.values():
        chosen.write_bytes(content(ours))
        refused(says)
    with monkeypatch.context() as broken:
        opened = Path.open
        broken.setattr(
            Path,
            "open",
            lambda path, *a, **k: raising(PermissionError(13, "no"))() if path == chosen else opened(path, *a, **k),
        )
        refused("cannot be read")
    chosen.write_bytes(ours.read_bytes())
    prepare(widget, "srast")
    run(qtbot, widget)
    assert "Done" in widget.run_bar.status.text()
    usable(qtbot, widget)


class Halted:
    """A run that stands still in the middle until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.release, self.ended = threading.Event(), threading.Event(), threading.Event()
        self._true = api.upsample_steps
        monkeypatch.setattr(api, "upsample_steps", self._steps)

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
    from napari_srast.io import result_writer

    begun, release, ended, true_write = (
        threading.Event(),
        threading.Event(),
        threading.Event(),
        result_writer.write_result,
    )

    def slow(*args: Any, on_progress: Callable[[float], None], **options: Any) -> Any:
        def wait(done: float) -> None:
            begun.set()
            release.wait(60)
            on_progress(done)

        try:
            return true_write(*args, on_progress=wait, **options)
        finally:
            ended.set()

    monkeypatch.setattr(result_writer, "write_result", slow)
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


@pytest.mark.contract(
    section="In the window",
    case="layers of the slide, the region or the genes are removed during a run",
    response="the run lands",
)
@pytest.mark.contract(
    section="In the window",
    case="a slide is closed during its run, by removing its layers",
    response="'… was closed, so its run was stopped.'; what waits for other slides runs",
)
@pytest.mark.contract(
    section="In the window",
    case="the viewer closes during an export",
    response="nothing is left behind; the slide is as before",
)
def test_layers_slides_and_the_viewer_go_while_something_runs(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    write_slide: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window = open_window()
    controller = window.controller
    open_slide(qtbot, window, write_slide("breast"))
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
    breast = controller.slides.current
    open_slide(qtbot, window, write_slide("colon", n_genes=7, seed=1))
    prepare(window)
    with monkeypatch.context() as patch:
        halted = halted_run(qtbot, window, patch)
        controller.slides.switch(breast)
        prepare(window)
        window._refresh_estimate()
        click(qtbot, window.run_bar.queue)
        controller.slides.switch(controller.slides.sessions[1])
        for layer in [*controller.slides.current.layers, controller.regions.layer]:
            controller.viewer.layers.remove(layer)
        qtbot.waitUntil(lambda: len(controller.slides.sessions) == 1, timeout=PATIENCE)
        assert controller.tasks.state is AppState.RUNNING
        assert not controller.runs.waiting
        halted.release.set()
        n_results = len(breast.results)
        wait_ready(qtbot, window)
    assert controller.slides.current is breast
    assert len(breast.results) == n_results + 1
    assert not any("colon" in name for name in layer_names(window))
    usable(qtbot, window)

    # Everything goes at once, with a run under way.
    prepare(window)
    with monkeypatch.context() as patch:
        halted = halted_run(qtbot, window, patch)
        controller.viewer.layers.clear()
        qtbot.waitUntil(lambda: controller.tasks.state is AppState.EMPTY, timeout=PATIENCE)
        assert "its run was stopped" in window.run_bar.status.text()
        halted.release.set()
        qtbot.waitUntil(halted.ended.is_set, timeout=PATIENCE)
    qtbot.wait(50)
    assert layer_names(window) == []
    assert not window.run_bar.run.isEnabled()
    third = write_slide("third")
    open_slide(qtbot, window, third)
    usable(qtbot, window)

    # The viewer is closed while a result is added to the slide's own store, and while genes are about to be shown.
    before = content(third)
    with monkeypatch.context() as patch:
        begun, release, ended = slow_export(patch)
        window.result_panel.export_panel.export_into.trigger()
        qtbot.waitUntil(begun.is_set, timeout=PATIENCE)
        controller.results.show_genes([])
        remove(window, "gene")
        controller.results.show_genes(["Gene1", "Gene2"])
        controller.viewer.close()
        release.set()
        assert ended.wait(60)
        qtbot.wait(50)
    assert content(third) == before
    assert sorted(path.name for path in tmp_path.glob("*.zarr")) == ["breast.zarr", "colon.zarr", "third.zarr"]
    assert not any(path.is_dir() for path in tmp_path.glob(".*"))


@pytest.mark.contract(
    section="In the window",
    case="the disk fills up during an export, each format",
    response="cannot be written (…); nothing was left behind; the next export works",
)
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
    export_panel = widget.result_panel.export_panel
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(folder / "out"), ""))
    for action in (
        export_panel.export_store,
        export_panel.export_h5ad,
        export_panel.export_csv,
        export_panel.export_into,
    ):
        with filling_disk():
            action.trigger()
            wait_ready(qtbot, widget)
        assert "cannot be written" in widget.run_bar.status.text()
        assert "nothing was left behind" in widget.run_bar.status.text()
        assert_tells_nothing_of(widget.controller.slides.slide, copied_report(qtbot, widget))
        assert os.listdir(folder) == []
        assert content(store) == before
    export_panel.export_store.trigger()
    wait_ready(qtbot, widget)
    assert os.listdir(folder) == ["out.zarr"]
    usable(qtbot, widget)
