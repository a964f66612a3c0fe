"""Scores on held-out studies agree with the metrics, the truth and the parts of the method."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_srast.calibration.dispersion import DEFAULT_CONCENTRATION
from napari_srast.calibration.pooling import EXPERT_NAMES
from napari_srast.calibration.weight_prior import CalibrationPriors, WeightPrior
from napari_srast.evaluation.protocol import BASELINES
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.training.cross_validation import (
    NETWORK_ALONE,
    NO_FALLBACK,
    PRIOR_WEIGHTS,
    SASA_GP,
    calibrate_pseudo_slide,
    score_folds,
    score_pseudo_slide,
    write_scores,
)
from napari_srast.training.lattice_sampling import make_pseudo_slides
from napari_srast.training.prior_fitting import Fold, fit_fold_priors
from napari_srast.training.pseudo_slides import PseudoSlide
from napari_srast.training.score_report import DEFAULT, INTENSITY, MAIN_SCORES, POOL
from napari_srast.training.scoring import main
from napari_srast.training.sources import PseudoSlideSettings, SourceSlide


@pytest.fixture(scope="module")
def pseudo_slides(cells: Path) -> list[PseudoSlide]:
    return make_two_studies(cells)


def make_two_studies(cells: Path) -> list[PseudoSlide]:
    settings = PseudoSlideSettings(fields=12, groups=3, least_spots=40, factors=(2.0,), thinning=(1.0,))
    pseudo_slides = []
    for study in ("a", "b"):
        source = SourceSlide(name=f"cells_{study}", study=study, path=cells, resolution="high", cases=1)
        pseudo_slides += list(make_pseudo_slides(source, settings, SasaConfig(epochs=5, n_components=8), seed=0))
    return pseudo_slides


@pytest.fixture(scope="module")
def untrained() -> DiT:
    torch.manual_seed(0)
    return DiT(DiTConfig(width=16, depth=1, heads=2)).eval()


@pytest.fixture(scope="module")
def rows(pseudo_slides: list[PseudoSlide], untrained: DiT) -> list[dict]:
    return score_folds([Fold(network=untrained, unseen=[one]) for one in pseudo_slides])


def prior_of(expert: str) -> CalibrationPriors:
    weights = [float(name == expert) for name in EXPERT_NAMES]
    return replace(
        CalibrationPriors.uninformed(),
        pool=WeightPrior.around(weights, len(EXPERT_NAMES), 0.1),
        interpolations=WeightPrior.around(weights[1:], len(EXPERT_NAMES) - 1, 0.1),
    )


def test_all_methods_share_the_truth(rows: list[dict], pseudo_slides: list[PseudoSlide]) -> None:
    assert [row["study"] for row in rows] == ["a", "b"]
    for row, pseudo_slide in zip(rows, pseudo_slides, strict=True):
        methods = row["methods"]
        parts = {POOL, INTENSITY, NO_FALLBACK, PRIOR_WEIGHTS, NETWORK_ALONE, SASA_GP}
        assert set(methods) == {DEFAULT, *parts, *BASELINES}
        assert methods["uniform"]["nats_per_count"] == pytest.approx(0, abs=1e-6)
        assert all(figures["mass_error"] < 1e-5 for figures in methods.values())
        best = row["best_baseline"]
        assert methods[best]["nats_per_count"] == max(methods[m]["nats_per_count"] for m in BASELINES)
        assert row["margin"] == pytest.approx(methods[DEFAULT]["nats_per_count"] - methods[best]["nats_per_count"])
        assert row["margin_se_spots"] > 0
        assert row["n_genes"] == pseudo_slide.n_genes < pseudo_slide.inputs.n_fields


def test_untrained_network_equals_its_prior(rows: list[dict]) -> None:
    for row in rows:
        network, prior = row["methods"][NETWORK_ALONE], row["methods"][SASA_GP]
        assert network["nats_per_count"] == pytest.approx(prior["nats_per_count"], abs=1e-5)
        assert network["within_spot_pcc"] == pytest.approx(prior["within_spot_pcc"], abs=1e-4)


def test_each_fold_uses_its_own_prior(pseudo_slides: list[PseudoSlide], untrained: DiT) -> None:
    folds = [Fold(network=untrained, unseen=[one]) for one in pseudo_slides]
    first, second = score_folds(folds, priors=[prior_of("bilinear"), prior_of("gp")])
    for row, other in ((first, "bilinear"), (second, "gp")):
        by_prior, same = row["methods"][PRIOR_WEIGHTS], row["methods"][other]
        assert by_prior["nats_per_count"] == pytest.approx(same["nats_per_count"], rel=0.1)


def test_large_panels_are_scored_by_programs(
    cells: Path, rows: list[dict], untrained: DiT, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(row["shared"] is None for row in rows)
    monkeypatch.setattr("napari_srast.training.pseudo_slides.PER_GENE_LIMIT", 10)
    pseudo_slides = make_two_studies(cells)
    for one in pseudo_slides:
        assert one.programs is not None
        assert one.programs.fields.programs.loading.shape[1] == one.n_genes
        totals = one.programs.fields.fields[:, -1]
        np.testing.assert_allclose(totals, one.embedding.totals, rtol=1e-5)
        np.testing.assert_allclose(one.programs.fields.fields[:, :-1].sum(axis=1), totals, rtol=1e-6)
        assert one.coarsened[0].programs is not None
    folds = [Fold(network=untrained, unseen=[one]) for one in pseudo_slides]
    fold_priors, prior = fit_fold_priors(folds)
    start = CalibrationPriors.uninformed().programs.weights
    for each in (*fold_priors, prior):
        assert np.abs(each.programs.weights - start).max() > 1e-3
    for row, again in zip(score_folds(folds, priors=fold_priors), rows, strict=True):
        shared = row["shared"]
        assert shared["mass_error"] < 1e-5
        assert -0.05 < shared["nats_per_count"] < 0.1  # the waves are finer than the programs resolve
        assert shared["change"] == pytest.approx(
            shared["nats_per_count"] - row["methods"][POOL]["nats_per_count"], abs=1e-6
        )
        assert row["methods"][DEFAULT]["nats_per_count"] == pytest.approx(again["methods"][DEFAULT]["nats_per_count"])


def test_small_slide_uses_prior_weights(pseudo_slides: list[PseudoSlide], untrained: DiT) -> None:
    prior = prior_of("gp")
    small = replace(pseudo_slides[0], coarsened=())
    calibration, concentration, methods = calibrate_pseudo_slide(small, untrained, prior)
    assert set(methods) == {"srast"}
    np.testing.assert_array_equal(calibration.weights, prior.pool.weights)
    assert concentration == DEFAULT_CONCENTRATION.finer()
    row = score_pseudo_slide(small, untrained, prior)
    by_prior = row["methods"][PRIOR_WEIGHTS]["nats_per_count"]
    assert row["methods"][POOL]["nats_per_count"] == pytest.approx(by_prior, rel=1e-6)


def test_default_is_the_average_of_pool_and_intensity(pseudo_slides: list[PseudoSlide], untrained: DiT) -> None:
    pseudo_slide, prior = replace(pseudo_slides[0], coarsened=()), prior_of("gp")
    methods = score_pseudo_slide(pseudo_slide, untrained, prior)["methods"]
    assert pseudo_slide.log_intensity is not None
    assert pseudo_slide.log_intensity.shape == (pseudo_slide.layout.n_pixels, pseudo_slide.n_genes + 1)
    assert methods[INTENSITY]["nats_per_count"] > 0.8 * methods["gp"]["nats_per_count"]
    gains = {methods[method]["nats_per_count"] for method in (DEFAULT, POOL, INTENSITY)}
    assert len(gains) == 3
    flat = replace(pseudo_slide, log_intensity=np.zeros_like(pseudo_slide.log_intensity))
    flattened = score_pseudo_slide(flat, untrained, prior)["methods"]
    assert flattened[POOL] == methods[POOL]
    assert 0 < flattened[DEFAULT]["nats_per_count"] < methods[DEFAULT]["nats_per_count"]


def test_interior_leaves_out_spots_at_the_border(pseudo_slides: list[PseudoSlide], untrained: DiT) -> None:
    pseudo_slide, prior = replace(pseudo_slides[0], coarsened=()), prior_of("gp")
    layout, interior = pseudo_slide.layout, pseudo_slide.interior
    assert interior is not None
    assert 0.3 * layout.n_spots < interior.sum() < layout.n_spots
    middle = layout.spots.mean(axis=0)
    distance = np.abs(layout.spots - middle).max(axis=1)
    assert distance[interior].max() < distance.max()
    row = score_pseudo_slide(pseudo_slide, untrained, prior)
    assert row["interior"]["n_spots"] == interior.sum()
    inside, everywhere = row["interior"]["methods"], row["methods"]
    assert set(inside) == set(everywhere)
    assert inside["gp"]["totals"] != everywhere["gp"]["totals"]
    covered = replace(pseudo_slide, interior=None)
    whole = score_pseudo_slide(covered, untrained, prior)["interior"]
    assert whole["methods"]["gp"] == {kind: everywhere["gp"][kind] for kind in MAIN_SCORES}
    outside = replace(pseudo_slide, interior=np.zeros_like(interior))
    assert score_pseudo_slide(outside, untrained, prior)["interior"] == {"n_spots": 0, "methods": None, "stated": None}


def test_calibrated_intervals_have_better_coverage(rows: list[dict]) -> None:
    for row in rows:
        multinomial, calibrated = (row["coverage"][kind]["all"][1] for kind in ("multinomial", "calibrated"))
        assert abs(calibrated - 0.8) < 0.1
        assert abs(calibrated - 0.8) <= abs(multinomial - 0.8) + 0.02
        assert -3 < row["level_step"] < 3
        assert 0.7 < row["seam"]["draw"] / row["seam"]["truth"] < 1.4


def test_scores_tables_and_plots_are_written(rows: list[dict], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = {path.name: path for path in write_scores(rows, tmp_path / "scores")}
    assert set(paths) == {"scores.json", "scores.md", "margins.png", "methods.png", "coverage.png"}
    saved = json.loads(paths["scores.json"].read_text())
    assert [row["margin"] for row in saved["cases"]] == pytest.approx([row["margin"] for row in rows], rel=1e-5)
    assert [set(row) for row in saved["cases"]] == [set(row) for row in rows]
    assert saved["summary"]["n_studies"] == 2
    assert f"{rows[0]['methods'][DEFAULT]['nats_per_count']:.4f}" in paths["scores.md"].read_text()


def test_command_reads_scores_of_a_training(
    rows: list[dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    source = tmp_path / "scores.json"
    source.write_text(json.dumps(rows))
    assert main([str(source), "-o", str(tmp_path / "docs")]) == 0
    again = tmp_path / "docs" / "scores.json"
    first = again.read_text()
    assert main([str(again), "-o", str(tmp_path / "docs")]) == 0
    assert json.loads(again.read_text())["cases"] == json.loads(first)["cases"]
    assert [row["name"] for row in json.loads(again.read_text())["cases"]] == [row["name"] for row in rows]
    source.write_text("{}")
    assert main([str(source), "-o", str(tmp_path / "docs")]) == 2
    assert "holds no scores" in capsys.readouterr().err


def test_command_trains_and_scores_a_recipe(
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
