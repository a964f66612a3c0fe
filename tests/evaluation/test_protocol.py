"""Evaluation recovers planted patterns, scores all methods on one truth and reports invalid input."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from scipy import sparse

from napari_srast import api
from napari_srast.core.progress import Progress
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled, InputError, SettingsError
from napari_srast.evaluation.protocol import ALL_METHODS, BASELINES, evaluate, score_result
from napari_srast.geometry.binning import coarsen_points
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import Interpolator


def tissue(n_cells: int = 4000, n_genes: int = 6, seed: int = 0) -> anndata.AnnData:
    """Simulate cells with smooth expression over 1000 x 1000 units."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1000, (n_cells, 2))
    phase = np.arange(n_genes)
    rate = np.exp(1.5 * np.sin(points[:, :1] / 90 + phase) * np.cos(points[:, 1:] / 110 + phase))
    table = anndata.AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)))
    table.var_names = [f"Gene{i}" for i in range(n_genes)]
    table.obsm["spatial"] = points
    return table


def interpolate(table: anndata.AnnData, method: str) -> UpsampleResult:
    """Return a result with the ratios of an interpolation."""
    coarse = coarsen_points(np.asarray(table.obsm["spatial"]), sparse.csr_matrix(table.X), pitch=100)
    slide = Slide(
        counts=coarse.counts,
        genes=np.asarray(table.var_names),
        spot_ids=np.arange(len(coarse.centers)).astype(str),
        centers=coarse.centers,
    )
    raster = make_raster(coarse.centers, factor=2)
    ratios = Interpolator(SpotPixelMap.of_raster(coarse.centers, raster)).ratios(method, coarse.counts.toarray())
    return UpsampleResult(
        counts=sparse.csr_matrix(ratios * coarse.counts.toarray()[raster.parent]),
        std=None,
        genes=slide.genes,
        skill=np.zeros(slide.n_genes),
        method=np.array([method] * slide.n_genes),
        raster=raster,
        slide=slide,
        region=None,
        settings=UpsampleSettings(),
        run="test",
        provenance={},
    )


@pytest.mark.parametrize("lattice", ["square", "hex"])
def test_baselines_recover_smooth_patterns(lattice) -> None:
    evaluation = evaluate(tissue(), pitch=100, lattice=lattice, methods=BASELINES)
    assert set(evaluation.scores) == set(BASELINES)
    uniform = evaluation.scores["uniform"]
    assert uniform.nats_per_count == pytest.approx(0, abs=1e-6)
    for method in ("bilinear", "pycnophylactic", "gp", "gp+denoised"):
        assert evaluation.scores[method].nats_per_count > 0.02, method
        assert evaluation.scores[method].within_spot_pcc > 0.2, method
    for scores in evaluation.scores.values():
        assert scores.mass_error < 1e-5
        assert scores.gene_counts.sum() == uniform.gene_counts.sum()
    assert evaluation.best_baseline not in (None, "uniform", "nearest")


