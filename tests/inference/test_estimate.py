"""Estimates against what was measured: the figures of docs/performance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from napari_srast.api import estimate
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "performance"
MEASURED = [
    one
    for path in sorted(FIGURES.glob("*.json"))
    if path.stem != "peers"  # packages that no run uses, and the same small jobs beside them
    for one in json.loads(path.read_text())["measurements"]
    if one["workers"] is None and one["device"] == "cpu"
]


def _slide(n_spots: int, n_genes: int, n_entries: int) -> Slide:
    """Make a slide of a size, with as many counts above 0."""
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


@pytest.mark.skipif(not MEASURED, reason="nothing was measured; see docs/make_performance.py")
@pytest.mark.parametrize(
    "one", MEASURED, ids=[f"{one['method']}-{one['spots']}-{one['genes']}-{one['factor']:g}" for one in MEASURED]
)
def test_estimate_is_within_a_factor_of_two(one: dict[str, Any]) -> None:
    slide = _slide(one["spots"], one["genes"], one["entries"])
    settings = UpsampleSettings(method=one["method"], factor=one["factor"])
    guess = estimate(slide, None, None, settings, into_store=True)  # as bench does
    assert 0.5 * one["seconds"] - 1 <= guess.seconds <= 2 * one["seconds"] + 1  # a second either way is no matter
    assert 0.5 * one["peak_mb"] - 500 <= guess.memory_bytes / 1e6 <= 2 * one["peak_mb"] + 500


def test_a_larger_job_takes_longer_and_more() -> None:
    small, large = (
        estimate(slide, None, None, UpsampleSettings(factor=factor))
        for slide, factor in ((_slide(100, 20, 1000), 2), (_slide(400, 600, 100_000), 4))
    )
    assert large.seconds > small.seconds
    assert large.memory_bytes > small.memory_bytes


def test_a_large_result_that_goes_into_a_store_takes_less_memory() -> None:
    slide = _slide(4000, 2000, 4_000_000)
    held, stored = (
        estimate(slide, None, None, UpsampleSettings(factor=8), into_store=into_store) for into_store in (False, True)
    )
    assert stored.memory_bytes < held.memory_bytes - 1e9
    assert stored.seconds == held.seconds


def test_what_the_forecast_knows_of_the_method_is_still_so() -> None:
    """It may not import torch, so it holds sizes of its own."""
    from napari_srast.calibration import experts
    from napari_srast.inference import estimate
    from napari_srast.inference.methods import srast
    from napari_srast.models.programs import factorization
    from napari_srast.models.sasa import fitting

    config = fitting.SasaConfig()
    assert (estimate._FULL_GENES, estimate._FLOW_PAIRS) == (srast.PER_GENE_LIMIT, srast.FLOW_PAIR_BUDGET)
    assert (estimate._STEPS, estimate._DRAWS) == (srast._STEPS, srast._DRAWS)
    assert (estimate._EPOCHS, estimate._PANEL, estimate._LEARNED) == (
        config.epochs,
        config.n_panel,
        fitting._MAX_TRAINING_SPOTS,
    )
    assert (estimate._CHECKED, estimate._CHECKED_GENES) == (
        experts._CALIBRATION_SPOTS,
        experts._CALIBRATION_GENES,
    )
    assert (estimate._COARSE_SPOTS, estimate._VARIANTS) == (
        experts._ENOUGH_COARSE_SPOTS,
        experts._MOST_VARIANTS,
    )
    assert factorization.fit_programs.__kwdefaults__["n_programs"] == estimate._PROGRAMS
