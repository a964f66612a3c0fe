"""Procedural tissues are reproducible, stay within their ranges, contain every motif, and have spatial structure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.errors import SettingsError
from napari_srast.simulation.tissues import Tissue, TissueSettings, make_tissue
from napari_srast.simulation.tissues.anatomy import MOTIFS, PLANS, Canvas
from napari_srast.simulation.tissues.capture import Capture, sample_counts
from napari_srast.simulation.tissues.cells import jittered_hexagonal_grid
from napari_srast.simulation.tissues.expression import Expression
from napari_srast.simulation.tissues.fields import SmoothFields

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


@pytest.mark.parametrize("name", MOTIFS)
def test_motif_changes_a_part_of_the_canvas(name: str) -> None:
    changed = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        canvas = Canvas(jittered_hexagonal_grid(rng, 600.0, 8.0), 600.0, 8.0)
        canvas.paint(np.ones(len(canvas.positions), dtype=bool), 1.0)
        MOTIFS[name](canvas, rng)
        changed.append(np.mean((canvas.domain > 0) | (canvas.density == 0)))
    assert 0.005 < np.median(changed) < 0.9


def test_glands_are_rings_around_an_empty_lumen() -> None:
    rng = np.random.default_rng(1)
    canvas = Canvas(jittered_hexagonal_grid(rng, 800.0, 8.0), 800.0, 8.0)
    canvas.paint(np.ones(len(canvas.positions), dtype=bool), 1.0)
    MOTIFS["glands"](canvas, rng)
    lumen, wall = canvas.density == 0, np.isin(canvas.domain, np.flatnonzero(canvas.walls))
    assert lumen.any()
    near = cKDTree(canvas.positions).query(canvas.positions[lumen], k=7)[1]
    assert (lumen | wall)[near].all()  # no lumen touches the stroma


@pytest.mark.parametrize(("plan", "several"), [("territories", True), ("layers", True), ("mosaic", False)])
def test_plans_label_connected_domains(plan: str, several: bool) -> None:
    rng = np.random.default_rng(2)
    canvas = Canvas(jittered_hexagonal_grid(rng, 600.0, 8.0), 600.0, 8.0)
    labels = PLANS[plan][1](canvas, rng)
    assert (len(np.unique(labels)) > 1) == several
    near = cKDTree(canvas.positions).query(canvas.positions, k=7)[1]
    assert np.mean(labels[near] == labels[:, None]) > 0.8


def test_fields_have_unit_variance_length_scale_and_gradient() -> None:
    fields = SmoothFields(np.random.default_rng(0), np.full(60, 50.0))
    positions = np.random.default_rng(1).uniform(0, 2000, (400, 2))
    values = fields(positions)
    assert values.var() == pytest.approx(1, abs=0.1)
    away, step = np.array([50.0, 0.0]), np.array([0.5, 0.0])
    correlation = np.mean(values * fields(positions + away)) / values.var()
    assert correlation == pytest.approx(np.exp(-0.5), abs=0.1)
    slope = fields(positions + step) - fields(positions - step)
    np.testing.assert_allclose(fields.gradient(positions)[..., 0], slope, atol=2e-3)


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


def test_wide_panel_is_sparse() -> None:
    counts = make_tissue(1, TissueSettings(cells=(500, 500), wide_share=1.0, wide_panel=(20_000, 20_000))).counts
    assert counts.shape[1] == 20_000
    assert counts.nnz < 0.3 * np.prod(counts.shape)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"cells": (10, 100)}, "cells"),
        ({"panel": (50, 20)}, "panel"),
        ({"wide_share": 1.5}, "wide_share"),
        ({"platforms": (0, 0, 0)}, "platforms"),
        ({"fold": (0, 2)}, "fold"),
        ({"entries": 0}, "entries"),
    ],
)
def test_invalid_ranges_are_refused_by_name(values: dict, name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        TissueSettings(**values)
