"""The protocol recovers planted patterns, scores every method on the same truth, and says what input it cannot use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse

from napari_srast import api
from napari_srast.core.progress import Progress
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError, SettingsError
from napari_srast.evaluation.protocol import ALL_METHODS, BASELINES, evaluate, score_result
from napari_srast.geometry.coarsening import coarsen_points
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import Interpolator


def tissue(n_cells: int = 4000, n_genes: int = 6, seed: int = 0) -> anndata.AnnData:
    """Cells with smooth expression over 1000 x 1000 units."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1000, (n_cells, 2))
    phase = np.arange(n_genes)
    rate = np.exp(1.5 * np.sin(points[:, :1] / 90 + phase) * np.cos(points[:, 1:] / 110 + phase))
    table = anndata.AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)))
    table.var_names = [f"Gene{i}" for i in range(n_genes)]
    table.obsm["spatial"] = points
    return table


def result_of(table: anndata.AnnData, method: str) -> UpsampleResult:
    """A result whose ratios are those of an interpolation."""
    found = coarsen_points(np.asarray(table.obsm["spatial"]), sparse.csr_matrix(table.X), pitch=100)
    slide = Slide(
        counts=found.counts,
        genes=np.asarray(table.var_names),
        spot_ids=np.arange(len(found.centers)).astype(str),
        centers=found.centers,
    )
    raster = make_raster(found.centers, factor=2)
    ratios = Interpolator(SpotPixelMap.of_raster(found.centers, raster)).ratios(method, found.counts.toarray())
    return UpsampleResult(
        counts=sparse.csr_matrix(ratios * found.counts.toarray()[raster.parent]),
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
def test_baselines_find_smooth_patterns_and_the_even_split_finds_nothing(lattice) -> None:
    found = evaluate(tissue(), pitch=100, lattice=lattice, methods=BASELINES)
    assert set(found.scores) == set(BASELINES)
    uniform = found.scores["uniform"]
    assert uniform.nats_per_count == pytest.approx(0, abs=1e-6)
    for method in ("bilinear", "pycnophylactic", "gp", "gp+denoised"):
        assert found.scores[method].nats_per_count > 0.02, method
        assert found.scores[method].within_spot_pcc > 0.2, method
    for scores in found.scores.values():
        assert scores.mass_error < 1e-5
        assert scores.gene_counts.sum() == uniform.gene_counts.sum()
    assert found.best_baseline not in (None, "uniform", "nearest")


@pytest.fixture
def quick_srast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bilinear interpolation stand for the model, which takes its time to fit a slide."""

    def upsample(slide: Slide, *, genes: list[str], settings: UpsampleSettings) -> UpsampleResult:
        return api.upsample(slide, genes=genes, settings=replace(settings, method="bilinear"))

    monkeypatch.setattr("napari_srast.evaluation.protocol.upsample", upsample)


def test_the_method_is_scored_on_what_the_pipeline_gives(quick_srast: None) -> None:
    found = evaluate(tissue(), pitch=100, lattice="hex", methods=["srast", "bilinear"], genes=["Gene3", "Gene1"])
    srast, bilinear = found.scores["srast"], found.scores["bilinear"]
    assert srast.nats_per_count == pytest.approx(bilinear.nats_per_count, rel=1e-4)
    np.testing.assert_allclose(srast.within_pcc, bilinear.within_pcc, rtol=1e-4)


@pytest.mark.slow
def test_the_model_itself_is_scored() -> None:
    found = evaluate(tissue(), pitch=100, methods=["srast", "uniform"])
    assert found.scores["srast"].mass_error < 1e-5
    assert found.scores["srast"].nats_per_count > 0


def test_the_report_is_json_and_tells_of_the_run(quick_srast: None) -> None:
    told: list[Progress] = []
    found = evaluate(
        tissue(), pitch=100, methods=["srast", "uniform", "bilinear"], genes=["Gene3", "Gene1"], progress=told.append
    )
    assert list(found.genes) == ["Gene3", "Gene1"]
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["n_genes"] == 2
    assert plain["settings"]["pitch"] == 100
    assert plain["best_baseline"] == "bilinear"
    assert plain["methods"]["uniform"]["seam_ratio"] is None
    assert plain["methods"]["srast"]["mass_error"] < 1e-5
    assert plain["methods"]["bilinear"]["fraction_better_than_best_baseline"] == 0
    assert plain["methods"]["bilinear"]["strata"]
    assert [step.done for step in told] == [0, 1, 2, 3]
    assert told[-1].fraction == 1


def test_thinning_scores_on_the_other_half() -> None:
    whole = evaluate(tissue(), pitch=100, methods=["uniform", "gp"])
    half = evaluate(tissue(), pitch=100, methods=["uniform", "gp"], thinned=True)
    share = half.scores["uniform"].gene_counts.sum() / whole.scores["uniform"].gene_counts.sum()
    assert share == pytest.approx(0.5, abs=0.02)
    assert half.scores["gp"].nats_per_count > 0.02
    again = evaluate(tissue(), pitch=100, methods=["gp"], thinned=True)
    assert again.scores["gp"].nats_per_count == half.scores["gp"].nats_per_count


def test_a_file_is_read_like_a_table(tmp_path: Path) -> None:
    tissue().write_h5ad(tmp_path / "cells.h5ad")
    found = evaluate(tmp_path / "cells.h5ad", pitch=100, methods=["bilinear"])
    assert found.name == "cells"
    table = evaluate(tissue(), pitch=100, methods=["bilinear"])
    assert found.scores["bilinear"].nats_per_count == table.scores["bilinear"].nats_per_count


def test_a_result_is_scored_beside_baselines_on_its_own_raster() -> None:
    table = tissue()
    figures = score_result(result_of(table, "gp"), table)
    assert set(figures) == {"srast", "uniform", "bilinear", "pycnophylactic", "gp"}
    assert figures["srast"]["nats_per_count"] == pytest.approx(figures["gp"]["nats_per_count"], rel=1e-4)
    assert figures["srast"]["within_spot_pcc"] == pytest.approx(figures["gp"]["within_spot_pcc"], rel=1e-4)
    assert figures["uniform"]["nats_per_count"] == pytest.approx(0, abs=1e-6)


def test_a_truth_of_other_depth_genes_and_order_serves_as_well() -> None:
    table = tissue()
    result = result_of(table, "bilinear")
    deeper = table[:, ["Gene4", "Gene0"]].copy()
    deeper.X = deeper.X * 3
    figures = score_result(result, deeper, methods=("uniform",))
    same = score_result(result, table[:, ["Gene0", "Gene4"]].copy(), methods=("uniform",))
    assert figures["srast"]["nats_per_count"] == pytest.approx(same["srast"]["nats_per_count"], rel=1e-6)
    stranger = table.copy()
    stranger.var_names = [f"Other{i}" for i in range(table.n_vars)]
    with pytest.raises(InputError, match="none of the result's genes"):
        score_result(result, stranger)


def test_input_that_cannot_be_used_is_named(tmp_path: Path) -> None:
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
    with pytest.raises(InputError, match="whole counts"):
        evaluate(normalized, pitch=100, methods=["uniform"], thinned=True)


def test_every_method_has_a_name_of_its_own() -> None:
    assert len(set(ALL_METHODS)) == len(ALL_METHODS) == 1 + 7 + 3


@pytest.mark.slides
def test_a_real_slide_is_told_better_than_by_the_even_split(data_dir: Path) -> None:
    path = data_dir / "highres" / "osmfish_mouse_sscortex.h5ad"
    if not path.exists():
        pytest.skip(f"{path.name} is missing from {path.parent}")
    found = evaluate(path, pitch=100, methods=["uniform", "bilinear", "gp"])
    assert found.scores["gp"].nats_per_count > 0.01
    assert found.scores["gp"].within_spot_pcc > 0.1
