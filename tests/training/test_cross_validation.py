"""Scores of cases that a network has not seen: consistent with the metrics, with the truth, and with the parts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_srast.calibration.dispersion import DEFAULT_CONCENTRATION
from napari_srast.calibration.prior import CalibrationPriors, WeightPrior
from napari_srast.calibration.weights import EXPERT_NAMES
from napari_srast.evaluation.protocol import BASELINES
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.training.cross_validation import (
    FLEET,
    NETWORK,
    POOLED,
    SASA_GP,
    Fold,
    calibrate_case,
    score_case,
    score_folds,
    write_scores,
)
from napari_srast.training.prior_fitting import fit_fold_priors
from napari_srast.training.pseudo_slides import PseudoSlide, PseudoSlideSettings, SourceSlide, make_pseudo_slides
from napari_srast.training.score_report import DEFAULT
from napari_srast.training.scoring import main


@pytest.fixture(scope="module")
def cases(cells: Path) -> list[PseudoSlide]:
    return _made(cells)


def _made(cells: Path) -> list[PseudoSlide]:
    settings = PseudoSlideSettings(fields=12, groups=3, least_spots=40, factors=(2.0,), thinning=(1.0,))
    made = []
    for study in ("a", "b"):
        source = SourceSlide(name=f"cells_{study}", study=study, path=cells, resolution="high", cases=1)
        made += list(make_pseudo_slides(source, settings, SasaConfig(epochs=5, n_components=8), seed=0))
    return made


@pytest.fixture(scope="module")
def untrained() -> DiT:
    torch.manual_seed(0)
    return DiT(DiTConfig(width=16, depth=1, heads=2)).eval()


@pytest.fixture(scope="module")
def rows(cases: list[PseudoSlide], untrained: DiT) -> list[dict]:
    return score_folds([Fold(network=untrained, unseen=[case]) for case in cases])


def trusting(expert: str) -> CalibrationPriors:
    weights = [float(name == expert) for name in EXPERT_NAMES]
    return replace(
        CalibrationPriors.untried(),
        pool=WeightPrior.around(weights, len(EXPERT_NAMES), 0.1),
        interpolations=WeightPrior.around(weights[1:], len(EXPERT_NAMES) - 1, 0.1),
    )


def test_every_method_is_scored_on_the_same_truth(rows: list[dict], cases: list[PseudoSlide]) -> None:
    assert [row["study"] for row in rows] == ["a", "b"]
    for row, case in zip(rows, cases, strict=True):
        methods = row["methods"]
        assert set(methods) == {DEFAULT, POOLED, FLEET, NETWORK, SASA_GP, *BASELINES}
        assert methods["uniform"]["nats_per_count"] == pytest.approx(0, abs=1e-6)
        assert all(figures["mass_error"] < 1e-5 for figures in methods.values())
        best = row["best_baseline"]
        assert methods[best]["nats_per_count"] == max(methods[m]["nats_per_count"] for m in BASELINES)
        assert row["margin"] == pytest.approx(methods[DEFAULT]["nats_per_count"] - methods[best]["nats_per_count"])
        assert row["margin_se_spots"] > 0
        assert row["n_genes"] == case.n_genes < case.condition.n_fields


def test_an_untrained_network_is_its_prior(rows: list[dict]) -> None:
    for row in rows:
        network, prior = row["methods"][NETWORK], row["methods"][SASA_GP]
        assert network["nats_per_count"] == pytest.approx(prior["nats_per_count"], abs=1e-5)
        assert network["within_spot_pcc"] == pytest.approx(prior["within_spot_pcc"], abs=1e-4)


def test_each_fold_is_scored_with_its_fleet(cases: list[PseudoSlide], untrained: DiT) -> None:
    folds = [Fold(network=untrained, unseen=[case]) for case in cases]
    first, second = score_folds(folds, fleets=[trusting("bilinear"), trusting("gp")])
    for row, other in ((first, "bilinear"), (second, "gp")):
        fleet, same = row["methods"][FLEET], row["methods"][other]
        assert fleet["nats_per_count"] == pytest.approx(same["nats_per_count"], rel=0.1)


def test_genes_of_a_large_panel_are_scored_by_what_they_share_too(
    cells: Path, rows: list[dict], untrained: DiT, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(row["shared"] is None for row in rows)
    monkeypatch.setattr("napari_srast.training.pseudo_slides.LARGE_PANEL", 10)
    cases = _made(cells)
    for case in cases:
        assert case.shared is not None
        assert case.shared.fields.programs.loading.shape[1] == case.n_genes
        totals = case.shared.fields.fields[:, -1]
        np.testing.assert_allclose(totals, case.pool.totals, rtol=1e-5)
        np.testing.assert_allclose(case.shared.fields.fields[:, :-1].sum(axis=1), totals, rtol=1e-6)
        assert case.checks[0].shared is not None
    folds = [Fold(network=untrained, unseen=[case]) for case in cases]
    fleets, everyone = fit_fold_priors(folds)
    start = CalibrationPriors.untried().shared.weights
    for fleet in (*fleets, everyone):
        assert np.abs(fleet.shared.weights - start).max() > 1e-3
    for row, again in zip(score_folds(folds, fleets=fleets), rows, strict=True):
        shared = row["shared"]
        assert shared["mass_error"] < 1e-5
        assert -0.05 < shared["nats_per_count"] < 0.1  # the waves are finer than its programs tell
        assert shared["change"] == pytest.approx(
            shared["nats_per_count"] - row["methods"][DEFAULT]["nats_per_count"], abs=1e-6
        )
        assert row["methods"][DEFAULT]["nats_per_count"] == pytest.approx(again["methods"][DEFAULT]["nats_per_count"])


def test_a_slide_too_small_to_be_coarsened_keeps_the_fleet(cases: list[PseudoSlide], untrained: DiT) -> None:
    fleet = trusting("gp")
    calibration, concentration, methods = calibrate_case(replace(cases[0], checks=()), untrained, fleet)
    assert set(methods) == {"srast"}
    np.testing.assert_array_equal(calibration.weights, fleet.pool.weights)
    assert concentration == DEFAULT_CONCENTRATION.finer()
    row = score_case(replace(cases[0], checks=()), untrained, fleet)
    of_fleet = row["methods"][FLEET]["nats_per_count"]
    assert row["methods"][DEFAULT]["nats_per_count"] == pytest.approx(of_fleet, rel=1e-6)


def test_calibrated_intervals_cover_more_of_scattered_counts(rows: list[dict]) -> None:
    for row in rows:
        plain, calibrated = (row["coverage"][kind]["all"][1] for kind in ("multinomial", "calibrated"))
        assert abs(calibrated - 0.8) < 0.1
        assert abs(calibrated - 0.8) <= abs(plain - 0.8) + 0.02
        assert -3 < row["level_step"] < 3
        assert 0.7 < row["seam"]["draw"] / row["seam"]["truth"] < 1.4


def test_everything_is_written(rows: list[dict], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = {path.name: path for path in write_scores(rows, tmp_path / "scores")}
    assert set(paths) == {"scores.json", "scores.md", "margins.png", "methods.png", "coverage.png"}
    found = json.loads(paths["scores.json"].read_text())
    assert [row["margin"] for row in found["cases"]] == pytest.approx([row["margin"] for row in rows], rel=1e-5)
    assert [set(row) for row in found["cases"]] == [set(row) for row in rows]
    assert found["summary"]["n_studies"] == 2
    assert f"{rows[0]['methods'][DEFAULT]['nats_per_count']:.4f}" in paths["scores.md"].read_text()


def test_scores_that_training_left_are_written_anew(
    rows: list[dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    left = tmp_path / "scores.json"
    left.write_text(json.dumps(rows))
    assert main([str(left), "-o", str(tmp_path / "docs")]) == 0
    again = tmp_path / "docs" / "scores.json"
    first = again.read_text()
    assert main([str(again), "-o", str(tmp_path / "docs")]) == 0
    assert json.loads(again.read_text())["cases"] == json.loads(first)["cases"]
    assert [row["name"] for row in json.loads(again.read_text())["cases"]] == [row["name"] for row in rows]
    left.write_text("{}")
    assert main([str(left), "-o", str(tmp_path / "docs")]) == 2
    assert "holds no scores" in capsys.readouterr().err


def test_a_recipe_is_scored_by_one_command(
    tmp_path: Path, cells: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("NAPARI_SRAST_DATA", str(cells.parent))
    slide = f'file = "{cells.name}"\nresolution = "high"\ncases = 1\n'
    (tmp_path / "other.h5ad").symlink_to(cells)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        'name = "tiny"\ndata = "."\noutput = "tiny.safetensors"\nfolds = 2\n'
        "[cases]\nfields = 8\ngroups = 2\nleast_spots = 40\nfactors = [2.0]\n[sasa]\nepochs = 5\nn_components = 8\n"
        "[network]\nwidth = 16\ndepth = 1\nheads = 2\n[trainer]\nsteps = 4\npatch_spots = 8\npatch_fields = 4\n"
        f'[[slides]]\nstudy = "a"\n{slide}[[slides]]\nstudy = "b"\n'
        f"{slide.replace(cells.name, str(tmp_path / 'other.h5ad'))}"
    )
    assert main([str(recipe), "-o", str(tmp_path / "scores")]) == 0
    assert str(tmp_path / "scores" / "scores.json") in capsys.readouterr().out
    assert not (tmp_path / "tiny.safetensors").exists()
    assert main([str(tmp_path / "missing.toml"), "-o", str(tmp_path / "scores")]) == 2
    assert "missing.toml" in capsys.readouterr().err
