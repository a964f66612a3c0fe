"""The window stays usable after any error: the next run works, and an error report can be copied."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.window import PATIENCE, SQUARE, click, layer_names, open_slide, run, tick, visible, wait_ready, wait_shown
from napari.components import LayerList
from napari.layers import Layer
from qtpy.QtWidgets import QApplication, QFileDialog
from safetensors import safe_open
from safetensors.torch import load_file, save

from napari_srast import __version__
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
    "raster": "napari_srast.inference.rasters.make_raster",
    "align": "napari_srast.inference.executors.sasa_process_pool._fit",
    "calibrate": "napari_srast.inference.fitted_slide.coarsened_variants",
    "split": "napari_srast.interpolation.Interpolator.ratios",
    "checks": "napari_srast.inference.validation.ResultValidator.add",
    "preparing": "napari_srast.gui.state.run_request.prepare_for_display",
    "displaying": "napari_srast.gui.state.slide_session.SlideSession.choose_result",
    "saving": "napari_srast.io.result_writer.write_result",
}
"""A function that each stage needs; a test makes it fail."""
DEVICE_ERRORS = (
    ("align", RuntimeError("CUDA error: no CUDA-capable device is detected\nCUDA kernel errors"), "no CUDA-capable"),
    ("split", torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "choose device 'cpu'"),
    ("split", MemoryError("Unable to allocate 3.2 GiB"), "This computer ran out of memory"),
)
"""Stage, exception and expected message: a device that disappears, and two kinds of memory that are full."""
QUOTED_COUNT = "90417"
OUT_OF_MEMORY = MemoryError("Unable to allocate 3.2 GiB for an array with shape (20000, 40000)")
MEMORY_MESSAGE = "This computer ran out of memory"


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the cache of fitted slides: a cached slide is not fitted again, so its fit cannot fail."""
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


def check_usable(qtbot: Any, widget: SRastWidget) -> None:
    """Run again, as a user would."""
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


def check_anonymous(slide: Slide, report: str) -> None:
    """Check that a report has no gene, spot, path or file name of the slide, and no count from an error message."""
    source = slide.source
    assert source.path is not None
    for name in (*slide.genes, *slide.spot_ids, source.path, Path(source.path).name, source.image, QUOTED_COUNT):
        assert str(name) not in report


@pytest.mark.contract(
    section="In the window",
    case="reading, any stage of a run, the display of its result or an export raises an error",
    response="one sentence, *Copy report*; the next run works",
)
def test_error_in_any_stage_is_shown_and_the_window_stays_usable(
    widget: SRastWidget, qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = read_slide(store)
    message = f"Gene3 of {slide.source.path}: spot7 has {QUOTED_COUNT} counts"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "out.zarr"), ""))
    for stage, target in STAGES.items():
        if stage not in ("reading", "saving"):
            prepare(widget, "srast" if stage in ("align", "calibrate") else "bilinear")
        with monkeypatch.context() as patch:
            patch.setattr(target, raising(LookupError(message)))
            if stage == "reading":
                widget.open_path(store)
            elif stage == "saving":
                widget.result_panel.export_panel.export_store.trigger()
            else:
                click(qtbot, widget.run_bar.run)
            assert widget.run_bar.cancel.isEnabled(), stage
            resting = AppState.EMPTY if stage == "reading" else AppState.READY
            qtbot.waitUntil(lambda resting=resting: widget.controller.tasks.state is resting, timeout=PATIENCE)
        status = widget.run_bar.status.text()
        assert status.startswith("Unexpected error while"), stage
        assert f"LookupError: {message}" in status  # shown to the user, but not in the report

        report = copied_report(qtbot, widget)
        assert "builtins.LookupError: message left out" in report
        assert "test_window_faults:" in report  # the module that raised it, without its path
        assert f"napari-srast {__version__}, napari " in report
        check_anonymous(slide, report)
        if stage == "reading":
            open_slide(qtbot, widget, store)
        else:
            assert "36 spots, 12 genes" in report
            assert "factor=4.0" in report
        if stage in ("align", "calibrate"):
            assert f"Failed: upsampling, at step '{stage}' (0 of 1 done)" in report
        check_usable(qtbot, widget)


