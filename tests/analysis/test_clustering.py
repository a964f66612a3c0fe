"""Principal components, the graph of neighbors, and the clusters in it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.analysis.clustering import embed, find_partition, nearby_pixels, neighbor_graph, partition
from napari_srast.geometry.raster import make_raster

pytest.importorskip("igraph")


@pytest.fixture(scope="module")
def blobs():
    """Four well separated groups of 60, 40, 30 and 20 points in ten dimensions, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, 3], [60, 40, 30, 20])
    return rng.normal(size=(4, 10))[labels] * 20 + rng.normal(size=(150, 10)), labels


def graph_of(points):
    return neighbor_graph(points, np.empty((0, 2), dtype=np.int64))


def test_clusters_are_the_groups_from_the_largest_to_the_smallest(blobs):
    points, labels = blobs
    found = partition(graph_of(points), 0.3)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.n_clusters == 4


def test_resolution_is_searched_for_a_number_of_clusters(blobs):
    graph = graph_of(blobs[0])
    for n_clusters in (4, 6):
        assert find_partition(graph, n_clusters).n_clusters == n_clusters
    assert find_partition(graph, 2).n_clusters >= 4  # the groups are not connected, so they cannot be joined


def test_same_seed_gives_the_same_clusters(blobs):
    graph = graph_of(np.random.default_rng(1).normal(size=(200, 3)))
    first, second = partition(graph, 1.0, seed=3), partition(graph, 1.0, seed=3)
    assert first.labels.tolist() == second.labels.tolist()


def test_space_joins_alike_pixels_and_not_different_ones():
    components = np.tile([[0.0], [0.1], [5.0], [5.1]], (10, 1)) + np.arange(40)[:, None] * 1e-3
    nearby = np.array([[0, 1], [4, 5], [8, 9], [1, 2]])

    def weight(graph, i, j):
        edge = graph.get_eid(i, j, error=False)
        return 0.0 if edge < 0 else graph.es[edge]["weight"]

    with_space, without = neighbor_graph(components, nearby), graph_of(components)
    gain = [weight(with_space, i, j) - weight(without, i, j) for i, j in nearby]
    assert min(gain[:3]) > 0.5
    assert gain[3] < 1e-6


def test_nearby_pixels_are_at_most_two_apart():
    raster = make_raster(100.0 * np.argwhere(np.ones((3, 3))), factor=2)
    pairs = nearby_pixels(raster)
    centers = raster.centers / raster.pixel_size
    distance = np.linalg.norm(centers[:, None] - centers, axis=2)
    expected = np.argwhere(np.triu((distance > 0) & (distance < 2.01)))
    assert sorted(map(tuple, pairs)) == sorted(map(tuple, expected))


def test_components_have_the_smaller_size_and_constant_values_have_none():
    values = np.random.default_rng(0).random((12, 5))
    components = embed(values)
    assert components.shape == (12, 5)
    np.testing.assert_allclose(np.linalg.norm(components, axis=0), np.linalg.svd(values - values.mean(axis=0))[1])
    assert not embed(np.ones((6, 4))).any()
