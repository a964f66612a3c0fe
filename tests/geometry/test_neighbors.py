"""Tests of neighbors in space and in expression."""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.neighbors import dual_topology_graph, nearest_other_spots


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


def test_nearest_other_spots_exclude_the_parent() -> None:
    spots = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    index, distance = nearest_other_spots(spots, np.array([[0.4, 0.0]]), np.array([0]), 2)
    assert index.tolist() == [[1, 2]]
    np.testing.assert_allclose(distance, [[0.6, 1.6]])
    index, distance = nearest_other_spots(spots[:2], np.array([[0.4, 0.0]]), np.array([0]), 3)
    assert index[0, 0] == 1
    assert np.isinf(distance[0, 1:]).all()
