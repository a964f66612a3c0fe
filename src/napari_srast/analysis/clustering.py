"""Cluster pixels: principal components, a graph of neighbors in expression and in space, and the Leiden algorithm.

Shape legend: Q pixels, G genes, C principal components, P pairs of pixels.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from napari_srast._utils.threads import single_threaded_blas
from napari_srast.analysis.packages import import_package
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.geometry.raster import Raster

__all__ = ["Partition", "embed", "find_partition", "neighbor_graph", "nearby_pixels", "partition"]

_N_COMPONENTS = 30
_N_NEIGHBORS = 15  # in expression
_REACH = 2.0  # in pixels: spatial neighbors are at most this far apart
_QUERY_VALUES = 20_000_000  # distances that are computed together
_LOWEST, _HIGHEST = 0.01, 50.0  # resolutions that the search for a number of clusters tries
_NEAR = 16.0  # factor of resolutions near the first one
_N_TRIALS = 14
_N_STARTS, _STARTED_NODES = 10, 200_000  # of the Leiden algorithm; nodes of all starts together
_rng_lock = threading.Lock()  # igraph has one random number generator for the process


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """Clusters, from the largest to the smallest.

    Parameters
    ----------
    labels
        Index of the cluster of each node, from 0, shape (Q,).
    resolution
        Resolution of the Leiden algorithm.
    """

    labels: NDArray[np.int64]
    resolution: float

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return int(self.labels.max()) + 1


def embed(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the principal components of values (Q, G), shape (Q, C), with C at most 30.

    Parameters
    ----------
    values
        Log-normalized expression, shape (Q, G).
    seed
        Random seed of the solver.
    """
    from sklearn.decomposition import PCA

    n_components = min(_N_COMPONENTS, *values.shape)
    if np.ptp(values, axis=0).max() == 0:  # scikit-learn would divide by the variance
        return np.zeros((len(values), n_components))
    with single_threaded_blas():
        components: np.ndarray = PCA(n_components, random_state=seed).fit_transform(values.astype(np.float64))
    return components


def nearby_pixels(raster: Raster) -> np.ndarray:
    """Return the pairs of pixels that are at most two pixels apart, as indices i < j, shape (P, 2)."""
    index = raster.index_image
    rows, cols = index.shape
    reach = int(_REACH)
    pairs = []
    for down in range(reach + 1):
        for right in range(-reach, reach + 1):
            if (down, right) <= (0, 0) or down * down + right * right > _REACH * _REACH or down >= rows:
                continue
            left, shift = max(0, -right), max(0, right)
            if left + shift >= cols:
                continue
            first = index[: rows - down, left : cols - shift]
            second = index[down:, left + right : cols - shift + right]
            both = (first >= 0) & (second >= 0)
            pairs.append(np.column_stack([first[both], second[both]]))
    found = np.concatenate(pairs) if pairs else np.empty((0, 2), dtype=np.int64)
    return np.sort(found, axis=1)


def neighbor_graph(components: np.ndarray, nearby: np.ndarray, monitor: RunMonitor = NO_MONITOR) -> Any:
    """Build the graph that is clustered.

    Its edges join each pixel to its 15 nearest neighbors in expression, anywhere on the slide, and to its neighbors in
    space. The weight of an edge falls with the difference in expression d: exp(-d^2 / (s_i s_j)) for neighbors in
    expression, where s_i is the distance to the 15th neighbor (Zelnik-Manor and Perona 2004), and exp(-d^2 / (2 m^2))
    for neighbors in space, where m is the median of d over all of them. So space joins pixels that look alike, and not
    those on two sides of a border.

    Parameters
    ----------
    components
        Principal components, shape (Q, C).
    nearby
        Pairs of neighbors in space, shape (P, 2).
    monitor
        Asked for cancellation.

    Returns
    -------
    igraph.Graph
        Undirected graph of Q nodes with the edge attribute "weight".

    Raises
    ------
    InputError
        The package igraph is not installed.
    """
    igraph = import_package("igraph", "Domains need")
    size = len(components)
    distance, other = _nearest(components, monitor)
    scale = np.maximum(distance[:, -1], _tiny(distance[:, -1]))
    here = np.repeat(np.arange(size), other.shape[1])
    there = other.ravel()
    similar = np.exp(-(distance.ravel() ** 2) / (scale[here] * scale[there]))
    apart = np.linalg.norm(components[nearby[:, 0]] - components[nearby[:, 1]], axis=1)
    middle = max(float(np.median(apart)), _tiny(apart)) if len(apart) else 1.0
    close = np.exp(-(apart**2) / (2 * middle**2))
    monitor.check_canceled()

    def symmetric(values: np.ndarray, i: np.ndarray, j: np.ndarray) -> sparse.csr_matrix:
        one_way = sparse.csr_matrix((values, (i, j)), shape=(size, size))
        return one_way.maximum(one_way.T)

    joined = symmetric(similar, here, there) + symmetric(close, nearby[:, 0], nearby[:, 1])
    upper = sparse.triu(joined, k=1).tocoo()
    graph = igraph.Graph(n=size, edges=np.column_stack([upper.row, upper.col]))
    graph.es["weight"] = upper.data
    return graph


