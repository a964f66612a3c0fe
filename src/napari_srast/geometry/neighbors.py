"""The dual-topology graph: who is near in space, who is alike in expression.

The two edge sets are kept apart; the graph VAE fuses them with a learned gate. Shape legend: N spots, M neighbors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from napari_srast.geometry.bisection import bisect_points
from napari_srast.geometry.lattice import Lattice

__all__ = ["DualTopologyGraph", "dual_topology_graph", "expression_neighbors", "nearest_other_spots"]

_SPATIAL_NEIGHBOURS = {"hex": 6, "square": 8, "irregular": 6}
_SPATIAL_REACH = 2.0  # in pitches: across a wider gap there is no spatial edge
_EXACT = 20_000  # up to so many spots the nearest in expression are sought among all; the search is quadratic
_GROUP = 8_000  # beyond, among the spots of a group of at most so many that are alike
_LOW_DIMENSION = 20  # up to here a tree is faster than comparing all with all


@dataclass(frozen=True, kw_only=True, eq=False)
class DualTopologyGraph:
    """Symmetric adjacency matrices without self loops, CSR of ones, shape (N, N) each."""

    spatial: sparse.csr_matrix
    expression: sparse.csr_matrix


def dual_topology_graph(
    centers: np.ndarray, components: np.ndarray, lattice: Lattice, *, n_expression: int = 10
) -> DualTopologyGraph:
    """Connect spots that are near in space and spots that are alike.

    Parameters
    ----------
    centers
        Spot centers, shape (N, 2).
    components
        Expression components, shape (N, n_components).
    lattice
        Decides the number of spatial neighbors: 6 on hexagons, 8 on squares.
    n_expression
        Number of nearest neighbors in expression.
    """
    n_spots = len(centers)
    n_near = min(_SPATIAL_NEIGHBOURS[lattice.kind], n_spots - 1)
    if n_near < 1:
        empty = sparse.csr_matrix((n_spots, n_spots), dtype=np.float32)
        return DualTopologyGraph(spatial=empty, expression=empty.copy())
    distance, index = cKDTree(centers).query(centers, k=n_near + 1)
    near = _adjacency(index, distance <= _SPATIAL_REACH * lattice.pitch)
    n_alike = min(n_expression, n_spots - 1)
    alike = expression_neighbors(components, n_alike + 1)
    return DualTopologyGraph(spatial=near, expression=_adjacency(alike, np.ones(alike.shape, dtype=bool)))


def expression_neighbors(features: np.ndarray, n_nearest: int) -> np.ndarray:
    """Return for each row of features (N, C) the nearest rows, itself among them, shape (N, n_nearest).

    Above 20,000 rows they are sought in groups of rows that are alike, so that the time grows in proportion.
    """
    if len(features) <= _EXACT:
        return _nearest_of(features, n_nearest)
    found = np.empty((len(features), n_nearest), dtype=np.int64)
    for group in bisect_points(features, lambda group: len(group) <= max(_GROUP, 2 * n_nearest)):
        found[group] = group[_nearest_of(features[group], n_nearest)]
    return found


def _nearest_of(features: np.ndarray, n_nearest: int) -> np.ndarray:
    if features.shape[1] <= _LOW_DIMENSION:
        return np.asarray(cKDTree(features).query(features, k=np.arange(1, n_nearest + 1))[1])
    finder = NearestNeighbors(n_neighbors=n_nearest, algorithm="brute").fit(features)
    return np.asarray(finder.kneighbors(features, return_distance=False))


def _adjacency(index: np.ndarray, use: np.ndarray) -> sparse.csr_matrix:
    """Return the symmetric adjacency of (N, M) neighbor lists, own entries and masked ones left out."""
    n_spots = len(index)
    source = np.repeat(np.arange(n_spots), index.shape[1]).reshape(index.shape)
    use = use & (index != source)
    ones = np.ones(int(use.sum()), dtype=np.float32)
    directed = sparse.csr_matrix((ones, (source[use], index[use])), shape=(n_spots, n_spots))
    both = directed.maximum(directed.T).tocsr()
    both.sort_indices()
    return both


def nearest_other_spots(
    spots: np.ndarray, pixels: np.ndarray, parent: np.ndarray, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find for each pixel the nearest spots other than its parent, in order of distance from the pixel.

    Returns
    -------
    index, distance
        Both of shape (Q, n_neighbors); where the slide has too few spots, the parent itself with infinite distance.
    """
    k = min(n_neighbors + 1, len(spots))
    distance, index = cKDTree(spots).query(pixels, k=k)
    distance, index = distance.reshape(len(pixels), k), index.reshape(len(pixels), k)
    own = index == parent[:, None]
    own[~own.any(axis=1), -1] = True  # the parent is not among them: drop the farthest instead
    keep = np.argsort(own, axis=1, kind="stable")[:, : k - 1]
    index, distance = np.take_along_axis(index, keep, 1), np.take_along_axis(distance, keep, 1)
    short = n_neighbors - (k - 1)
    if short > 0:
        index = np.hstack([index, np.repeat(parent[:, None], short, axis=1)])
        distance = np.hstack([distance, np.full((len(pixels), short), np.inf)])
    return index, distance
