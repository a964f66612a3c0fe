"""Tests of partitions of points into compact groups."""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.bisection import bisect_points, sample_patches
from napari_srast.geometry.neighbors import expression_neighbors


def grid(n_rows: int, n_columns: int) -> np.ndarray:
    row, column = (a.ravel() for a in np.mgrid[:n_rows, :n_columns])
    return np.column_stack([column, row]).astype(float)


def test_groups_are_a_compact_partition() -> None:
    points = grid(16, 32)
    groups = bisect_points(points, lambda group: len(group) <= 64)
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(len(points)))
    assert {len(group) for group in groups} == {64}
    assert all(np.ptp(points[group], axis=0).tolist() == [7, 7] for group in groups)


def test_groups_do_not_depend_on_point_order() -> None:
    points = grid(7, 9)
    order = np.random.default_rng(0).permutation(len(points))
    as_positions = [
        {tuple(position) for position in given[group]}
        for given in (points, points[order])
        for group in bisect_points(given, lambda group: len(group) <= 8)
    ]
    half = len(as_positions) // 2
    assert as_positions[:half] == as_positions[half:]


def test_identical_points_are_separated() -> None:
    assert [len(group) for group in bisect_points(np.zeros((3, 2)), lambda group: False)] == [1, 1, 1]


def test_patches_are_bounded_and_spread() -> None:
    points = grid(40, 40)
    np.testing.assert_array_equal(sample_patches(points, 1600, 4), np.arange(1600))
    taken = sample_patches(points, 400, 4)
    assert 200 <= len(taken) <= 400
    assert len(np.unique(taken)) == len(taken)
    assert np.ptp(points[taken], axis=0).min() > 20  # all over the points


def test_grouped_search_finds_most_neighbors(monkeypatch: object) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(8, 3))[rng.integers(0, 8, 2000)] * 5 + rng.normal(size=(2000, 3))
    exact = expression_neighbors(features, 6)
    monkeypatch.setattr("napari_srast.geometry.neighbors._EXACT_SEARCH_LIMIT", 100)  # type: ignore[attr-defined]
    monkeypatch.setattr("napari_srast.geometry.neighbors._GROUP_SIZE", 500)  # type: ignore[attr-defined]
    near = expression_neighbors(features, 6)
    assert (near[:, 0] == np.arange(2000)).all()  # the row itself is the nearest
    assert np.mean([len(set(a) & set(b)) / 6 for a, b in zip(exact, near, strict=True)]) > 0.85