@pytest.mark.contract(
    section="In the window",
    case="the device disappears, or its memory or that of the computer is full",
    response="what to choose instead; the next run works",
)
def test_device_error_names_the_next_step(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_slide(qtbot, widget, store)
    for stage, error, message in DEVICE_ERRORS:
        prepare(widget, "srast" if stage == "align" else "bilinear")
        with monkeypatch.context() as patch:
            patch.setattr(STAGES[stage], raising(error))
            click(qtbot, widget.run_bar.run)
            wait_ready(qtbot, widget)
        assert message in widget.run_bar.status.text()
        assert "Unexpected" not in widget.run_bar.status.text()
        report = copied_report(qtbot, widget)
        assert message in report
        assert f"because of {type(error).__module__}.{type(error).__qualname__}" in report
        check_usable(qtbot, widget)


def shows_out_of_memory(widget: SRastWidget) -> bool:
    """Return whether the status line reports full memory in one sentence with the next step."""
    status = widget.run_bar.status.text()
    return status.startswith(MEMORY_MESSAGE) and "close other programs, or" in status and status.count(".") == 1


@pytest.mark.contract(
    section="In the window",
    case="memory is full while a slide is read or shown, a result is added, or genes are drawn",
    response=(
        "ran out of memory while …; close other programs, or …; the slide is as before, the result is "
        "in the list, the display stays as it was"
    ),
)
@pytest.mark.parametrize("has_other_slide", [False, True])
def test_full_memory_while_opening_a_slide_changes_nothing(
    has_other_slide: bool,
    widget: SRastWidget,
    qtbot: Any,
    write_slide: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, controller = write_slide(), widget.controller
    if has_other_slide:
        open_slide(qtbot, widget, write_slide("colon", n_genes=7, seed=1))
    before, names, resting = controller.slides.current, layer_names(widget), controller.tasks.resting_state()
    insert = LayerList.insert

    def insert_all_but_spots(layers: LayerList, index: int, layer: Layer) -> None:
        if role_of(layer) == "spots":  # added last
            raise OUT_OF_MEMORY
        insert(layers, index, layer)

    for target, fail in (
        ("napari_srast.gui.state.slide_loading.load", raising(OUT_OF_MEMORY)),
        ("napari_srast.io.slide_reader.raw_counts", raising(OUT_OF_MEMORY)),
        ("napari_srast.gui.state.slide_loading.spatial_structure", raising(OUT_OF_MEMORY)),
        ("napari_srast.gui.state.slide_session.slide_layer_data", raising(OUT_OF_MEMORY)),
        ("napari.components.LayerList.insert", raising(OUT_OF_MEMORY)),
        ("napari.components.LayerList.insert", insert_all_but_spots),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, fail)
            widget.open_path(store)
            assert controller.tasks.state is AppState.OPENING, target
            qtbot.waitUntil(lambda: controller.tasks.state is resting, timeout=PATIENCE)
        assert shows_out_of_memory(widget), (target, widget.run_bar.status.text())
        assert str(store) not in copied_report(qtbot, widget)
        assert controller.slides.current is before
        assert layer_names(widget) == names
        assert all(layer.visible for layer in controller.viewer.layers)
        assert not widget.run_bar.cancel.isEnabled()
        open_slide(qtbot, widget, store)
        check_usable(qtbot, widget)
        controller.slides.close()
        assert controller.slides.current is before


@pytest.mark.contract(
    section="In the window",
    case="memory is full while a slide is read or shown, a result is added, or genes are drawn",
    response=(
        "ran out of memory while …; close other programs, or …; the slide is as before, the result is "
        "in the list, the display stays as it was"
    ),
)
@pytest.mark.parametrize("stage", ["preparing", "displaying"])
def test_full_memory_while_adding_a_result_is_shown(
    stage: str, widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_slide(qtbot, widget, store)
    for has_result in (False, True):
        prepare(widget)
        n_before = len(widget.controller.results.all)
        with monkeypatch.context() as patch:
            patch.setattr(STAGES[stage], raising(OUT_OF_MEMORY))
            click(qtbot, widget.run_bar.run)
            wait_ready(qtbot, widget)
        assert shows_out_of_memory(widget), widget.run_bar.status.text()
        assert (widget.controller.results.current is not None) == has_result
        listed = [widget.result_panel.results.itemText(i) for i in range(widget.result_panel.results.count())]
        assert len(listed) == len(widget.controller.results.all) == n_before + (stage == "displaying")
        check_usable(qtbot, widget)
    if stage == "displaying":  # the result that could not be displayed is in the list
        widget.controller.results.choose(widget.controller.results.all[0])
        wait_shown(qtbot, widget)
        assert len(visible(widget)) == 1


@pytest.mark.contract(
    section="In the window",
    case="memory is full while a slide is read or shown, a result is added, or genes are drawn",
    response=(
        "ran out of memory while …; close other programs, or …; the slide is as before, the result is "
        "in the list, the display stays as it was"
    ),
)
@pytest.mark.parametrize(
    "target",
    [
        "overlay.render_gene",
        "overlay.Backdrop.of_slide",
        "gene_layer_set.GeneLayer.create",
        "layer_stack.insert_unselected",
    ],
)
def test_full_memory_while_drawing_first_genes_keeps_the_result(
    target: str, widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_slide(qtbot, widget, store)
    prepare(widget)
    with monkeypatch.context() as patch:
        patch.setattr(f"napari_srast.gui.layers.{target}", raising(OUT_OF_MEMORY))
        click(qtbot, widget.run_bar.run)
        wait_ready(qtbot, widget)
        qtbot.waitUntil(lambda: shows_out_of_memory(widget), timeout=PATIENCE)
    assert "while showing the genes" in widget.run_bar.status.text()
    report = copied_report(qtbot, widget)
    assert "36 spots, 12 genes" in report
    check_anonymous(widget.controller.slides.slide, report)
    panel = widget.result_panel
    assert widget.controller.results.current is not None
    assert widget.controller.results.overlay.genes == panel.model.checked == visible(widget) == []
    assert panel.export_panel.export.isEnabled()
    for gene in ("Gene5", "Gene7"):
        tick(qtbot, panel.view, gene)
    wait_shown(qtbot, widget)
    assert set(visible(widget)) == {"Gene5", "Gene7"}
    check_usable(qtbot, widget)


@pytest.mark.contract(
    section="In the window",
    case="memory is full while a slide is read or shown, a result is added, or genes are drawn",
    response=(
        "ran out of memory while …; close other programs, or …; the slide is as before, the result is "
        "in the list, the display stays as it was"
    ),
)
def test_full_memory_while_drawing_keeps_the_display(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_slide(qtbot, widget, store)
    prepare(widget)
    run(qtbot, widget)
    panel, overlay = widget.result_panel, widget.controller.results.overlay
    genes = [f"Gene{i}" for i in range(12)]
    (first,) = visible(widget)
    for gene in [gene for gene in genes if gene != first][:2]:
        tick(qtbot, panel.view, gene)
    wait_shown(qtbot, widget)
    shown = visible(widget)
    assert len(shown) == 3
    hidden = [gene for gene in genes if gene not in shown]

    def check_failure(target: str, act: Callable[[], object]) -> None:
        """Check that an action without memory changes nothing; then repeat it with memory."""
        before = sorted(visible(widget))
        with monkeypatch.context() as patch:
            patch.setattr(f"napari_srast.gui.layers.{target}", raising(OUT_OF_MEMORY))
            act()
            qtbot.waitUntil(lambda: shows_out_of_memory(widget), timeout=PATIENCE)
        assert sorted(visible(widget)) == sorted(panel.model.checked) == sorted(overlay.genes) == before
        assert overlay.view == "after"
        assert panel.views["after"].isChecked()
        assert not [name for name in layer_names(widget) if name.startswith("SRast side-by-side")]
        widget.controller.messages.status_message.emit("")
        act()
        wait_shown(qtbot, widget)

    check_failure("overlay.render_gene", lambda: tick(qtbot, panel.view, hidden[0]))  # draws a new layer
    assert hidden[0] in visible(widget)
    tick(qtbot, panel.view, hidden[0])
    check_failure("overlay.render_gene", lambda: tick(qtbot, panel.view, hidden[1]))  # reuses a layer
    assert hidden[1] in visible(widget)
    images = {layer.name: np.array(layer.data) for layer in widget.controller.viewer.layers if layer.name in shown}
    for view, target in (
        ("before", "compared_layer.measured_layer"),
        ("before", "compared_layer.spot_colors"),
        ("side_by_side", "side_by_side.side_by_side_layers"),
        ("side_by_side", "compared_layer.spot_colors"),
        ("side_by_side", "layer_stack.insert_unselected"),
    ):
        check_failure(target, lambda view=view: click(qtbot, panel.views[view]))
        assert overlay.view == view
        click(qtbot, panel.views["after"])
        if view == "before":  # the next view must create the layer again
            remove(widget, "measured")
    for layer in widget.controller.viewer.layers:
        if layer.name in shown:
            np.testing.assert_array_equal(layer.data, images[layer.name])
    check_usable(qtbot, widget)


MODELS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "text": (lambda _: b"weights: none", "not a readable safetensors"),
    "empty": (lambda _: b"", "not a readable safetensors"),
    "truncated": (lambda default: default.read_bytes()[:-1000], "not a readable safetensors"),
    "pickle": (lambda _: pickle.dumps({"weights": 1}), "not a readable safetensors"),
    "foreign": (lambda _: save({"weights": torch.zeros(3)}), "is not a napari-srast model"),
    "later version": (lambda _: save({}, {"napari_srast": '{"format": 99}'}), "has format 99"),
    "damaged header": (lambda _: save({}, {"napari_srast": "{"}), "is damaged"),
    "huge network": (lambda default: with_header(default, network={"width": 10**9}), "does not fit this version"),
    "endless training": (lambda default: with_header(default, sasa={"epochs": 10**12}), "does not fit this version"),
}


def with_header(default: Path, **entries: Any) -> bytes:
    with safe_open(default, framework="pt") as file:
        header = json.loads(file.metadata()["napari_srast"])
    return save(load_file(default), {"napari_srast": json.dumps(header | entries)})


@pytest.mark.contract(
    section="In the window",
    case="a model is chosen that is damaged, foreign, or too large",
    response="the sentence of the command line; the next run works",
)
def test_unusable_model_is_refused_in_one_sentence(
    widget: SRastWidget, qtbot: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_srast.checkpoints import storage

    default = Path(storage.__file__).parent / "default.safetensors"
    open_slide(qtbot, widget, store)
    chosen = tmp_path / "chosen.safetensors"
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(chosen), ""))

    def check_refused(message: str) -> None:
        prepare(widget, "srast")
        click(qtbot, widget.settings_panel.browse_model)
        click(qtbot, widget.run_bar.run)
        wait_ready(qtbot, widget)
        status = widget.run_bar.status.text()
        assert message in status
        assert "chosen.safetensors" in status
        assert "Unexpected" not in status
        assert "\n" not in status

    widget.settings_panel.advanced.setChecked(True)
    check_refused("There is no model")
    for content, message in MODELS.values():
        chosen.write_bytes(content(default))
        check_refused(message)
    with monkeypatch.context() as patch:
        true_open = Path.open
        patch.setattr(
            Path,
            "open",
            lambda path, *a, **k: raising(PermissionError(13, "no"))() if path == chosen else true_open(path, *a, **k),
        )
        check_refused("cannot be read")
    chosen.write_bytes(default.read_bytes())
    prepare(widget, "srast")
    run(qtbot, widget)
    assert "Done" in widget.run_bar.status.text()
    check_usable(qtbot, widget)


def remove(widget: SRastWidget, role: str) -> None:
    layers = widget.controller.viewer.layers
    for layer in [layer for layer in layers if role_of(layer) == role]:
        layers.remove(layer)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.contract(
    section="In the window",
    case="the disk fills up during an export, each format",
    response="cannot be written (…); nothing was left behind; the next export works",
)
def test_full_disk_during_an_export_leaves_no_file(
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
        check_anonymous(widget.controller.slides.slide, copied_report(qtbot, widget))
        assert os.listdir(folder) == []
        assert content(store) == before
    export_panel.export_store.trigger()
    wait_ready(qtbot, widget)
    assert os.listdir(folder) == ["out.zarr"]
    check_usable(qtbot, widget)
