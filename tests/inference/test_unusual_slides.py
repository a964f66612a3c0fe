"""Runs on small and irregular slides with known rates: nothing fails, and maps are better than the uniform split."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.lattices import lattice_points
from helpers.simulated import SimulatedSlide, simulate

from napari_srast.api import upsample
from napari_srast.core.result import UpsampleResult


def beads(n: int, seed: int = 0) -> np.ndarray:
    """Place beads at random, at least 55 apart."""
    rng = np.random.default_rng(seed)
    placed = rng.uniform(0, 90 * np.sqrt(n), (1, 2))
    while len(placed) < n:
        point = rng.uniform(0, 90 * np.sqrt(n), 2)
        if np.hypot(*(placed - point).T).min() > 55:
            placed = np.vstack([placed, point])
    return placed


CASES = {  # centers, pitch, diameter, image
    "20 spots": (lattice_points("hex", 5, 4), 100.0, 55.0, None),
    "60 spots": (lattice_points("hex", 10, 6), 100.0, 55.0, None),
    "30 spots with a gray image": (lattice_points("hex", 6, 5), 100.0, 55.0, "gray"),
    "30 spots with a fluorescence image": (lattice_points("hex", 6, 5), 100.0, 55.0, "fluorescence"),
    "irregular beads": (beads(24), 100.0, 10.0, None),
    "a third of the spots missing": (lattice_points("hex", 9, 7, keep=0.67), 100.0, 55.0, None),
    "a pitch of 200 um": (lattice_points("square", 5, 5, pitch=200.0), 200.0, 100.0, None),
}


def run(simulated: SimulatedSlide) -> UpsampleResult:
    return upsample(simulated.slide, factor=4, device="cpu")


@pytest.mark.parametrize("case", CASES)
def test_small_slide_is_better_than_the_uniform_split(case: str) -> None:
    centers, pitch, diameter, image = CASES[case]
    nats = []
    for seed in (0,) if case == "60 spots" else (0, 1):  # it takes several seconds
        simulated = simulate(centers, pitch, diameter, seed=seed, image=image)
        result = run(simulated)
        spots = simulated.slide.counts.toarray()
        sums = np.zeros_like(spots, dtype=float)
        np.add.at(sums, result.raster.parent, result.counts.toarray())
        np.testing.assert_allclose(sums, spots, rtol=1e-5, atol=1e-5)
        assert result.expression is not None
        assert np.isfinite(result.expression.data).all()
        assert result.expression.data.min() >= 0
        if image is not None:
            assert result.provenance["calibration"]["image"]["used"]
        nats.append(simulated.nats_per_count(result))
    assert np.mean(nats) > 0.005, nats


@pytest.mark.parametrize("case", ["20 spots", "30 spots with a gray image"])
def test_flat_slide_loses_next_to_nothing(case: str) -> None:
    """On a slide without structure any map but the uniform one is worse: noise must not be taken for structure."""
    centers, pitch, diameter, image = CASES[case]
    simulated = simulate(centers, pitch, diameter, seed=0, image=image, structure=0.0)
    assert -0.004 < simulated.nats_per_count(run(simulated)) <= 0
