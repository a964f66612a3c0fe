"""Procedural tissues: reproducible, within their ranges, with every motif and spatial structure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.simulation.tissues import Tissue, TissueSettings, make_tissue
from napari_srast.simulation.tissues.anatomy import MOTIFS, PLANS

SMALL = TissueSettings(cells=(600, 1200), panel=(8, 60))


@pytest.fixture(scope="module")
def tissues() -> list[Tissue]:
    return [make_tissue(seed, SMALL) for seed in range(40)]


def moran(values: np.ndarray, points: np.ndarray) -> float:
    """Return Moran's I over the six nearest neighbors."""
    centered = values - values.mean()
    near = cKDTree(points).query(points, k=7)[1][:, 1:]
    return float((centered[:, None] * centered[near]).mean() / centered.var())


def test_seed_determines_the_tissue() -> None:
    first, again, other = make_tissue(5, SMALL), make_tissue(5, SMALL), make_tissue(6, SMALL)
    np.testing.assert_array_equal(first.points, again.points)
    assert (first.counts != again.counts).nnz == 0
    assert str(first.description) == str(again.description) != str(other.description)


def test_tissues_stay_within_their_ranges(tissues: list[Tissue]) -> None:
    for points, counts, description in tissues:
        assert points.shape == (counts.shape[0], 2)
        assert counts.dtype == np.float32
        assert isinstance(counts, sparse.csr_matrix)
        assert counts.has_sorted_indices
        assert (counts.data >= 1).all()
        assert (counts.data == np.rint(counts.data)).all()
        assert (np.diff(counts.indptr) > 0).all()
        assert 100 <= len(points) <= 4000
        assert 8 <= counts.shape[1] <= 60
        assert 3 <= description.n_types <= 20
        assert description.cell_types.max() < description.n_types
        assert len(cKDTree(points).query_pairs(1e-6)) == 0


def test_every_plan_motif_and_platform_occurs(tissues: list[Tissue]) -> None:
    descriptions = [t.description for t in tissues]
    assert {d.plan for d in descriptions} == set(PLANS)
    assert {m for d in descriptions for m in d.motifs} == {*MOTIFS, "infiltrate"}
    assert {d.platform for d in descriptions} == {"cells", "beads", "bins"}


def test_depths_span_their_range(tissues: list[Tissue]) -> None:
    depth = np.array([t.counts.sum() / np.prod(t.counts.shape) for t in tissues])
    assert depth.min() < 0.5
    assert depth.max() > 5


def test_genes_have_spatial_patterns(tissues: list[Tissue]) -> None:
    rng = np.random.default_rng(0)
    strongest, shuffled = [], []
    for points, counts, _ in tissues:
        most_abundant = np.argsort(-np.asarray(counts.sum(axis=0)).ravel())[:10]
        values = np.log1p(counts[:, most_abundant].toarray())
        strongest.append(max(moran(v, points) for v in values.T))
        shuffled.append(max(abs(moran(rng.permutation(v), points)) for v in values.T))
    assert np.median(strongest) > 0.15
    assert np.median(shuffled) < 0.05
    assert np.mean(np.array(strongest) > np.array(shuffled)) > 0.9


def test_counts_of_a_type_are_overdispersed() -> None:
    points, counts, description = make_tissue(
        3, TissueSettings(cells=(2000, 2000), panel=(30, 30), platforms=(1, 0, 0), counts_per_gene=(5, 5))
    )
    types = description.cell_types[cKDTree(description.cell_positions).query(points)[1]]
    of_type = counts[types == np.bincount(types).argmax()].toarray()
    abundant = of_type[:, of_type.mean(axis=0) > 1]
    assert np.median(abundant.var(axis=0) / abundant.mean(axis=0)) > 1.5


def test_wide_panel_is_sparse() -> None:
    counts = make_tissue(1, TissueSettings(cells=(500, 500), wide_share=1.0, wide_panel=(6_000, 6_000))).counts
    assert counts.shape[1] == 6_000
    assert counts.nnz < 0.3 * np.prod(counts.shape)
