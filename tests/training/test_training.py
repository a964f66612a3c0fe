"""Training on a synthetic slide: pseudo-slides are consistent, the loss falls, runs resume, recipes work."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch

from napari_srast.calibration.fitting import gain_per_gene
from napari_srast.calibration.weights import EXPERT_NAMES
from napari_srast.checkpoints.storage import load_checkpoint
from napari_srast.errors import InputError, SettingsError
from napari_srast.models.pcfm.network import DiTConfig
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.training.lattice_sampling import make_pseudo_slides
from napari_srast.training.pipeline import train_from_recipe
from napari_srast.training.prior_fitting import predict_pseudo_slide
from napari_srast.training.pseudo_slides import PseudoSlide
from napari_srast.training.recipe import read_recipe
from napari_srast.training.sources import PseudoSlideSettings, SourceSlide
from napari_srast.training.trainer import TrainerConfig, train_flow

SASA = SasaConfig(epochs=10, n_components=8)
SETTINGS = PseudoSlideSettings(fields=12, groups=3, least_spots=40, factors=(2.0,), thinning=(1.0,))
SMALL = DiTConfig(width=16, depth=1, heads=2)


@pytest.fixture(scope="module")
def pseudo_slides(cells: Path) -> list[PseudoSlide]:
    pseudo_slides = []
    for study in ("a", "b"):
        source = SourceSlide(name=f"cells_{study}", study=study, path=cells, resolution="high", cases=2)
        pseudo_slides += list(make_pseudo_slides(source, SETTINGS, SASA, seed=0))
    assert len(pseudo_slides) >= 3
    return pseudo_slides


def test_truth_sums_to_coarse_counts(pseudo_slides: list[PseudoSlide]) -> None:
    for one in pseudo_slides:
        sums = one.layout.membership @ one.truth.numpy()
        np.testing.assert_allclose(sums, one.inputs.counts.numpy(), rtol=1e-5)
        parents = one.layout.parent[one.edges.numpy()]
        assert (parents[0] != parents[1]).all()


def test_pseudo_slides_repeat_for_a_seed(cells: Path) -> None:
    source = SourceSlide(name="cells", study="a", path=cells, resolution="high", cases=1)
    first, again = (next(iter(make_pseudo_slides(source, SETTINGS, SASA, seed=3))) for _ in range(2))
    assert first.description == again.description
    torch.testing.assert_close(first.inputs.expert_log_ratios, again.inputs.expert_log_ratios)


@pytest.fixture
def grid(tmp_path: Path) -> SourceSlide:
    """A low-resolution slide of 20 x 20 spots."""
    rng = np.random.default_rng(0)
    row, col = (a.ravel() for a in np.mgrid[:20, :20])
    table = anndata.AnnData(X=rng.poisson(5 + 4 * np.sin(col / 3)[:, None] * np.ones(6)).astype(np.float32))
    table.obsm["spatial"] = np.column_stack([col, row]) * 100.0
    table.write_h5ad(tmp_path / "slide.h5ad")
    return SourceSlide(name="slide", study="s", path=tmp_path / "slide.h5ad", resolution="low", cases=1)


def test_low_resolution_slide_is_its_own_truth(grid: SourceSlide) -> None:
    (pseudo_slide,) = make_pseudo_slides(grid, SETTINGS, SASA, seed=0)
    assert pseudo_slide.layout.n_spots == 100
    assert (pseudo_slide.layout.n_pixels_per_spot == 4).all()


def test_crops_are_smaller_and_never_scored(grid: SourceSlide, cells: Path) -> None:
    high = SourceSlide(name="cells", study="a", path=cells, resolution="high", cases=1)
    with_crops = replace(SETTINGS, windows=4, missing_spots=(0.1,))
    for source in (grid, high):
        (original,) = make_pseudo_slides(source, SETTINGS, SASA, seed=0)
        same, *crops = make_pseudo_slides(source, with_crops, SASA, seed=0)
        torch.testing.assert_close(same.inputs.expert_log_ratios, original.inputs.expert_log_ratios)
        assert same.scored
        assert same.coarsened
        assert crops
        assert not any(crop.scored or crop.coarsened for crop in crops)
        assert all("crop" in crop.description for crop in crops)
        sums = [crop.layout.membership @ crop.truth.numpy() for crop in crops]
        for crop, total in zip(crops, sums, strict=True):
            nonempty = crop.layout.n_pixels_per_spot > 0
            np.testing.assert_allclose(total[nonempty], crop.inputs.counts.numpy()[nonempty], rtol=1e-5)
        if source is grid:
            assert min(crop.layout.n_spots for crop in crops) < original.layout.n_spots


def test_training_gains_on_a_held_out_study(pseudo_slides: list[PseudoSlide]) -> None:
    seen, unseen = ([one for one in pseudo_slides if one.study == name] for name in "ab")
    config = TrainerConfig(steps=120, patch_spots=16, patch_fields=8, warmup=10, ema=0.9)
    network, losses = train_flow(seen, config, SMALL, accelerator="cpu")
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    predictions = predict_pseudo_slide(network, unseen[0])
    log_ratio = predictions.log_experts[EXPERT_NAMES.index("pcfm")]
    assert np.nanmean(gain_per_gene(log_ratio, predictions.truth, predictions.layout)) > 0


def test_interrupted_training_gives_the_same_result(pseudo_slides: list[PseudoSlide], tmp_path: Path) -> None:
    config = TrainerConfig(steps=12, patch_spots=8, patch_fields=4, checkpoint_every=5)
    short, short_losses = train_flow(pseudo_slides, config, SMALL, accelerator="cpu")

    class Interrupted(Exception):
        pass

    def interrupt(step: int, steps: int, loss: float) -> None:
        raise Interrupted

    state = tmp_path / "run.state"
    longer = TrainerConfig(steps=40, patch_spots=8, patch_fields=4, checkpoint_every=5)
    with pytest.raises(Interrupted):
        train_flow(pseudo_slides, longer, SMALL, accelerator="cpu", state_file=state, progress=interrupt)
    uninterrupted, losses = train_flow(pseudo_slides, longer, SMALL, accelerator="cpu")
    resumed, resumed_losses = train_flow(pseudo_slides, longer, SMALL, accelerator="cpu", state_file=state)
    assert resumed_losses == losses
    for a, b in zip(uninterrupted.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert len(short_losses) == 12
    assert short.config == SMALL


RECIPE = """
name = "tiny"
data = "."
output = "tiny.safetensors"
folds = 2
[cases]
fields = 10
groups = 2
least_spots = 40
factors = [2.0]
[sasa]
epochs = 5
n_components = 8
[network]
width = 16
depth = 1
heads = 2
[trainer]
steps = 6
patch_spots = 8
patch_fields = 4
"""


def write_recipe(folder: Path, cells: Path) -> Path:
    for study in "ab":
        shutil.copy(cells, folder / f"{study}.h5ad")
    slides = "".join(
        f'[[slides]]\nfile = "{study}.h5ad"\nstudy = "{study}"\nresolution = "high"\ncases = 1\nlicence = "CC0"\n'
        for study in "ab"
    )
    path = folder / "tiny.toml"
    path.write_text(RECIPE + slides)
    return path


def test_recipe_writes_checkpoint_card_and_scores(tmp_path: Path, cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAPARI_SRAST_DATA", raising=False)
    steps = []
    output = train_from_recipe(write_recipe(tmp_path, cells), progress=lambda *step: steps.append(step))
    loaded = load_checkpoint(output)
    assert 'name = "tiny"' in loaded.record["recipe"]
    card = output.with_suffix(".md").read_text()
    assert loaded.sha256 in card
    assert "CC0" in card
    assert (tmp_path / "runs" / "tiny" / "scores.json").exists()
    assert {"pseudo-slides", "score"} <= {stage for stage, *_ in steps}


def test_parallel_training_gives_the_same_networks(
    tmp_path: Path, cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NAPARI_SRAST_DATA", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    digests = []
    for name, min_steps in (("serial", 10**9), ("parallel", 1)):
        monkeypatch.setattr("napari_srast.training.pipeline._MIN_STEPS_FOR_PROCESSES", min_steps)
        folder = tmp_path / name
        folder.mkdir()
        loaded = load_checkpoint(train_from_recipe(write_recipe(folder, cells)))
        digests.append({key: value.numpy().tobytes() for key, value in loaded.network.state_dict().items()})
    assert digests[0] == digests[1]


def test_invalid_recipes_are_reported(tmp_path: Path, cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAPARI_SRAST_DATA", raising=False)
    with pytest.raises(InputError, match=r"missing\.toml"):
        read_recipe(tmp_path / "missing.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("name = ")
    with pytest.raises(InputError, match="not valid TOML"):
        read_recipe(bad)
    bad.write_text('name = "x"\n')
    with pytest.raises(InputError, match="data"):
        read_recipe(bad)
    recipe = write_recipe(tmp_path, cells)
    recipe.write_text(recipe.read_text().replace("epochs = 5", "epoch = 5"))
    with pytest.raises(SettingsError, match="epoch"):
        train_from_recipe(recipe)
    recipe = write_recipe(tmp_path, cells)
    recipe.write_text(recipe.read_text().replace("a.h5ad", "gone.h5ad"))
    with pytest.raises(InputError, match="gone"):
        train_from_recipe(recipe)
    recipe.write_text(recipe.read_text().replace("gone.h5ad", "b.h5ad"))
    with pytest.raises(InputError, match="same file name"):
        read_recipe(recipe)
