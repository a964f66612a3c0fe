"""Simulated slides: lattice, reproducibility, sparsity."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.benchmarks.synthetic_slide import simulate_slide
from napari_srast.geometry.lattice import detect_lattice


def test_simulated_slide_is_hexagonal_and_repeats() -> None:
    slide = simulate_slide(50, 7, seed=3)
    assert slide.counts.shape == (50, 7)
    lattice = detect_lattice(slide.centers)
    assert lattice.kind == "hex"
    assert lattice.pitch == pytest.approx(100)
    assert (slide.counts != simulate_slide(50, 7, seed=3).counts).nnz == 0


def test_large_panels_are_as_sparse_as_visium() -> None:
    counts = simulate_slide(50, 4000).counts
    assert counts.sum() / 50 == pytest.approx(5000, rel=0.1)
    assert counts.nnz / np.prod(counts.shape) < 0.5
