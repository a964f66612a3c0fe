"""Training on a made-up slide: cases are consistent, loss falls, a killed run ends as an unbroken one, recipes work."""

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
from napari_srast.training.pipeline import train_from_recipe
from napari_srast.training.prior_fitting import check_of
from napari_srast.training.pseudo_slides import PseudoSlide, PseudoSlideSettings, SourceSlide, make_pseudo_slides
from napari_srast.training.recipe import read_recipe
from napari_srast.training.trainer import TrainerConfig, train_flow

SASA = SasaConfig(epochs=10, n_components=8)
SETTINGS = PseudoSlideSettings(fields=12, groups=3, least_spots=40, factors=(2.0,), thinning=(1.0,))
SMALL = DiTConfig(width=16, depth=1, heads=2)


@pytest.fixture(scope="module")
def cases(cells: Path) -> list[PseudoSlide]:
    made = []
    for study in ("a", "b"):
        source = SourceSlide(name=f"cells_{study}", study=study, path=cells, resolution="high", cases=2)
        made += list(make_pseudo_slides(source, SETTINGS, SASA, seed=0))
    assert len(made) >= 3
    return made


def test_truth_sums_to_the_coarse_counts(cases: list[PseudoSlide]) -> None:
    for case in cases:
        sums = case.layout.membership @ case.truth.numpy()
        np.testing.assert_allclose(sums, case.condition.counts.numpy(), rtol=1e-5)
        parents = case.layout.parent[case.edges.numpy()]
        assert (parents[0] != parents[1]).all()


def test_cases_repeat_for_a_seed(cells: Path) -> None:
    source = SourceSlide(name="cells", study="a", path=cells, resolution="high", cases=1)
    first, again = (next(iter(make_pseudo_slides(source, SETTINGS, SASA, seed=3))) for _ in range(2))
    assert first.description == again.description
    torch.testing.assert_close(first.condition.experts, again.condition.experts)


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
    (case,) = make_pseudo_slides(grid, SETTINGS, SASA, seed=0)
    assert case.layout.n_spots == 100
    assert (case.layout.n_pixels_of_spot == 4).all()


def test_windows_are_smaller_never_scored_and_leave_the_scored_cases_as_they_are(
    grid: SourceSlide, cells: Path
) -> None:
    high = SourceSlide(name="cells", study="a", path=cells, resolution="high", cases=1)
    windows = replace(SETTINGS, windows=4, missing_spots=(0.1,))
    for source in (grid, high):
        (whole,) = make_pseudo_slides(source, SETTINGS, SASA, seed=0)
        same, *others = make_pseudo_slides(source, windows, SASA, seed=0)
        torch.testing.assert_close(same.condition.experts, whole.condition.experts)
        assert same.scored
        assert same.checks
        assert others
        assert not any(other.scored or other.checks for other in others)
        assert all("window" in other.description for other in others)
        sums = [other.layout.membership @ other.truth.numpy() for other in others]
        for other, total in zip(others, sums, strict=True):
            held = other.layout.n_pixels_of_spot > 0
            np.testing.assert_allclose(total[held], other.condition.counts.numpy()[held], rtol=1e-5)
        if source is grid:
            assert min(other.layout.n_spots for other in others) < whole.layout.n_spots


def test_training_gains_on_a_study_that_it_has_not_seen(cases: list[PseudoSlide]) -> None:
    seen, unseen = [c for c in cases if c.study == "a"], [c for c in cases if c.study == "b"]
    config = TrainerConfig(steps=120, patch_spots=16, patch_fields=8, warmup=10, ema=0.9)
    network, losses = train_flow(seen, config, SMALL, accelerator="cpu")
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    known = check_of(network, unseen[0])
    assert np.nanmean(gain_per_gene(known.log_experts[EXPERT_NAMES.index("pcfm")], known.truth, known.layout)) > 0


def test_killed_run_ends_as_an_unbroken_one(cases: list[PseudoSlide], tmp_path: Path) -> None:
    config = TrainerConfig(steps=12, patch_spots=8, patch_fields=4, checkpoint_every=5)
    whole, whole_losses = train_flow(cases, config, SMALL, accelerator="cpu")

    class Killed(Exception):
        pass

    def kill(step: int, steps: int, loss: float) -> None:
        raise Killed

    state = tmp_path / "run.state"
    longer = TrainerConfig(steps=40, patch_spots=8, patch_fields=4, checkpoint_every=5)
    with pytest.raises(Killed):
        train_flow(cases, longer, SMALL, accelerator="cpu", state_file=state, progress=kill)
    unbroken, losses = train_flow(cases, longer, SMALL, accelerator="cpu")
    resumed, resumed_losses = train_flow(cases, longer, SMALL, accelerator="cpu", state_file=state)
    assert resumed_losses == losses
    for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert len(whole_losses) == 12
    assert whole.config == SMALL


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


def test_recipe_leaves_checkpoint_card_and_scores(tmp_path: Path, cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAPARI_SRAST_DATA", raising=False)
    told = []
    output = train_from_recipe(write_recipe(tmp_path, cells), progress=lambda *step: told.append(step))
    loaded = load_checkpoint(output)
    assert 'name = "tiny"' in loaded.record["recipe"]
    card = output.with_suffix(".md").read_text()
    assert loaded.sha256 in card
    assert "CC0" in card
    assert (tmp_path / "runs" / "tiny" / "scores.json").exists()
    assert {"pseudo-slides", "score"} <= {stage for stage, *_ in told}


def test_networks_trained_side_by_side_are_those_trained_in_turn(
    tmp_path: Path, cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NAPARI_SRAST_DATA", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    digests = []
    for name, few_steps in (("in_turn", 10**9), ("side_by_side", 1)):
        monkeypatch.setattr("napari_srast.training.recipe._MANY_STEPS", few_steps)
        folder = tmp_path / name
        folder.mkdir()
        loaded = load_checkpoint(train_from_recipe(write_recipe(folder, cells)))
        digests.append({key: value.numpy().tobytes() for key, value in loaded.network.state_dict().items()})
    assert digests[0] == digests[1]


def test_wrong_recipes_are_named(tmp_path: Path, cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