@pytest.fixture
def quick_srast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the model by bilinear interpolation, which is faster."""

    def upsample(slide: Slide, *, genes: list[str], settings: UpsampleSettings, **_: Any) -> UpsampleResult:
        return api.upsample(slide, genes=genes, settings=replace(settings, method="bilinear"))

    monkeypatch.setattr("napari_srast.evaluation.protocol.upsample", upsample)


def test_srast_is_scored_on_the_result_of_upsample(quick_srast: None) -> None:
    evaluation = evaluate(tissue(), pitch=100, lattice="hex", methods=["srast", "bilinear"], genes=["Gene3", "Gene1"])
    srast, bilinear = evaluation.scores["srast"], evaluation.scores["bilinear"]
    assert srast.nats_per_count == pytest.approx(bilinear.nats_per_count, rel=1e-4)
    np.testing.assert_allclose(srast.within_pcc, bilinear.within_pcc, rtol=1e-4)


@pytest.mark.slow
def test_model_is_scored() -> None:
    evaluation = evaluate(tissue(), pitch=100, methods=["srast", "uniform"])
    assert evaluation.scores["srast"].mass_error < 1e-5
    assert evaluation.scores["srast"].nats_per_count > 0


def test_evaluation_converts_to_json_and_reports_progress(quick_srast: None) -> None:
    steps: list[Progress] = []
    evaluation = evaluate(
        tissue(), pitch=100, methods=["srast", "uniform", "bilinear"], genes=["Gene3", "Gene1"], progress=steps.append
    )
    assert list(evaluation.genes) == ["Gene3", "Gene1"]
    values = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert values["n_genes"] == 2
    assert values["settings"]["pitch"] == 100
    assert values["best_baseline"] == "bilinear"
    assert values["methods"]["uniform"]["seam_ratio"] is None
    assert values["methods"]["srast"]["mass_error"] < 1e-5
    assert values["methods"]["bilinear"]["fraction_better_than_best_baseline"] == 0
    assert values["methods"]["bilinear"]["strata"]
    assert [step.done for step in steps] == [0, 1, 2, 3]
    assert steps[-1].fraction == 1


def test_cancellation_reaches_the_run() -> None:
    calls = itertools.count()
    with pytest.raises(Cancelled):
        evaluate(tissue(), pitch=100, methods=["srast"], should_stop=lambda: next(calls) > 0)


def test_thinning_scores_the_other_half() -> None:
    unthinned = evaluate(tissue(), pitch=100, methods=["uniform", "gp"])
    half = evaluate(tissue(), pitch=100, methods=["uniform", "gp"], thinned=True)
    share = half.scores["uniform"].gene_counts.sum() / unthinned.scores["uniform"].gene_counts.sum()
    assert share == pytest.approx(0.5, abs=0.02)
    assert half.scores["gp"].nats_per_count > 0.02
    again = evaluate(tissue(), pitch=100, methods=["gp"], thinned=True)
    assert again.scores["gp"].nats_per_count == half.scores["gp"].nats_per_count


def test_file_and_table_score_equally(tmp_path: Path) -> None:
    tissue().write_h5ad(tmp_path / "cells.h5ad")
    evaluation = evaluate(tmp_path / "cells.h5ad", pitch=100, methods=["bilinear"])
    assert evaluation.name == "cells"
    table = evaluate(tissue(), pitch=100, methods=["bilinear"])
    assert evaluation.scores["bilinear"].nats_per_count == table.scores["bilinear"].nats_per_count


def test_result_is_scored_with_baselines() -> None:
    table = tissue()
    scores = score_result(interpolate(table, "gp"), table)
    assert set(scores) == {"srast", "uniform", "bilinear", "pycnophylactic", "gp"}
    assert scores["srast"]["nats_per_count"] == pytest.approx(scores["gp"]["nats_per_count"], rel=1e-4)
    assert scores["srast"]["within_spot_pcc"] == pytest.approx(scores["gp"]["within_spot_pcc"], rel=1e-4)
    assert scores["uniform"]["nats_per_count"] == pytest.approx(0, abs=1e-6)


def test_truth_may_differ_in_depth_genes_and_order() -> None:
    table = tissue()
    result = interpolate(table, "bilinear")
    deeper = table[:, ["Gene4", "Gene0"]].copy()
    deeper.X = deeper.X * 3
    scores = score_result(result, deeper, methods=("uniform",))
    same = score_result(result, table[:, ["Gene0", "Gene4"]].copy(), methods=("uniform",))
    assert scores["srast"]["nats_per_count"] == pytest.approx(same["srast"]["nats_per_count"], rel=1e-6)
    other = table.copy()
    other.var_names = [f"Other{i}" for i in range(table.n_vars)]
    with pytest.raises(InputError, match="none of the result's genes"):
        score_result(result, other)


def test_invalid_input_is_reported(tmp_path: Path) -> None:
    table = tissue(50)
    with pytest.raises(SettingsError, match="kriging"):
        evaluate(table, pitch=100, methods=["kriging"])
    with pytest.raises(InputError, match="Gene9"):
        evaluate(table, pitch=100, genes=["Gene9"], methods=["uniform"])
    bare = table.copy()
    del bare.obsm["spatial"]
    with pytest.raises(InputError, match="spatial"):
        evaluate(bare, pitch=100, methods=["uniform"])
    negative = table.copy()
    negative.X = negative.X * -1
    with pytest.raises(InputError, match="negative"):
        evaluate(negative, pitch=100, methods=["uniform"])
    (tmp_path / "broken.h5ad").write_text("no table")
    with pytest.raises(InputError, match=r"broken\.h5ad"):
        evaluate(tmp_path / "broken.h5ad", pitch=100)
    normalized = table.copy()
    normalized.X = normalized.X * 0.3
    with pytest.raises(InputError, match="integer counts"):
        evaluate(normalized, pitch=100, methods=["uniform"], thinned=True)


def test_method_names_are_unique() -> None:
    assert len(set(ALL_METHODS)) == len(ALL_METHODS) == 1 + 7 + 3


@pytest.mark.slides
def test_interpolation_beats_uniform_on_a_real_slide(data_dir: Path) -> None:
    path = data_dir / "highres" / "osmfish_mouse_sscortex.h5ad"
    if not path.exists():
        pytest.skip(f"{path.name} is missing from {path.parent}")
    evaluation = evaluate(path, pitch=100, methods=["uniform", "bilinear", "gp"])
    assert evaluation.scores["gp"].nats_per_count > 0.01
    assert evaluation.scores["gp"].within_spot_pcc > 0.1
