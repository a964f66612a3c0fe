"""Tests of neighbors in space and in expression."""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.neighbors import dual_topology_graph


def test_graph_has_both_edge_types_without_loops() -> None:
    row, col = (a.ravel() for a in np.mgrid[:12, :12])
    centers = np.column_stack([col, row]) * 100.0
    counts = np.random.default_rng(0).poisson(2.0, (144, 30))
    graph = dual_topology_graph(centers, counts, detect_lattice(centers), n_expression=5)
    inner = 5 * 12 + 5
    assert graph.spatial[inner].sum() >= 8
    assert graph.spatial.diagonal().sum() == graph.expression.diagonal().sum() == 0
    assert (graph.spatial != graph.spatial.T).nnz == 0
    assert graph.expression.sum(axis=1).min() >= 5


def test_graph_uses_neighbors_that_were_found_before() -> None:
    centers = np.argwhere(np.ones((4, 4))) * 100.0
    similar = np.column_stack([np.arange(16), (np.arange(16) + 5) % 16])
    graph = dual_topology_graph(centers, np.zeros((16, 3)), detect_lattice(centers), similar=similar)
    expected = np.zeros((16, 16))
    expected[similar[:, 0], similar[:, 1]] = expected[similar[:, 1], similar[:, 0]] = 1
    np.testing.assert_array_equal(graph.expression.toarray(), expected)
