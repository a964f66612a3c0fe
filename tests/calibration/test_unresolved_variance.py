"""Test the error of a pixel relative to that of a left-out spot, against an implementation written here."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from napari_srast.calibration.unresolved_variance import UnresolvedVariance

PITCH, DIAMETER, SIDE = 100.0, 55.0, 16.0
AREA = np.pi * DIAMETER**2 / 4


def hexagons(n: int = 5) -> np.ndarray:
    cells = [(i + j / 2, j * np.sqrt(3) / 2) for i in range(-n, n + 1) for j in range(-n, n + 1)]
    points = np.array(cells)
    return PITCH * points[np.hypot(*points.T) < n / 2 + 0.6]


def unresolved(spots: np.ndarray, scale: float = 1.0) -> UnresolvedVariance:
    return UnresolvedVariance(spots * scale, PITCH * scale, spot_area=AREA * scale**2, pixel_area=SIDE**2 * scale**2)


def kriging_variance(spots: np.ndarray, target: np.ndarray) -> float:
    """Predict the mean over some points from the means over disks, for the covariance -|x - y|."""
    line = (np.arange(14) + 0.5) / 14 - 0.5
    square = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2) * DIAMETER
    disk = square[np.hypot(*square.T) < DIAMETER / 2]
    n = len(spots)
    equations = np.ones((n + 1, n + 1))
    equations[-1, -1] = 0
    for i, first in enumerate(spots):
        for j, second in enumerate(spots):
            equations[i, j] = -cdist(first + disk, second + disk).mean()
    right = np.append([-cdist(target, spot + disk).mean() for spot in spots], 1.0)
    return float(-cdist(target, target).mean() - np.linalg.solve(equations, right) @ right)


def test_ratio_is_that_of_the_kriging_variances() -> None:
    spots = hexagons()
    center = int(np.hypot(*spots.T).argmin())
    line = (np.arange(14) + 0.5) / 14 - 0.5
    square = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    disk = DIAMETER * square[np.hypot(*square.T) < 0.5]
    left_out = kriging_variance(np.delete(spots, center, axis=0), spots[center] + disk)
    points = np.array([[0.0, 0.0], [20.0, 10.0], [50.0, 0.0], [50.0, 28.9]])
    expected = [kriging_variance(spots, point + SIDE * square) / left_out for point in points]
    interior = UnresolvedVariance(hexagons(16), PITCH, spot_area=AREA, pixel_area=SIDE**2)
    np.testing.assert_allclose(interior.at(points), expected, rtol=0.06)
    assert expected[0] < 0.2
    assert 0.6 < expected[-1] < 0.9


def test_values_are_those_of_the_documentation() -> None:
    unit = (np.stack(np.meshgrid(np.arange(30), np.arange(30)), axis=-1).reshape(-1, 2) + 0.5) / 30
    visium = UnresolvedVariance(hexagons(16), PITCH, spot_area=AREA, pixel_area=(PITCH / 6) ** 2)
    np.testing.assert_allclose(visium.at(np.array([[0.0, 0.0], [50.0, 28.87]])), [0.10, 0.76], atol=0.006)
    cell = unit @ np.array([[1.0, 0.0], [0.5, np.sqrt(3) / 2]]) * PITCH
    assert visium.at(cell).mean() == pytest.approx(0.56, abs=0.006)
    squares = (np.argwhere(np.ones((21, 21))) - 10) * PITCH
    for factor, expected in ((2, 0.61), (6, 1.09)):
        covered = UnresolvedVariance(squares, PITCH, spot_area=PITCH**2, pixel_area=(PITCH / factor) ** 2)
        assert covered.at(unit * PITCH).mean() == pytest.approx(expected, abs=0.006)


def test_unit_and_position_do_not_matter() -> None:
    spots, points = hexagons(), np.random.default_rng(0).uniform(-150, 150, (40, 2))
    expected = unresolved(spots).at(points)
    np.testing.assert_allclose(unresolved(spots, 0.01).at(points * 0.01), expected, rtol=1e-6)
    np.testing.assert_allclose(unresolved(spots + 1e4).at(points + 1e4), expected, rtol=1e-6)


def test_rounding_chooses_no_neighbors() -> None:
    spots, points = hexagons(), np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 57.7]])
    moved = spots + 1e-7 * np.random.default_rng(0).normal(size=spots.shape)
    np.testing.assert_allclose(unresolved(moved).at(points), unresolved(spots).at(points), rtol=1e-4)


def test_error_grows_with_the_distance_to_the_spots() -> None:
    spots = hexagons()
    away = spots[:, 0].max() + np.array([0.0, 50.0, 100.0, 400.0, 2000.0])
    assert (np.diff(unresolved(spots).at(np.column_stack([away, np.zeros(5)]))) > 0).all()


@pytest.mark.parametrize("n_spots", [1, 2, 3])
def test_few_spots_have_finite_errors(n_spots: int) -> None:
    values = unresolved(hexagons()[:n_spots]).at(np.array([[0.0, 0.0], [30.0, 500.0]]))
    assert np.isfinite(values).all()
    assert (values > 0).all()
    if n_spots == 1:
        np.testing.assert_array_equal(values, 1.0)


def test_spots_in_the_same_place_are_accepted() -> None:
    spots = np.concatenate([hexagons(), hexagons()[:3]])
    values = unresolved(spots).at(spots + 20.0)
    assert np.isfinite(values).all()
    assert (values > 0).all()