def partition(graph: Any, resolution: float, seed: int = 0) -> Partition:
    """Find clusters by the Leiden algorithm (Traag et al. 2019) on modularity, until they no longer change.

    It starts several times, at most ten, fewer on large graphs, and keeps the clusters of the highest modularity:
    single starts end in different numbers of clusters.

    Parameters
    ----------
    graph
        The graph of :func:`neighbor_graph`.
    resolution
        Resolution; larger values give more clusters.
    seed
        Random seed; the same seed gives the same clusters.
    """
    igraph = import_package("igraph", "Domains need")
    n_starts = int(np.clip(_STARTED_NODES // max(graph.vcount(), 1), 1, _N_STARTS))
    options: dict[str, Any] = {"objective_function": "modularity", "n_iterations": -1, "resolution": resolution}
    with _rng_lock:
        igraph.set_random_number_generator(random.Random(seed))  # noqa: S311  # nosec B311 - not for secrets
        try:
            starts = [graph.community_leiden(weights="weight", **options) for _ in range(n_starts)]
        finally:
            igraph.set_random_number_generator(random)
    qualities = [graph.modularity(start.membership, weights="weight", resolution=resolution) for start in starts]
    found = starts[int(np.argmax(qualities))].membership
    _, first, codes, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return Partition(labels=rank[codes], resolution=float(resolution))


def find_partition(
    graph: Any,
    n_clusters: int,
    seed: int = 0,
    monitor: RunMonitor = NO_MONITOR,
    *,
    first: float | None = None,
    tolerance: int = 0,
) -> Partition:
    """Search the resolution that gives a number of clusters; return the closest number found.

    Parameters
    ----------
    graph
        The graph of :func:`neighbor_graph`.
    n_clusters
        Number of clusters.
    seed
        Random seed of each trial.
    monitor
        Asked for cancellation before each trial.
    first
        Resolution to start with, if the right one is likely to be near it: others are tried up to a factor of 16 away.
        Default: 1, and all resolutions from 0.01 to 50.
    tolerance
        Difference of the number of clusters that ends the search.
    """
    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    middle = 0.0
    if first is not None:
        middle = np.log(first)
        low, high = middle - np.log(_NEAR), middle + np.log(_NEAR)
    best: Partition | None = None
    for _ in range(_N_TRIALS):
        monitor.check_canceled()
        trial = partition(graph, float(np.exp(middle)), seed)
        if best is None or abs(trial.n_clusters - n_clusters) < abs(best.n_clusters - n_clusters):
            best = trial
        if abs(trial.n_clusters - n_clusters) <= tolerance:
            break
        low, high = (middle, high) if trial.n_clusters < n_clusters else (low, middle)
        middle = (low + high) / 2
    assert best is not None
    return best


def _nearest(components: np.ndarray, monitor: RunMonitor) -> tuple[np.ndarray, np.ndarray]:
    """Return distances and indices of the nearest other rows, ascending, shape (Q, k) each."""
    from sklearn.neighbors import NearestNeighbors

    size = len(components)
    k = min(_N_NEIGHBORS, size - 1)
    step = max(1, _QUERY_VALUES // size)
    index = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(components)
    distances, others = [], []
    with single_threaded_blas():
        for start in range(0, size, step):
            monitor.check_canceled()
            distance, other = index.kneighbors(components[start : start + step])
            rows = np.arange(start, start + len(other))[:, None]
            own = other == rows  # of equal rows, another one may come first, or fill all places
            own[~own.any(axis=1), -1] = True
            distances.append(distance[~own].reshape(len(other), k))
            others.append(other[~own].reshape(len(other), k))
    return np.concatenate(distances), np.concatenate(others)


def _tiny(values: np.ndarray) -> float:
    """Return a distance that is negligible next to the others, and above 0."""
    positive = values[values > 0]
    return float(positive.min()) * 1e-3 if len(positive) else 1.0
