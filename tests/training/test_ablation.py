"""Ablation: each variant changes one part, an interrupted run resumes, the table shows paired changes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_srast.models.sasa.config import SasaConfig
from napari_srast.training.ablation import VARIANTS, Ablation, ablation_table, main, run_ablation
from napari_srast.training.cross_validation import NETWORK_ALONE, PRIOR_WEIGHTS, SASA_GP
from napari_srast.training.pseudo_slides import PseudoSlide
from napari_srast.training.recipe import read_recipe
from napari_srast.training.score_report import POOL


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, cells: Path) -> Path:
    """Write a recipe of two studies."""
    folder = tmp_path_factory.mktemp("ablation")
    slides = ""
    for study in "ab":
        shutil.copy(cells, folder / f"{study}.h5ad")
        slides += f'[[slides]]\nfile = "{study}.h5ad"\nstudy = "{study}"\nresolution = "high"\n'
    path = folder / "tiny.toml"
    path.write_text(
        'name = "tiny"\ndata = "."\noutput = "tiny.safetensors"\n[cases]\nleast_spots = 40\nfactors = [2.0]\n'
        "[sasa]\nepochs = 5\nn_components = 8\n[network]\nwidth = 16\ndepth = 1\nheads = 2\n"
        f"[trainer]\npatch_spots = 8\npatch_fields = 4\n{slides}"
    )
    return path


@pytest.fixture(scope="module")
def small(tiny: Path) -> Ablation:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NAPARI_SRAST_DATA", raising=False)
        recipe = read_recipe(tiny)
    return Ablation(recipe=recipe, folder=tiny.parent / "out", steps=3, fields=6, groups=2)


@pytest.fixture(scope="module")
def full(small: Ablation) -> list[PseudoSlide]:
    return small.pseudo_slides(VARIANTS["full"])


@pytest.mark.parametrize("name", ["components", "nothing", "raw", "cosine"])
def test_changed_embedding_changes_inputs_but_not_truth(small: Ablation, full: list[PseudoSlide], name: str) -> None:
    for changed, original in zip(small.pseudo_slides(VARIANTS[name]), full, strict=True):
        torch.testing.assert_close(changed.truth, original.truth)
        torch.testing.assert_close(changed.inputs.counts, original.inputs.counts)
        for one, other in ((changed, original), (changed.coarsened[0], original.coarsened[0])):
            first, second = one.inputs.neighborhoods, other.inputs.neighborhoods
            assert not torch.equal(first.neighbor_similarity, second.neighbor_similarity)


def test_similarity_without_features_and_direction_norms(small: Ablation) -> None:
    (bare, _), (unit, _) = small.pseudo_slides(VARIANTS["nothing"]), small.pseudo_slides(VARIANTS["cosine"])
    assert not bare.inputs.neighborhoods.neighbor_similarity.any()
    assert not bare.edge_similarity.any()
    np.testing.assert_allclose(np.linalg.norm(unit.embedding.latent, axis=1), 1, atol=1e-5)


def test_spatial_edges_only_gives_another_embedding(small: Ablation, full: list[PseudoSlide]) -> None:
    changed = small.pseudo_slides(VARIANTS["spatial"])[0]
    assert changed.embedding.config == replace(SasaConfig(epochs=5, n_components=8), n_expression=0)
    assert not np.allclose(changed.embedding.raw_latent, full[0].embedding.raw_latent)
    assert changed.embedding.context.nnz < full[0].embedding.context.nnz
    torch.testing.assert_close(changed.truth[:, :6], full[0].truth[:, :6])


def test_interrupted_run_resumes(small: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    results = run_ablation(small, seeds=1, only=["full", "regression"])
    assert {name for name, runs in results["variants"].items() if runs} == {"full", "regression"}
    assert results["variants"]["full"]["0"] != results["variants"]["regression"]["0"]
    assert json.loads((small.folder / "ablation.json").read_text()) == results

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Ablation, "train", never)
    assert run_ablation(small, seeds=1, only=["full", "regression"]) == results
    with pytest.raises(AssertionError):
        run_ablation(replace(small, steps=4), seeds=1, only=["full"])  # results of another budget are discarded


def records(shift: float) -> dict[str, list[dict]]:
    studies = ["a", "a", "b"]
    return {
        method: [
            {"study": s, "nats_per_count": v + shift, "within_spot_pcc": 0.1}
            for s, v in zip(studies, (1, 3, 4), strict=True)
        ]
        for method in (POOL, PRIOR_WEIGHTS, NETWORK_ALONE, SASA_GP)
    }


def test_table_matches_hand_computation() -> None:
    table = ablation_table({"full": {"0": records(0.0), "1": records(0.2)}, "raw": {"1": records(-0.1)}, "seams": {}})
    lines = table.splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| full method | 3.1000 / 0.100 |")
    assert "± 0.1414 over seeds" in lines[2]
    assert "| -0.3000 ± 0.0000 | 1 |" in lines[3]


def test_missing_recipe_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "gone.toml"), "-o", str(tmp_path)]) == 2
    assert "gone.toml" in capsys.readouterr().err
