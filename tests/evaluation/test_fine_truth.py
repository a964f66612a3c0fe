"""Evaluation on fine truth agrees with formulas written here, for discs with gaps, images and expression."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.bins import bins_table
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast import api
from napari_srast.core.progress import Progress
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide, SlideImage
from napari_srast.errors import Cancelled, InputError, SettingsError
from napari_srast.evaluation import fine_truth
from napari_srast.evaluation.fine_slide import FineSlide
from napari_srast.evaluation.fine_truth import WITHOUT_IMAGE, evaluate_fine_truth
from napari_srast.evaluation.simulated_array import SimulatedArray

PITCH, FACTOR, DIAMETER = 12.0, 3, 7.0
ARRAY = SimulatedArray(pitch=PITCH, lattice="hex", spot_diameter=DIAMETER)


def fine_slide(depth: float = 1.0, image: SlideImage | None = None) -> FineSlide:
    table = bins_table(depth=depth)
    return FineSlide(
        name="bins",
        counts=sparse.csr_matrix(table.X),
        genes=np.asarray(table.var_names, dtype=str),
        points=np.asarray(table.obsm["spatial"]),
        bin_side=2.0,
        image=image,
    )


@pytest.fixture
def upsampled(monkeypatch: pytest.MonkeyPatch) -> list[UpsampleResult]:
    """Replace the model by pycnophylactic interpolation, with the counts themselves as expression; keep the results."""
    results = []

    def upsample(slide: Slide, *, settings: UpsampleSettings, **_: Any) -> UpsampleResult:
        result = api.upsample(slide, settings=replace(settings, method="pycnophylactic", expression="none"))
        skill = np.linspace(0.01, 0.08, slide.n_genes)
        skill[0] = np.nan
        smooth = sparse.csr_matrix(result.counts.toarray() + 0.05)
        std = 0.5 * smooth
        columns = np.arange(slide.n_genes)
        results.append(replace(result, skill=skill, expression=smooth, expression_std=std, expression_columns=columns))
        return results[-1]

    monkeypatch.setattr(fine_truth, "upsample", upsample)
    return results


def hexagons(far: np.ndarray, pitch: float) -> np.ndarray:
    out = []
    for i, y in enumerate(np.arange(pitch / 2, far[1] - pitch * 0.3, pitch * np.sqrt(3) / 2)):
        xs = np.arange(pitch / 2 + (pitch / 2 if i % 2 else 0), far[0] - pitch * 0.3, pitch)
        out.append(np.stack([xs, np.full_like(xs, y)], 1))
    return np.concatenate(out)


def independent_scores(slide: FineSlide, seed: int, result: UpsampleResult) -> dict[str, float]:
    """Score a result by the definitions, with loops over spots and dense arrays, from the bins and the seed alone."""
    rng = np.random.default_rng(seed)
    half = slide.counts.copy()
    half.data = rng.binomial(half.data.astype(int), 0.5).astype(float)
    held_out = (slide.counts - half).toarray()
    centers = hexagons(slide.points.max(0), PITCH)
    distance, near = cKDTree(centers).query(slide.points)
    spots = np.zeros((len(centers), slide.counts.shape[1]))
    for bin_index in np.flatnonzero(distance <= DIAMETER / 2):
        spots[near[bin_index]] += half[bin_index].toarray()[0]
    spots = spots[spots.sum(1) >= 20]
    pixels, parent = result.raster.centers, result.raster.parent
    away, pixel = cKDTree(pixels).query(slide.points, p=np.inf)
    truth = np.zeros((len(pixels), spots.shape[1]))
    for bin_index in np.flatnonzero(away <= PITCH / FACTOR / 2 + 1e-6):
        truth[pixel[bin_index]] += held_out[bin_index]
    values = result.counts.toarray().astype(float)
    nats, totals = np.zeros(spots.shape[1]), 0.0
    for spot in range(len(spots)):
        inside = parent == spot
        of_spot, n_pixels = values[inside], inside.sum()
        sums = of_spot.sum(0)
        ratios = np.where(sums > 0, of_spot / np.where(sums > 0, sums, 1), 1 / n_pixels)
        nats += (truth[inside] * np.log(np.maximum(ratios * n_pixels, 1e-3))).sum(0)
        of_totals = ratios @ (spots[spot] / spots[spot].sum())
        totals += (truth[inside].sum(1) * np.log(np.maximum(of_totals * n_pixels, 1e-3))).sum()
    density = values / values.sum(0) * len(values)
    slide_nats = max(
        (truth * np.log((1 - e) * density + e)).sum() / truth.sum() for e in (0.01, 0.03, 0.1, 0.2, 0.3, 0.5)
    )
    weight = truth.sum(0)
    enough = weight >= 100
    stated = enough & np.isfinite(result.skill)
    return {
        "nats_per_count": nats.sum() / weight.sum(),
        "totals": totals / weight.sum(),
        "composition": (nats.sum() - totals) / weight.sum(),
        "genes_below_uniform": (nats[enough] < 0).mean(),
        "slide_nats": slide_nats,
        "stated_skill": (result.skill * weight)[stated].sum() / weight[stated].sum(),
        "achieved_skill": nats[stated].sum() / weight[stated].sum(),
    }


def test_scores_agree_with_an_independent_implementation(upsampled: list[UpsampleResult]) -> None:
    slide = fine_slide()
    evaluation = evaluate_fine_truth(slide, ARRAY, settings=UpsampleSettings(factor=FACTOR), thinnings=2)
    assert evaluation.n_spots > 80
    assert len(upsampled) == 2
    for seed, result in enumerate(upsampled):
        scores = evaluation.scores["srast"][seed].summary()
        for name, expected in independent_scores(slide, seed, result).items():
            assert scores[name] == pytest.approx(expected, abs=1e-4), name
    assert abs(evaluation.mean("srast")["composition"]) > 0.005
    first, second = (scores.nats_per_count for scores in evaluation.scores["srast"])
    assert first != second
    assert evaluation.mean("srast")["nats_per_count"] == pytest.approx((first + second) / 2)


def test_process_recovers_smooth_patterns_and_its_rates_beat_counts(upsampled: list[UpsampleResult]) -> None:
    scores = evaluate_fine_truth(fine_slide(3.0), ARRAY, settings=UpsampleSettings(factor=FACTOR)).mean("gp")
    assert scores["nats_per_count"] > 0.005
    assert scores["slide_nats_expression"] > scores["slide_nats"] > 0.1
    assert scores["pcc_expression"] > scores["pcc"] > 0.1
    assert np.isnan(scores["stated_skill"])
    assert np.isnan(scores["coverage_80"])


def test_image_is_scored_with_and_without(upsampled: list[UpsampleResult]) -> None:
    image = SlideImage(name="he", levels=(np.zeros((3, 60, 60), np.uint8),), to_intrinsic=(np.diag([2.0, 2, 1]),))
    evaluation = evaluate_fine_truth(fine_slide(image=image), ARRAY, settings=UpsampleSettings(factor=FACTOR))
    assert list(evaluation.scores) == ["srast", WITHOUT_IMAGE, "gp"]
    assert [result.slide.image is image for result in upsampled] == [True, False]
    assert evaluation.settings["image"] == "he"
    assert evaluation.best_baseline == "gp"


def test_other_factors_and_whole_cells_use_shares_of_bins(upsampled: list[UpsampleResult]) -> None:
    whole = SimulatedArray(pitch=PITCH, lattice="square")
    evaluation = evaluate_fine_truth(fine_slide(), whole, settings=UpsampleSettings(factor=3.5))
    assert evaluation.settings["truth"] == "shares of bins by area"
    assert evaluation.settings["measured_fraction"] == pytest.approx(1, abs=0.05)
    assert np.isnan(evaluation.mean("srast")["coverage_80"])
    assert evaluation.mean("srast")["nats_per_count"] > 0.003
    discs = evaluate_fine_truth(fine_slide(), ARRAY, settings=UpsampleSettings(factor=3))
    assert discs.settings["truth"] == "whole bins"
    area = np.pi * DIAMETER**2 / 4 / (np.sqrt(0.75) * PITCH**2)
    assert discs.settings["measured_fraction"] == pytest.approx(area, rel=0.08)


def test_intervals_of_known_rates_cover_nominally(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of equal rates everywhere: a flat map with Poisson spread is right, one with no rate to spare is not."""
    rate = 3.0
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(rate, fine_slide().counts.shape).astype(np.float32))

    def upsample(slide: Slide, *, settings: UpsampleSettings, **_: Any) -> UpsampleResult:
        result = api.upsample(slide, settings=replace(settings, method="uniform", expression="none"))
        per_pixel = rate / 2 * (PITCH / FACTOR / 2) ** 2 * fraction * shift
        flat = sparse.csr_matrix(np.full(result.counts.shape, per_pixel))
        columns = np.arange(slide.n_genes)
        return replace(result, expression=flat, expression_std=0.0 * flat, expression_columns=columns)

    monkeypatch.setattr(fine_truth, "upsample", upsample)
    fraction = shift = 1.0
    settings = UpsampleSettings(factor=FACTOR)
    slide = replace(fine_slide(), counts=counts)
    fraction = evaluate_fine_truth(slide, ARRAY, settings=settings).settings["measured_fraction"]
    scores = evaluate_fine_truth(slide, ARRAY, settings=settings).mean("srast")
    assert scores["coverage_80"] == pytest.approx(0.8, abs=0.03)  # pixels at the border hold fewer bins
    assert scores["coverage_80_high"] == pytest.approx(0.8, abs=0.03)
    shift = 2.0
    assert evaluate_fine_truth(slide, ARRAY, settings=settings).mean("srast")["coverage_80"] < 0.4


