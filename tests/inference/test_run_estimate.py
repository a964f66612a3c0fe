"""Tests of estimates against the measurements of docs/performance."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from napari_srast.api import Estimate, estimate, upsample
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import DeviceError
from napari_srast.geometry.raster import Footprint
from napari_srast.inference import run_estimate as module
from napari_srast.inference.costs import JobSize, run_bytes, run_seconds
from napari_srast.inference.executors.local import ThreadExecutor
from napari_srast.inference.run_estimate import require_memory

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "performance"
MEASURED = [
    one
    for path in sorted(FIGURES.glob("*.json"))
    if path.stem != "peers"  # other packages on small jobs
    for one in json.loads(path.read_text())["measurements"]
    if one["workers"] is None and one["device"] == "cpu"
]


@pytest.fixture(autouse=True)
def reference_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimate for the computer with two cores on which the figures were measured."""
    monkeypatch.setattr(module, "machine_speed", lambda: 1.0)
    monkeypatch.setattr(module, "tile_threads", lambda: 2)


def _slide(n_spots: int, n_genes: int, n_entries: int) -> Slide:
    """Return a slide with ``n_entries`` counts above 0."""
    n_columns = int(np.ceil(np.sqrt(n_spots)))
    row, column = np.divmod(np.arange(n_spots), n_columns)
    pointer = np.linspace(0, n_entries, n_spots + 1).astype(np.int64)
    indices = np.arange(n_entries) - np.repeat(pointer[:-1], np.diff(pointer))
    counts = sparse.csr_matrix((np.ones(n_entries, dtype=np.float32), indices, pointer), shape=(n_spots, n_genes))
    return Slide(
        counts=counts,
        genes=np.array([f"Gene{i}" for i in range(n_genes)], dtype=object),
        spot_ids=np.array([f"spot{i}" for i in range(n_spots)], dtype=object),
        centers=100.0 * np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(0.75)]),
        unit="um",
    )


@pytest.mark.skipif(not MEASURED, reason="no measurements; see docs/make_performance.py")
@pytest.mark.parametrize(
    "one", MEASURED, ids=[f"{one['method']}-{one['spots']}-{one['genes']}-{one['factor']:g}" for one in MEASURED]
)
def test_estimate_is_within_a_factor_of_two(one: dict[str, Any]) -> None:
    slide = _slide(one["spots"], one["genes"], one["entries"])
    expression = "auto" if one["method"] == "srast" else "none"  # as the benchmark does
    settings = UpsampleSettings(method=one["method"], factor=one["factor"], expression=expression)
    expected = estimate(slide, None, None, settings, into_store=True)
    assert 0.5 * one["seconds"] - 1 <= expected.seconds <= 2 * one["seconds"] + 1  # a second is within the tolerance
    assert 0.5 * one["peak_mb"] - 500 <= expected.memory_bytes / 1e6 <= 2 * one["peak_mb"] + 500


def test_larger_job_needs_more_time_and_memory() -> None:
    small, large = (
        estimate(slide, None, None, UpsampleSettings(factor=factor))
        for slide, factor in ((_slide(100, 20, 1000), 2), (_slide(400, 600, 100_000), 4))
    )
    assert large.seconds > small.seconds
    assert large.memory_bytes > small.memory_bytes


def test_streamed_result_needs_less_memory() -> None:
    slide = _slide(4000, 2000, 4_000_000)
    in_memory, streamed = (
        estimate(slide, None, None, UpsampleSettings(factor=8), into_store=into_store) for into_store in (False, True)
    )
    assert streamed.memory_bytes < in_memory.memory_bytes - 1e9
    assert streamed.seconds == in_memory.seconds


@pytest.mark.parametrize("footprint", ["cell", "spot"])
@pytest.mark.parametrize("lattice", ["square", "hex"])
@pytest.mark.parametrize("factor", [1.3, 4.0])
def test_counted_pixels_are_those_of_the_run(
    make_slide: Callable[..., Slide], lattice: str, footprint: Footprint, factor: float
) -> None:
    slide = make_slide(rows=8, cols=9, lattice=lattice)
    x, y = slide.centers.min(axis=0)
    region = Region.from_wkt(f"POLYGON (({x} {y}, {x + 500} {y}, {x + 450} {y + 600}, {x} {y + 380}, {x} {y}))")
    settings = UpsampleSettings(factor=factor, footprint=footprint, method="uniform")
    for area in (None, region):
        expected, run = estimate(slide, area, None, settings), upsample(slide, area, settings=settings)
        assert expected.is_counted
        assert expected.n_pixels == run.n_pixels
        assert expected.pixel_side == pytest.approx(run.raster.pixel_size * slide.cs_scale, rel=0.02)
        rough = estimate(slide, area, None, settings, max_counted=0)
        assert not rough.is_counted


def test_expression_costs_time_and_memory() -> None:
    slide = _slide(5000, 600, 600_000)

    def cost(expression: str) -> Estimate:
        return estimate(slide, None, None, UpsampleSettings(factor=2, expression=expression), into_store=True)

    plain, expression = cost("none"), cost("auto")
    assert expression.seconds > plain.seconds
    assert expression.memory_bytes > plain.memory_bytes


