"""Tests of the sparse mixture of programs against a dense computation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from napari_srast.calibration.likelihood import scaled_log_count
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.methods import program_mixture as module
from napari_srast.inference.methods.program_mixture import ProgramMixture


def make_mixture(seed: int = 0) -> tuple[ProgramMixture, sparse.csr_matrix, np.ndarray]:
    """Return a mixture over 6 spots of 1 to 4 pixels and one spot without, counts, and the dense result."""
    rng = np.random.default_rng(seed)
    parent = np.repeat([0, 1, 2, 4, 5, 6], [1, 4, 2, 3, 4, 2])
    parent = parent[rng.permutation(len(parent))]
    layout = SpotPixelMap(spots=rng.normal(size=(7, 2)), pixels=rng.normal(size=(16, 2)), parent=parent, pitch=1.0)
    ratios = layout.normalize(rng.random((16, 4)))  # three programs and the totals
    activity, loading = rng.random((6, 3)), rng.random((20, 3)).astype(np.float32)
    loading[4] = 0.0
    weights, gate = rng.normal(size=(2, 2)), rng.integers(0, 2, 20).astype(float)
    counts = sparse.csr_matrix(rng.poisson(0.7, size=(6, 20)).astype(np.float32))
    row = np.searchsorted(np.flatnonzero(layout.n_pixels_per_spot), parent)
    mixed = layout.normalize((ratios[:, :3] * activity[row]) @ loading.T)  # a uniform split for spots without programs
    n = counts.toarray()[row]
    of_programs, of_totals = (weights[0, e] + weights[1, e] * scaled_log_count(n) for e in (0, 1))
    pooled = layout.normalize(mixed ** (gate * of_programs) * ratios[:, 3:] ** (gate * of_totals))
    mixture = ProgramMixture(
        layout=layout, log_ratio=np.log(ratios), activity=activity, loading=loading, weights=weights, gate=gate
    )
    return mixture, counts, pooled * n


@pytest.mark.parametrize("batch", [1, 30, 1 << 17])
def test_sparse_mixture_equals_the_dense_one(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(module, "_PAIRS_PER_BATCH", batch)
    mixture, counts, dense = make_mixture()
    allocated = mixture.allocate(counts)
    assert allocated.has_canonical_format
    assert allocated.dtype == np.float32
    np.testing.assert_allclose(allocated.toarray(), dense, rtol=1e-5)
    assert allocated.nnz == np.count_nonzero(dense)


def test_counts_are_conserved() -> None:
    mixture, counts, _ = make_mixture(3)
    row = np.searchsorted(np.flatnonzero(mixture.layout.n_pixels_per_spot), mixture.layout.parent)
    sums = np.zeros(counts.shape)
    np.add.at(sums, row, mixture.allocate(counts).toarray().astype(np.float64))
    np.testing.assert_allclose(sums, counts.toarray(), rtol=2e-7)


def test_bare_glass_gets_no_counts() -> None:
    mixture, counts, _ = make_mixture(2)
    layout = mixture.layout
    bare = np.zeros(layout.n_pixels, dtype=bool)
    bare[[np.flatnonzero(layout.parent == spot)[0] for spot in (1, 2, 6)]] = True  # of spots with more pixels
    log_ratio = np.where(bare[:, None], -np.inf, mixture.log_ratio)
    allocated = replace(mixture, log_ratio=log_ratio).allocate(counts)
    assert allocated[bare].nnz == 0
    row = np.searchsorted(np.flatnonzero(layout.n_pixels_per_spot), layout.parent)
    sums = np.zeros(counts.shape)
    np.add.at(sums, row, allocated.toarray().astype(np.float64))
    np.testing.assert_allclose(sums, counts.toarray(), rtol=2e-7)


def test_negative_weight_ignores_the_padding() -> None:
    mixture, counts, _ = make_mixture(4)
    allocated = replace(mixture, weights=np.array([[-30.0, 0.5], [0.0, 0.0]])).allocate(counts)
    assert np.isfinite(allocated.data).all()
    assert allocated.sum() == pytest.approx(counts.sum(), rel=1e-6)


def test_shares_match_the_allocated_counts() -> None:
    mixture, counts, dense = make_mixture(1)
    row = np.searchsorted(np.flatnonzero(mixture.layout.n_pixels_per_spot), mixture.layout.parent)
    shares = mixture.shares(counts).toarray()
    np.testing.assert_allclose(shares * counts.toarray()[row], dense, rtol=1e-5)


def test_empty_counts_give_no_entries() -> None:
    mixture, counts, _ = make_mixture()
    assert mixture.allocate(sparse.csr_matrix(counts.shape, dtype=np.float32)).nnz == 0