def test_expression_of_some_genes_is_scored_on_those(upsampled, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = evaluate_fine_truth(fine_slide(), ARRAY, settings=UpsampleSettings(factor=FACTOR)).scores["srast"][0]
    of_all = fine_truth.upsample

    def upsample(slide: Slide, *, settings: UpsampleSettings, **_: Any) -> UpsampleResult:
        result = of_all(slide, settings=settings)
        return replace(result, expression_columns=np.array([1, 4]))

    monkeypatch.setattr(fine_truth, "upsample", upsample)
    some = evaluate_fine_truth(fine_slide(), ARRAY, settings=UpsampleSettings(factor=FACTOR)).scores["srast"][0]
    np.testing.assert_array_equal(np.isfinite(some.gene_pcc_expression), np.isin(np.arange(8), [1, 4]))
    assert np.isfinite(complete.gene_pcc_expression).all()
    assert np.isfinite(some.slide_nats_expression)
    assert some.slide_nats == complete.slide_nats


def test_no_map_exceeds_the_noise_ceiling(upsampled: list[UpsampleResult]) -> None:
    evaluation = evaluate_fine_truth(fine_slide(), ARRAY, settings=UpsampleSettings(factor=FACTOR))
    (truth,) = evaluation.truth
    for method in evaluation.scores:
        assert 0.1 < evaluation.mean(method)["pcc_expression"] < truth["pcc_ceiling"] < 1
    assert truth["seam_ratio"] == pytest.approx(1, abs=0.05)
    assert evaluation.mean("gp")["seam_ratio"] > 1.2


def test_evaluation_converts_to_json_and_reports_progress(upsampled: list[UpsampleResult]) -> None:
    steps: list[Progress] = []
    settings = UpsampleSettings(factor=FACTOR)
    evaluation = evaluate_fine_truth(fine_slide(), ARRAY, settings=settings, thinnings=2, progress=steps.append)
    values = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert values["n_genes"] == 8
    assert values["best_baseline"] == "gp"
    assert values["settings"]["thinnings"] == 2
    srast = values["methods"]["srast"]
    assert len(srast["thinnings"]) == len(values["truth"]["thinnings"]) == 2
    assert len(srast["genes"]["pcc"]) == 8
    assert srast["seconds"] > 0
    assert values["methods"]["gp"]["stated_skill"] is None
    assert [step.done for step in steps] == [0, 1, 2, 3, 4]
    assert steps[-1].fraction == 1


def test_cancellation_stops_before_a_method() -> None:
    steps: list[Progress] = []
    with pytest.raises(Cancelled):
        evaluate_fine_truth(fine_slide(), ARRAY, progress=steps.append, should_stop=lambda: True)
    assert steps == []


def test_unusable_slides_are_reported(upsampled: list[UpsampleResult]) -> None:
    slide = fine_slide()
    with pytest.raises(SettingsError, match="thinnings is 0"):
        evaluate_fine_truth(slide, ARRAY, thinnings=0)
    with pytest.raises(InputError, match="whole numbers"):
        evaluate_fine_truth(replace(slide, counts=slide.counts * 0.3), ARRAY)
    with pytest.raises(InputError, match="Only 0 spots"):
        evaluate_fine_truth(slide, replace(ARRAY, min_counts=1e9))
    with pytest.raises(SettingsError, match="smaller factor"):
        evaluate_fine_truth(slide, ARRAY, settings=UpsampleSettings(factor=8))
    assert upsampled == []  # before anything is computed


def test_peers_are_scored_on_their_intensities(upsampled, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def run_peer(name: str, slide: Slide, raster) -> np.ndarray:
        called.append((name, slide.n_spots))
        return np.repeat(1 + raster.centers[:, :1], slide.n_genes, axis=1)

    monkeypatch.setattr(fine_truth, "require_peers", lambda names, has_image: None)
    monkeypatch.setattr(fine_truth, "run_peer", run_peer)
    settings = UpsampleSettings(factor=FACTOR)
    evaluation = evaluate_fine_truth(fine_slide(), ARRAY, settings=settings, peers=["smoother", "smoother"])
    assert called == [("smoother", evaluation.n_spots)]
    scores = evaluation.mean("smoother")
    assert scores["composition"] == pytest.approx(0, abs=0.002)  # all genes have the same ratios
    assert scores["slide_nats_expression"] < scores["slide_nats"]


def test_missing_image_for_a_peer_is_reported_before_a_run(upsampled: list[UpsampleResult]) -> None:
    with pytest.raises(SettingsError, match="needs an image"):
        evaluate_fine_truth(fine_slide(), ARRAY, peers=["istar-like"], settings=UpsampleSettings(factor=FACTOR))
    assert upsampled == []
