"""Pipeline: a recipe gives a checkpoint, a model card and scores, with or without processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_srast.checkpoints.storage import load_checkpoint
from napari_srast.core.progress import Progress
from napari_srast.errors import Cancelled
from napari_srast.training.pipeline import train_from_recipe


def test_recipe_writes_checkpoint_card_and_scores(tmp_path: Path, write_recipe: Callable[[Path], Path]) -> None:
    steps: list[Progress] = []
    output = train_from_recipe(write_recipe(tmp_path), progress=steps.append)
    loaded = load_checkpoint(output)
    assert 'name = "tiny"' in loaded.record["recipe"]
    card = output.with_suffix(".md").read_text()
    assert loaded.sha256 in card
    assert "CC0" in card
    assert (tmp_path / "runs" / "tiny" / "scores.json").exists()
    folds = sorted((tmp_path / "runs" / "tiny").glob("fold*.safetensors"))
    held_out = [name for fold in folds for name in load_checkpoint(fold).record["held_out"]]
    assert sorted(held_out) == sorted(loaded.record["slides"])  # each slide by one fold
    assert "held_out" not in loaded.record
    assert {"pseudo-slides", "score"} <= {step.stage for step in steps}
    assert all(step.detail for step in steps)


def test_parallel_training_gives_the_same_networks(
    tmp_path: Path, write_recipe: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    networks = []
    for name, min_steps in (("serial", 10**9), ("parallel", 1)):
        monkeypatch.setattr("napari_srast.training.pipeline._MIN_STEPS_FOR_PROCESSES", min_steps)
        folder = tmp_path / name
        folder.mkdir()
        loaded = load_checkpoint(train_from_recipe(write_recipe(folder)))
        networks.append({key: value.numpy().tobytes() for key, value in loaded.network.state_dict().items()})
    assert networks[0] == networks[1]


@pytest.mark.parametrize(
    ("stage", "min_steps"), [("pseudo-slides", 10**9), ("fold 1", 10**9), ("score", 10**9), ("all slides", 1)]
)
def test_canceled_training_resumes_with_the_same_result(
    stage: str,
    min_steps: int,
    tmp_path: Path,
    write_recipe: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr("napari_srast.training.pipeline._MIN_STEPS_FOR_PROCESSES", min_steps)
    canceled = threading.Event()

    def cancel_at(step: Progress) -> None:
        if step.stage == stage:
            canceled.set()

    (tmp_path / "whole").mkdir()
    (tmp_path / "canceled").mkdir()
    recipe = write_recipe(tmp_path / "canceled")
    with pytest.raises(Cancelled):
        train_from_recipe(recipe, progress=cancel_at, should_stop=canceled.is_set)
    assert not list((tmp_path / "canceled").rglob("tiny*.safetensors"))
    resumed = load_checkpoint(train_from_recipe(recipe))
    whole = load_checkpoint(train_from_recipe(write_recipe(tmp_path / "whole")))
    assert resumed.sha256 == whole.sha256
