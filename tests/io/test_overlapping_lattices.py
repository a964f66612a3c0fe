"""Overlapping lattices are recognized in any order of their spots, and nothing else is taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.io.overlapping_lattices import groups_by_order, has_depth, mixed_pitch, repeated_places

RNG = np.random.default_rng(0)


def _lattice(*, turn: float = 0.0, shift: tuple[float, float] = (0, 0), hexagonal: bool = True) -> np.ndarray:
    """Return 12 x 14 spots with a pitch of 100."""
    row, col = (a.ravel() for a in np.mgrid[:12, :14])
    points = np.column_stack([col + 0.5 * hexagonal * (row % 2), row * (np.sqrt(0.75) if hexagonal else 1)]) * 100.0
    return points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + shift


@pytest.mark.parametrize("hexagonal", [True, False])
@pytest.mark.parametrize("turn", [0.0, 0.003, 0.05, 0.4])
def test_two_lattices_are_recognized_in_any_order(hexagonal: bool, turn: float) -> None:
    both = np.concatenate(
        [_lattice(hexagonal=hexagonal), _lattice(turn=turn, shift=(23.0, 31.0), hexagonal=hexagonal)[::2]]
    )
    pitch = mixed_pitch(RNG.permutation(both))
    assert pitch == pytest.approx(100, rel=0.12)


def test_three_lattices_are_recognized() -> None:
    parts = [_lattice(turn=k / 10, shift=(20.0 * k, 30.0 * k)) for k in range(3)]
    assert mixed_pitch(RNG.permutation(np.concatenate(parts))) == pytest.approx(100, rel=0.12)


@pytest.mark.parametrize("hexagonal", [True, False])
@pytest.mark.parametrize("number", [6, 8, 12])
def test_many_lattices_are_recognized(number: int, hexagonal: bool) -> None:
    row, col = (a.ravel() for a in np.mgrid[:24, :26])
    points = np.column_stack([col + 0.5 * hexagonal * (row % 2), row * (np.sqrt(0.75) if hexagonal else 1)]) * 100.0
    turns, shifts = RNG.uniform(0, 1.5, number), RNG.uniform(0, 300, (number, 2))
    parts = [
        points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + shift
        for turn, shift in zip(turns, shifts, strict=True)
    ]
    assert mixed_pitch(RNG.permutation(np.concatenate(parts))) == pytest.approx(100, rel=0.12)


def test_places_rounded_to_pixels_are_not_mixed() -> None:
    row, col = (a.ravel() for a in np.mgrid[:60, :60])
    for pitch in (1.4, 2.3, 3.7):
        assert mixed_pitch(np.rint(np.column_stack([col, row]) * pitch)) is None
        assert mixed_pitch(np.rint(np.column_stack([col + 0.5 * (row % 2), row * np.sqrt(0.75)]) * pitch)) is None


@pytest.mark.parametrize("hexagonal", [True, False])
def test_one_lattice_is_not_mixed(hexagonal: bool) -> None:
    points = _lattice(hexagonal=hexagonal)
    for some in (points, points[::2], points[RNG.random(len(points)) < 0.3], points * [1, 0.8]):
        assert mixed_pitch(some) is None
    assert mixed_pitch(np.concatenate([points, points + np.array([3000, 50])])) is None
    assert mixed_pitch(points + RNG.normal(0, 5, points.shape)) is None


@pytest.mark.parametrize("number", [10, 40, 200, 3000])
def test_scattered_spots_are_not_mixed(number: int) -> None:
    for _ in range(10):
        points = RNG.uniform(0, 1000, (number, 2))
        assert mixed_pitch(points) is None
        assert mixed_pitch(np.rint(points / 20)) is None


def test_lattices_one_after_another_are_counted() -> None:
    both = np.concatenate([_lattice(), _lattice(turn=0.1, shift=(20.0, 40.0))])
    codes = groups_by_order(both)
    assert codes is not None
    np.testing.assert_array_equal(np.bincount(codes), [168, 168])
    assert groups_by_order(_lattice()) is None


def test_repeated_places_are_counted_unless_they_are_few() -> None:
    points = _lattice()
    array = np.rint(points / 50)
    assert repeated_places(points, array) == 0
    assert repeated_places(points, np.zeros_like(points)) == 0
    assert repeated_places(np.concatenate([points, points[:3]]), None) == 0
    assert repeated_places(np.concatenate([points, points]), None) == 168
    assert repeated_places(np.concatenate([points, points + 7]), np.concatenate([array, array])) == 168


def test_depth_counts_if_neighbors_differ_in_it() -> None:
    points = _lattice()
    assert has_depth(points, RNG.uniform(0, 1000, len(points)))
    for depth in (
        np.zeros(len(points)),
        RNG.normal(0, 1, len(points)),
        points[:, 0] * 0.3,
        np.full(len(points), np.nan),
    ):
        assert not has_depth(points, depth)
