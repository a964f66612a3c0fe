"""Counts that a simulated platform observes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast.simulation.tissues.capture import Capture, sample_counts
from napari_srast.simulation.tissues.expression import Expression


@pytest.mark.parametrize("depth", [0.02, 2.0])
def test_sampled_counts_have_the_expected_means(depth: float) -> None:
    rng = np.random.default_rng(0)
    n_cells, n_genes = 400, 40
    expression = Expression(
        types=rng.integers(0, 2, n_cells),
        signature=np.array([[0.0] * n_genes, [2.0] * n_genes], dtype=np.float32),
        activity=np.zeros((n_cells, 1), dtype=np.float32),
        loading=np.zeros((1, n_genes), dtype=np.float32),
        size=np.ones(n_cells, dtype=np.float32),
        abundance=np.full(n_genes, depth, dtype=np.float32),
        dispersion=np.full(n_genes, 5.0),
    )
    every_cell = sparse.identity(n_cells, format="csr", dtype=np.float32)
    capture = Capture(
        positions=np.zeros((n_cells, 2)), shares=every_cell, efficiency=np.ones(n_cells, dtype=np.float32), ambient=0.0
    )
    counts = sum(sample_counts(rng, expression, capture) for _ in range(20)) / 20
    assert counts.mean() == pytest.approx(depth, rel=0.05)
    high, low = (counts[expression.types == t].mean() for t in (1, 0))
    assert high / low == pytest.approx(np.exp(2), rel=0.15)
