"""Every variant changes what it says and nothing else; a killed run goes on; the table tells paired changes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_srast.models.sasa.config import SasaConfig
from napari_srast.training.ablation import VARIANTS, Ablation, ablation_table, main, run
from napari_srast.training.cross_validation import FLEET, NETWORK, SASA_GP
from napari_srast.training.pseudo_slides import PseudoSlide
from napari_srast.training.recipe import read_recipe
from napari_srast.training.score_report import DEFAULT


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
    return small.cases(VARIANTS["full"])


@pytest.mark.parametrize("name", ["components", "nothing", "raw", "cosine"])
def test_a_change_of_features_reaches_the_condition_and_leaves_the_truth(
    small: Ablation, full: list[PseudoSlide], name: str
) -> None:
    for changed, case in zip(small.cases(VARIANTS[name]), full, strict=True):
        torch.testing.assert_close(changed.truth, case.truth)
        torch.testing.assert_close(changed.condition.counts, case.condition.counts)
        for one, other in ((changed, case), (changed.checks[0], case.checks[0])):
            assert not torch.equal(one.condition.geometry.similarity, other.condition.geometry.similarity)


def test_without_features_nothing_is_alike_and_directions_have_length_one(small: Ablation) -> None:
    (bare, _), (unit, _) = small.cases(VARIANTS["nothing"]), small.cases(VARIANTS["cosine"])
    assert not bare.condition.geometry.similarity.any()
    assert not bare.edge_similarity.any()
    np.testing.assert_allclose(np.linalg.norm(unit.pool.latent, axis=1), 1, atol=1e-5)


def test_spatial_edges_only_fits_another_latent(small: Ablation, full: list[PseudoSlide]) -> None:
    changed = small.cases(VARIANTS["spatial"])[0]
    assert changed.pool.config == replace(SasaConfig(epochs=5, n_components=8), n_expression=0)
    assert not np.allclose(changed.pool.raw_latent, full[0].pool.raw_latent)
    assert changed.pool.context.nnz < full[0].pool.context.nnz
    torch.testing.assert_close(changed.truth[:, :6], full[0].truth[:, :6])


def test_a_run_goes_on_where_it_was(small: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    results = run(small, seeds=1, only=["full", "regression"])
    assert {name for name, runs in results["variants"].items() if runs} == {"full", "regression"}
    assert results["variants"]["full"]["0"] != results["variants"]["regression"]["0"]
    assert json.loads((small.folder / "ablation.json").read_text()) == results

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Ablation, "trained", never)
    assert run(small, seeds=1, only=["full", "regression"]) == results
    with pytest.raises(AssertionError):
        run(replace(small, steps=4), seeds=1, only=["full"])  # another budget is another experiment


def records(shift: float) -> dict[str, list[dict]]:
    studies = ["a", "a", "b"]
    return {
        method: [
            {"study": s, "nats_per_count": v + shift, "within_spot_pcc": 0.1}
            for s, v in zip(studies, (1, 3, 4), strict=True)
        ]
        for method in (DEFAULT, FLEET, NETWORK, SASA_GP)
    }


def test_the_table_by_hand() -> None:
    table = ablation_table({"full": {"0": records(0.0), "1": records(0.2)}, "raw": {"1": records(-0.1)}, "seams": {}})
    lines = table.splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| full method | 3.1000 / 0.100 |")
    assert "± 0.1414 over seeds" in lines[2]
    assert "| -0.3000 ± 0.0000 | 1 |" in lines[3]


def test_a_missing_recipe_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "gone.toml"), "-o", str(tmp_path)]) == 2
    assert "gone.toml" in capsys.readouterr().err