def _bins(n_spots: int, n_genes: int, expression: str = "none") -> JobSize:
    """Return the size of a job on bins of 18,000 genes with 226 counts above 0 each, in 2 x 2 pixels."""
    return JobSize(
        n_spots=n_spots,
        n_slide_genes=18_000,
        n_entries=226 * n_spots,
        n_pixels=4 * n_spots,
        n_genes=n_genes,
        pixels_per_spot=4.0,
        n_expression=0 if expression == "none" else min(n_genes, 64),
        settings=UpsampleSettings(factor=2.0, expression=expression),
    )


@pytest.mark.parametrize(("n_genes", "expression"), [(5, "auto"), (18_000, "none"), (18_000, "auto")])
def test_twice_the_bins_cost_at_most_twice(n_genes: int, expression: str) -> None:
    for n_spots in (50_000, 122_500, 490_000):
        one, two = _bins(n_spots, n_genes, expression), _bins(2 * n_spots, n_genes, expression)
        assert run_seconds(one, 2) < run_seconds(two, 2) < 2 * run_seconds(one, 2)
        assert run_bytes(one, 2, into_store=True) < run_bytes(two, 2, into_store=True)
        assert run_bytes(two, 2, into_store=True) < 2 * run_bytes(one, 2, into_store=True)


def test_few_genes_of_a_large_slide_cost_a_part_of_all() -> None:
    few, every = _bins(122_500, 5, "auto"), _bins(122_500, 18_000, "auto")
    assert run_seconds(few, 2) < 0.6 * run_seconds(every, 2)
    assert run_bytes(few, 2, into_store=True) < run_bytes(every, 2, into_store=True)


def test_fast_computer_needs_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = _slide(2000, 300, 300_000)
    settings = UpsampleSettings(factor=2)
    reference = estimate(slide, None, None, settings).seconds
    monkeypatch.setattr(module, "machine_speed", lambda: 2.0)
    assert estimate(slide, None, None, settings).seconds == pytest.approx(reference / 2)
    monkeypatch.setattr(module, "tile_threads", lambda: 8)
    assert estimate(slide, None, None, settings).seconds < reference / 2


@pytest.mark.contract(
    section="Outputs and system errors",
    case="a run needs more memory than the computer can provide",
    response="This run needs about … of memory besides the slide, and this computer can provide …; close other "
    "programs, or choose at most … genes, a region of at most … spots or factor … (NAPARI_SRAST_CHECK_MEMORY=0 starts "
    "it all the same)",
)
def test_job_above_the_memory_is_refused_with_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = _slide(4000, 3000, 4_000_000)
    settings = UpsampleSettings(factor=8)
    monkeypatch.setattr(module, "tile_threads", lambda: 1)
    needed = estimate(slide, None, None, settings, into_store=True).memory_bytes
    monkeypatch.setattr(module, "obtainable_memory", lambda: int(0.8 * needed))
    with pytest.raises(DeviceError, match=r"GB of memory.*close other programs, or choose at most") as refused:
        require_memory(slide, None, None, settings)
    n_genes = int(re.search(r"at most ([\d,]+) genes", str(refused.value))[1].replace(",", ""))
    factor = float(re.search(r"factor (\d+)", str(refused.value))[1])
    require_memory(slide, None, list(slide.genes[:n_genes]), settings)
    require_memory(slide, None, None, UpsampleSettings(factor=factor))
    monkeypatch.setenv(module.CHECK_MEMORY_VARIABLE, "0")
    assert require_memory(slide, None, None, settings) == 1


def test_many_cores_are_no_reason_to_refuse_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    slide, settings = _slide(4000, 3000, 4_000_000), UpsampleSettings(factor=8)
    of_two = estimate(slide, None, None, settings, into_store=True).memory_bytes
    monkeypatch.setattr(module, "tile_threads", lambda: 64)
    for name in ("available_memory", "obtainable_memory"):
        monkeypatch.setattr(module, name, lambda: of_two + 1)
    assert require_memory(slide, None, None, settings) == 2
    assert estimate(slide, None, None, settings, into_store=True).memory_bytes == of_two


def test_swap_space_is_used_before_a_job_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = _slide(400, 30, 4000)
    monkeypatch.setattr(module, "available_memory", lambda: 0)
    monkeypatch.setattr(module, "obtainable_memory", lambda: 10**10)
    assert require_memory(slide, None, None, UpsampleSettings(factor=2)) == 1


@pytest.mark.parametrize("n_spots", [1, 5])
def test_regions_that_fit_have_spots(n_spots: int) -> None:
    size = module._job_size(_slide(16, 4, 40), None, None, UpsampleSettings(factor=2))[0]
    assert "at most 0" not in module._what_fits(size, n_spots, lambda smaller: smaller.n_pixels <= size.n_pixels / 10)


def test_slide_of_which_no_part_fits_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "obtainable_memory", lambda: 10**6)
    with pytest.raises(DeviceError, match="no choice of genes or region makes this slide fit"):
        require_memory(_slide(400, 30, 4000), None, None, UpsampleSettings(factor=2))


def test_run_is_refused_before_it_starts(make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "obtainable_memory", lambda: 0)
    steps: list[object] = []
    with pytest.raises(DeviceError, match="can provide"):
        upsample(make_slide(rows=4, cols=4), method="uniform", progress=steps.append)
    assert steps == []


def test_run_on_other_computers_is_not_refused(
    make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "obtainable_memory", lambda: 0)
    elsewhere = ThreadExecutor()
    elsewhere.is_local = False
    assert upsample(make_slide(rows=4, cols=4), method="uniform", executor=elsewhere).n_pixels > 0


def test_estimate_loads_no_torch() -> None:
    code = "import sys, napari_srast.inference.run_estimate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
