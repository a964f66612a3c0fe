"""Unusable input in the window: the message of the command line, no layer, and a usable window."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers.window import PATIENCE, SQUARE, click, layer_names, open_slide, run, wait_ready
from qtpy.QtWidgets import QFileDialog

from napari_srast.cli import main
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.widget import SRastWidget

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore")]


def set_counts(store: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    values = zarr.open_array(store / "tables" / "table" / "X" / "data")
    values[:] = change(values[:])


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def declare_too_much(store: Path) -> None:
    metadata = store / "tables" / "table" / "X" / "data" / "zarr.json"
    declared = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(declared | {"shape": [10**12]}))


UNUSABLE: dict[str, Callable[[Path], object]] = {
    "is missing": shutil.rmtree,
    "is not a store": lambda store: (store / "zarr.json").unlink(),
    "is partially written": lambda store: truncate(store / "zarr.json"),
    "has no table": lambda store: shutil.rmtree(store / "tables" / "table"),
    "has no spots": lambda store: shutil.rmtree(store / "shapes" / "spots"),
    "has damaged spots": lambda store: truncate(store / "shapes" / "spots" / "shapes.parquet"),
    "has no counts": lambda store: shutil.rmtree(store / "tables" / "table" / "X" / "data" / "c"),
    "has negative counts": lambda store: set_counts(store, lambda x: -x),
    "has counts that are not finite": lambda store: set_counts(store, lambda x: x * np.nan),
    "is log-normalized": lambda store: set_counts(store, np.log1p),
    "is all zeros": lambda store: set_counts(store, np.zeros_like),
    "declares more than fits in memory": declare_too_much,
}


def message_of_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)
    capsys.readouterr()
    assert main(list(words)) == 2
    (message,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("napari-srast: "))
    return message.removeprefix("napari-srast: ")


@pytest.mark.contract(
    section="In the window",
    case=(
        "a slide that is missing, not a store, partially written, damaged, without table, spots or counts, "
        "with invalid counts, or too large"
    ),
    response="the message of the command line; no layer; the next slide opens",
)
def test_unusable_slides_get_the_message_of_the_command_line(
    widget: SRastWidget,
    qtbot: Any,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, damage in UNUSABLE.items():
        slide = tmp_path / f"{name}.zarr"
        shutil.copytree(store, slide)
        damage(slide)
        sentence = message_of_command_line(
            monkeypatch, capsys, "upsample", str(slide), "-o", str(tmp_path / "o.csv"), "--method", "uniform"
        )
        widget.open_path(slide)
        qtbot.waitUntil(lambda: widget.controller.tasks.state is AppState.EMPTY, timeout=PATIENCE)
        assert " ".join(widget.run_bar.status.text().split()) == sentence, name
        assert layer_names(widget) == []
    open_slide(qtbot, widget, store)


@pytest.mark.contract(
    section="In the window",
    case="a model that is missing or empty; an output inside the slide, or in no folder",
    response="the same; the next run works",
)
def test_unusable_models_and_outputs_are_refused(
    widget: SRastWidget,
    qtbot: Any,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    open_slide(qtbot, widget, store)
    widget.controller.regions.add(SQUARE)
    (tmp_path / "empty.safetensors").touch()
    for model in ("missing.safetensors", "empty.safetensors"):
        file = str(tmp_path / model)
        sentence = message_of_command_line(
            monkeypatch, capsys, "upsample", str(store), "-o", str(tmp_path / "o.csv"), "--model", file
        )
        widget.settings_panel.model.value = file
        click(qtbot, widget.run_bar.run)
        wait_ready(qtbot, widget)
        assert " ".join(widget.run_bar.status.text().split()) == sentence
    widget.settings_panel.method.value = "uniform"
    run(qtbot, widget)
    for target, says in ((store / "inside.zarr", "inside"), (tmp_path / "no folder" / "o.zarr", "does not exist")):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, target=target: (str(target), ""))
        widget.result_panel.export_panel.export_store.trigger()
        wait_ready(qtbot, widget)
        assert says in widget.run_bar.status.text()
        assert not target.exists()
