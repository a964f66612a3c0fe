"""Tests of estimates against the measurements of docs/performance."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from napari_srast.api import estimate, upsample
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.geometry.raster import Footprint

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "performance"
MEASURED = [
    one
    for path in sorted(FIGURES.glob("*.json"))
    if path.stem != "peers"  # other packages on small jobs
    for one in json.loads(path.read_text())["measurements"]
    if one["workers"] is None and one["device"] == "cpu"
]


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
    settings = UpsampleSettings(method=one["method"], factor=one["factor"])
    expected = estimate(slide, None, None, settings, into_store=True)  # as the benchmark does
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


def test_estimate_loads_no_torch() -> None:
    code = "import sys, napari_srast.inference.estimate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
