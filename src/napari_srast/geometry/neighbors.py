"""Neighbors of spots in space and in expression.

The two kinds of edges are kept apart; the graph VAE fuses them with a learned gate. Shape legend: N spots, M neighbors,
C features, Q pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from napari_srast._utils.threads import map_on_cores
from napari_srast.geometry.bisection import bisect_points
from napari_srast.geometry.lattice import Lattice

__all__ = [
    "DualTopologyGraph",
    "dual_topology_graph",
    "expression_neighbors",
]

_N_SPATIAL_NEIGHBORS = {"hex": 6, "square": 8, "irregular": 6}
_SPATIAL_REACH = 2.0  # in pitches: across a wider gap there is no spatial edge
_EXACT_SEARCH_LIMIT = 20_000  # up to this number of spots all pairs are compared; the time is quadratic
_GROUP_SIZE = 8_000  # above it, only spots of one group with similar expression are compared
_TREE_MAX_DIMENSION = 20  # up to this dimension a k-d tree is faster than comparing all pairs


@dataclass(frozen=True, kw_only=True, eq=False)
class DualTopologyGraph:
    """Symmetric adjacency matrices without self loops, CSR of ones, shape (N, N) each."""

    spatial: sparse.csr_matrix
    expression: sparse.csr_matrix


def dual_topology_graph(
    centers: np.ndarray,
    components: np.ndarray,
    lattice: Lattice,
    *,
    n_expression: int = 10,
    similar: np.ndarray | None = None,
) -> DualTopologyGraph:
    """Connect spots that are close in space, and spots with similar expression.

    Parameters
    ----------
    centers
        Spot centers, shape (N, 2).
    components
        Expression components, shape (N, C).
    lattice
        Lattice of the spots. It sets the number of spatial neighbors: 8 on square lattices, 6 on others.
    n_expression
        Number of nearest neighbors in expression.
    similar
        Indices of the spots with the most similar expression, the spot itself included, shape (N, M). Default: the
        ``n_expression`` nearest ones in all components.
    """
    n_spots = len(centers)
    n_spatial = min(_N_SPATIAL_NEIGHBORS[lattice.kind], n_spots - 1)
    if n_spatial < 1:
        empty = sparse.csr_matrix((n_spots, n_spots), dtype=np.float32)
        return DualTopologyGraph(spatial=empty, expression=empty.copy())
    distance, index = cKDTree(centers).query(centers, k=n_spatial + 1)
    spatial = _adjacency(index, distance <= _SPATIAL_REACH * lattice.pitch)
    if similar is None:
        similar = expression_neighbors(components, min(n_expression, n_spots - 1) + 1)
    return DualTopologyGraph(spatial=spatial, expression=_adjacency(similar, np.ones(similar.shape, dtype=bool)))


def expression_neighbors(features: np.ndarray, n_nearest: int) -> np.ndarray:
    """Find the nearest rows of each row of features.

    Above 20,000 rows the search is restricted to groups of similar rows, so that its time grows linearly.

    Parameters
    ----------
    features
        Expression features, shape (N, C).
    n_nearest
        Number of rows to find, M, including the row itself.

    Returns
    -------
    np.ndarray
        Indices of the nearest rows, shape (N, M).
    """
    if len(features) <= _EXACT_SEARCH_LIMIT:
        return _nearest_rows(features, n_nearest)
    nearest = np.empty((len(features), n_nearest), dtype=np.int64)

    def search(group: np.ndarray) -> None:
        nearest[group] = group[_nearest_rows(features[group], n_nearest)]

    map_on_cores(search, bisect_points(features, lambda group: len(group) <= max(_GROUP_SIZE, 2 * n_nearest)))
    return nearest


def _nearest_rows(features: np.ndarray, n_nearest: int) -> np.ndarray:
    if features.shape[1] <= _TREE_MAX_DIMENSION:
        return np.asarray(cKDTree(features).query(features, k=np.arange(1, n_nearest + 1))[1])
    finder = NearestNeighbors(n_neighbors=n_nearest, algorithm="brute").fit(features)
    return np.asarray(finder.kneighbors(features, return_distance=False))


def _adjacency(index: np.ndarray, use: np.ndarray) -> sparse.csr_matrix:
    """Build the symmetric adjacency matrix of neighbor lists (N, M), without self loops and unused entries."""
    n_spots = len(index)
    source = np.repeat(np.arange(n_spots), index.shape[1]).reshape(index.shape)
    use = use & (index != source)
    ones = np.ones(int(use.sum()), dtype=np.float32)
    directed = sparse.csr_matrix((ones, (source[use], index[use])), shape=(n_spots, n_spots))
    symmetric = directed.maximum(directed.T).tocsr()
    symmetric.sort_indices()
    return symmetric
