"""Tests of upsampling: conservation, symmetry, reproducibility, progress and cancellation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from pathlib import Path

import anndata
import numpy as np
import pytest
from helpers.results import same_bytes
from helpers.tiling import use_small_tiles
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from shapely import box

from napari_srast._utils.devices import available_devices
from napari_srast.api import estimate, upsample, upsample_steps
from napari_srast.core.progress import Progress
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.datasets.synthetic_colon import synthetic_colon
from napari_srast.errors import Cancelled, InputError, RegionError, SettingsError
from napari_srast.geometry.raster import Footprint

MakeSlide = Callable[..., Slide]
GENTLE = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sums(result: UpsampleResult) -> np.ndarray:
    return result.raster.sum_to_spots(result.counts.toarray().astype(np.float64))


def with_order(slide: Slide, order: np.ndarray, centers: np.ndarray) -> Slide:
    return Slide(
        counts=slide.counts[order],
        genes=slide.genes,
        spot_ids=slide.spot_ids[order],
        centers=centers,
        spot_diameter=slide.spot_diameter,
        spot_shape=slide.spot_shape,
    )


@pytest.mark.contract(
    section="Tables and counts",
    case="genes without counts",
    response="used; their pixels are zero",
)
@pytest.mark.parametrize("method", ["uniform", "bilinear", "pycnophylactic", "gp", "srast"])
@pytest.mark.parametrize("lattice", ["square", "hex"])
def test_counts_are_conserved_and_zeros_stay_zero(make_slide: MakeSlide, method: str, lattice: str) -> None:
    slide = make_slide(lattice=lattice)
    result = upsample(slide, method=method, factor=2)
    np.testing.assert_allclose(sums(result), slide.counts.toarray(), rtol=1e-6)
    assert result.counts.data.min() > 0 or method != "uniform"
    assert result.counts.min() >= 0
    empty = slide.counts.toarray()[result.raster.parent] == 0
    assert not result.counts.toarray()[empty].any()
    assert result.provenance["max_relative_mass_error"] <= 1e-6
    assert result.counts.dtype == np.float32


@pytest.mark.parametrize("method", ["uniform", "srast"])
def test_integer_mode_conserves_exactly(make_slide: MakeSlide, method: str) -> None:
    slide = make_slide()
    result = upsample(slide, method=method, mode="integer", factor=3)
    np.testing.assert_array_equal(sums(result), slide.counts.toarray())
    np.testing.assert_array_equal(result.counts.data, np.rint(result.counts.data))
    other = upsample(slide, method=method, mode="integer", factor=3, seed=1)
    assert (other.counts != result.counts).nnz > 0


def test_sample_mode_has_no_std_without_counts(make_slide: MakeSlide) -> None:
    slide = make_slide()
    result = upsample(slide, mode="sample", draws=3, steps=2)
    assert result.std is not None
    assert result.std.shape == result.counts.shape
    std = result.std.toarray()
    assert std.max() > 0
    assert not std[slide.counts.toarray()[result.raster.parent] == 0].any()
    np.testing.assert_allclose(sums(result), slide.counts.toarray(), rtol=1e-6)


def test_same_seed_gives_the_same_bytes(make_slide: MakeSlide) -> None:
    from napari_srast.inference import fitted_slide

    slide = make_slide()
    first = upsample(slide, seed=4)
    fitted_slide._cache.clear()
    again = upsample(slide, seed=4)
    assert same_bytes(first.counts, again.counts)


@GENTLE
@given(seed=st.integers(0, 10_000), shift=st.tuples(st.integers(-5000, 5000), st.integers(-5000, 5000)))
@pytest.mark.parametrize("method", ["gp", "pycnophylactic"])
def test_order_and_shifts_change_nothing(make_slide: MakeSlide, method: str, seed: int, shift: tuple[int, int]) -> None:
    slide = make_slide(5, 6)
    order = np.random.default_rng(seed).permutation(slide.n_spots)
    moved = with_order(slide, order, slide.centers[order] + np.array(shift, dtype=float))
    a, b = upsample(slide, method=method), upsample(moved, method=method)
    np.testing.assert_array_equal(a.counts.toarray(), b.counts.toarray())
    np.testing.assert_array_equal(a.raster.parent, order[b.raster.parent])
    np.testing.assert_allclose(a.raster.centers + shift, b.raster.centers)


def test_srast_is_invariant_to_order_shift_and_rotation(make_slide: MakeSlide) -> None:
    slide = make_slide()
    base = upsample(slide)
    order = np.random.default_rng(0).permutation(slide.n_spots)
    moved = upsample(with_order(slide, order, slide.centers[order] + [300.0, -1000.0]))
    np.testing.assert_array_equal(base.counts.toarray(), moved.counts.toarray())
    turned = upsample(with_order(slide, np.arange(slide.n_spots), slide.centers @ np.array([[0.0, 1.0], [-1.0, 0.0]])))
    image = np.rot90(base.gene_image("Gene1"))
    back = turned.gene_image("Gene1")
    assert image.shape == back.shape
    best = min(np.nanmax(np.abs(np.rot90(back, k) - base.gene_image("Gene1"))) for k in range(4))
    assert best < 0.05 * np.nanmax(image)


def test_mirrored_slide_gives_mirrored_result(make_slide: MakeSlide) -> None:
    slide = make_slide()
    mirrored = with_order(slide, np.arange(slide.n_spots), slide.centers * [-1.0, 1.0])
    a, b = upsample(slide).gene_image("Gene3"), upsample(mirrored).gene_image("Gene3")
    assert np.nanmax(np.abs(a - b[:, ::-1])) < 0.05 * np.nanmax(a)


def test_region_keeps_the_numbers_of_the_slide(make_slide: MakeSlide) -> None:
    slide = make_slide()
    region = Region(box(-10, -10, 310, 210))
    whole, part = upsample(slide, method="gp"), upsample(slide, region, method="gp")
    assert len(part.raster.spots) == 12
    inside = np.isin(whole.raster.parent, part.raster.spots)
    np.testing.assert_allclose(part.counts.toarray(), whole.counts.toarray()[inside], rtol=1e-5)
    np.testing.assert_allclose(part.raster.centers, whole.raster.centers[inside])


def test_srast_region_gives_the_numbers_of_the_whole_slide(make_slide: MakeSlide) -> None:
    slide = make_slide()
    whole, part = upsample(slide), upsample(slide, Region(box(-10, -10, 310, 210)))
    inside = np.isin(whole.raster.parent, part.raster.spots)
    np.testing.assert_allclose(part.counts.toarray(), whole.counts.toarray()[inside], rtol=2e-3, atol=1e-3)


def test_large_panel_uses_programs_and_conserves_counts(make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch) -> None:
    import napari_srast.inference.methods.srast as module

    monkeypatch.setattr(module, "PER_GENE_LIMIT", 3)
    slide = make_slide(10, 10, 8)
    one_by_one = upsample(slide)  # so few pairs are within the budget
    assert not (one_by_one.method == "srast-programs").any()
    monkeypatch.setattr(module, "FLOW_PAIR_BUDGET", 0)
    result = upsample(slide)
    np.testing.assert_allclose(sums(result), slide.counts.toarray(), rtol=1e-6)
    top_gene = int(np.argmax(np.asarray(slide.counts.sum(axis=0)).ravel()))
    assert result.method[top_gene] == one_by_one.method[top_gene]
    np.testing.assert_allclose(
        result.counts[:, [top_gene]].toarray(), one_by_one.counts[:, [top_gene]].toarray(), rtol=1e-5
    )
    others = np.delete(result.method, top_gene)
    assert set(others) <= {"srast-programs", "uniform"}
    assert (others == "srast-programs").any()
    parent, uniform = result.raster.parent, result.method == "uniform"
    expected = slide.counts[:, uniform].toarray() / np.bincount(parent, minlength=slide.n_spots)[:, None]
    np.testing.assert_allclose(result.counts[:, uniform].toarray(), expected[parent], rtol=1e-5)
    shared = result.provenance["calibration"]["shared"]
    assert shared["experts"] == ["programs", "totals"]
    assert shared["source"] == "slide"


@pytest.mark.parametrize("method", ["gp", "pycnophylactic", "srast"])
def test_tiles_give_the_numbers_of_the_slide(
    make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    slide = make_slide(9, 9)
    whole = upsample(slide, method=method)
    use_small_tiles(monkeypatch)
    tiled = upsample(slide, method=method)
    np.testing.assert_allclose(sums(tiled), slide.counts.toarray(), rtol=1e-6)
    np.testing.assert_array_equal(tiled.raster.parent, whole.raster.parent)
    np.testing.assert_allclose(tiled.counts.toarray(), whole.counts.toarray(), rtol=2e-3, atol=2e-3)


def test_progress_is_ordered_and_ends_at_one(make_slide: MakeSlide) -> None:
    seen: list[Progress] = []
    upsample(make_slide(seed=77), progress=seen.append)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert list(dict.fromkeys(p.stage for p in seen)) == ["raster", "align", "calibrate", "split"]


def test_steps_stop_computing_when_closed(make_slide: MakeSlide) -> None:
    before = set(threading.enumerate())
    steps = upsample_steps(make_slide(9, 9), None, None, UpsampleSettings(method="gp"))
    assert next(steps).stage == "raster"
    started = set(threading.enumerate()) - before
    assert [thread for thread in started if thread.name.startswith("napari-srast-run")]
    steps.close()
    assert not any(thread.is_alive() for thread in started if thread.name.startswith("napari-srast"))


def test_steps_return_the_result_and_raise_errors(make_slide: MakeSlide) -> None:
    slide, options = make_slide(9, 9), UpsampleSettings(method="gp")
    stages = []

    def collect(steps: Generator[Progress, None, UpsampleResult]) -> UpsampleResult:
        while True:
            try:
                stages.append(next(steps).stage)
            except StopIteration as end:
                return end.value

    result = collect(upsample_steps(slide, None, None, options))
    assert same_bytes(result.counts, upsample(slide, settings=options).counts)
    assert set(stages) == {"raster", "split"}
    with pytest.raises(InputError):
        collect(upsample_steps(slide, None, ["absent"], options))
    with pytest.raises(Cancelled):
        collect(upsample_steps(slide, None, None, options, should_stop=lambda: True))


@pytest.mark.parametrize("calls", [0, 1, 3, 20])
def test_cancellation_works_at_any_stage(make_slide: MakeSlide, calls: int) -> None:
    n_calls = 0

    def should_stop() -> bool:
        nonlocal n_calls
        n_calls += 1
        return n_calls > calls

    with pytest.raises(Cancelled):
        upsample(make_slide(seed=100 + calls), should_stop=should_stop)
    assert n_calls - calls in (1, 2)  # the slide and the coarsened slide are fitted on a thread each


def test_invalid_settings_are_named(make_slide: MakeSlide) -> None:
    slide = make_slide()
    with pytest.raises(SettingsError, match="fctor"):
        upsample(slide, fctor=2)
    with pytest.raises(SettingsError, match="either"):
        upsample(slide, settings=UpsampleSettings(), factor=2)
    with pytest.raises(InputError, match=r"Gene1\b"):
        upsample(slide, genes=["gene1"])
    with pytest.raises(RegionError, match="no spot"):
        upsample(slide, Region(box(1e6, 1e6, 1e6 + 1, 1e6 + 1)))
    fractions = make_slide(counts=np.full((64, 2), 0.5))
    with pytest.raises(SettingsError, match="integer counts"):
        upsample(fractions, mode="integer")


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 2), (1, 7), (2, 2)])
def test_tiny_slides_work(make_slide: MakeSlide, rows: int, cols: int) -> None:
    slide = make_slide(rows, cols)
    result = upsample(slide)
    np.testing.assert_allclose(sums(result), slide.counts.toarray(), rtol=1e-6)


def test_huge_counts_keep_their_sums(make_slide: MakeSlide) -> None:
    counts = np.random.default_rng(0).integers(0, 2**26, (64, 2)).astype(float)
    slide = make_slide(counts=counts)
    exact = Slide(counts=sparse.csr_matrix(counts), genes=slide.genes, spot_ids=slide.spot_ids, centers=slide.centers)
    result = upsample(exact, method="gp")
    np.testing.assert_allclose(sums(result), counts, rtol=1e-6)


def test_missing_device_is_named(make_slide: MakeSlide) -> None:
    missing = [d for d in ("cuda", "mps") if d not in available_devices()]
    if not missing:
        pytest.skip("this machine has every device")
    with pytest.raises(SettingsError, match=missing[0]):
        upsample(make_slide(), device=missing[0])


def test_estimate_has_the_size_of_a_run(make_slide: MakeSlide) -> None:
    slide = make_slide()
    expected = estimate(slide, None, ["Gene0"], UpsampleSettings(factor=3))
    assert (expected.n_spots, expected.n_pixels, expected.n_genes) == (64, 576, 1)
    assert expected.seconds > 0
    assert expected.memory_bytes > 0
    by_size = estimate(slide, None, None, UpsampleSettings(pixel_size=25.0))
    assert by_size.n_pixels == 64 * 16


@pytest.mark.parametrize("footprint", ["cell", "spot"])
def test_estimate_has_the_pixels_of_a_hexagonal_lattice(footprint: Footprint) -> None:
    slide = synthetic_colon()
    settings = UpsampleSettings(method="uniform", factor=4, footprint=footprint)
    n_pixels = upsample(slide, genes=["MUC2"], settings=settings).n_pixels
    assert estimate(slide, None, ["MUC2"], settings).n_pixels == pytest.approx(n_pixels, rel=0.05)


@pytest.mark.slides
@pytest.mark.parametrize("mode", ["mean", "integer"])
def test_every_real_slide_is_conserved(slide_paths: list[Path], mode: str) -> None:
    for path in slide_paths:
        table = anndata.read_h5ad(path)
        slide = Slide(
            counts=sparse.csr_matrix(table.X),
            genes=table.var_names.to_numpy(),
            spot_ids=table.obs_names.to_numpy(),
            centers=np.asarray(table.obsm["spatial"], dtype=float),
        )
        result = upsample(slide, mode=mode, method="gp", genes=list(slide.genes[:200]), factor=2)
        tolerance = 0 if mode == "integer" else 1e-6
        np.testing.assert_allclose(sums(result), slide.counts[:, :200].toarray(), rtol=tolerance)


@pytest.mark.slides
@pytest.mark.slow
@pytest.mark.parametrize("name", ["st_human_breast_her2_c4", "visium_human_lymphnode_subset"])
def test_srast_conserves_real_slides(slide_path: Callable[[str], Path], name: str) -> None:
    table = anndata.read_h5ad(slide_path(name))
    slide = Slide(
        counts=sparse.csr_matrix(table.X),
        genes=table.var_names.to_numpy(),
        spot_ids=table.obs_names.to_numpy(),
        centers=np.asarray(table.obsm["spatial"], dtype=float),
    )
    result = upsample(slide, factor=2)  # all genes, by programs
    np.testing.assert_allclose(sums(result), slide.counts.toarray(), rtol=1e-6)
    assert result.provenance["calibration"]["source"] == "slide"


def test_std_after_fallback_is_that_of_the_fallback(make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_srast.calibration.dispersion import Concentration
    from napari_srast.calibration.skill import GeneSkill

    monkeypatch.setattr(GeneSkill, "fallback_methods", lambda skill: np.full(len(skill.skill), "uniform", dtype=object))
    slide = make_slide()
    result = upsample(slide, factor=2, mode="sample", draws=2, steps=1)
    assert result.std is not None
    n = slide.counts.toarray()[result.raster.parent]
    calibration = result.provenance["calibration"]
    concentration = Concentration(
        log_at_zero=calibration["log_concentration_shallow"], slope=calibration["log_concentration_slope"]
    )
    np.testing.assert_allclose(result.std.toarray(), concentration.std(np.full(n.shape, 0.25), n), rtol=1e-4)
    assert (
        result.std.toarray() >= np.sqrt(n * 0.25 * 0.75) * (1 - 1e-5)
    ).all()  # at least the variance of single counts
