"""A simulated array measures discs with gaps, thins counts, and sums bins over pixels without aliasing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast.errors import InputError, SettingsError
from napari_srast.evaluation.simulated_array import (
    SimulatedArray,
    pixels_are_whole_bins,
    spot_membership,
    thin,
    truth_weights,
)
from napari_srast.geometry.raster import make_raster


def bins(n: int = 60, side: float = 2.0) -> np.ndarray:
    row, col = (a.ravel() for a in np.mgrid[:n, :n])
    return (np.column_stack([col, row]) + 0.5) * side


@pytest.mark.parametrize("lattice", ["square", "hex"])
def test_spots_have_six_or_four_neighbors_at_the_pitch(lattice) -> None:
    centers = SimulatedArray(pitch=12, lattice=lattice).centers(np.array([119.0, 119.0]))
    distance = np.hypot(*(centers[:, None] - centers[None]).T)
    neighbors = (np.abs(distance - 12) < 1e-9).sum(axis=1)
    assert neighbors.max() == (4 if lattice == "square" else 6)
    assert distance[distance > 0].min() == pytest.approx(12)


def test_discs_measure_their_share_of_the_area() -> None:
    array = SimulatedArray(pitch=12, lattice="square", spot_diameter=6)
    points = bins(480, 0.25)
    centers = array.centers(points.max(axis=0))
    membership = spot_membership(array, centers, points)
    np.testing.assert_allclose(membership.sum(axis=1) * 0.25**2, np.pi * 9, rtol=0.02)
    assert membership.sum(axis=0).max() == 1


@pytest.mark.parametrize("lattice", ["square", "hex"])
def test_whole_cells_leave_no_gap_inside(lattice) -> None:
    array = SimulatedArray(pitch=12, lattice=lattice)
    points = bins()
    membership = spot_membership(array, array.centers(points.max(axis=0)), points)
    inner = ((points > 12) & (points < 100)).all(axis=1)
    assert np.all(np.asarray(membership.sum(axis=0)).ravel()[inner] == 1)


def test_halves_add_up_and_are_independent() -> None:
    rng = np.random.default_rng(1)
    counts = sparse.csr_matrix(rng.poisson(3.0, (4000, 2)).astype(np.float32))
    half, other = thin(counts, 0)
    assert (half + other != counts).nnz == 0
    assert half.sum() / counts.sum() == pytest.approx(0.5, abs=0.01)
    a, b = half[:, [0]].toarray().ravel(), other[:, [0]].toarray().ravel()
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05
    again, _ = thin(counts, 0)
    assert (again != half).nnz == 0
    assert (thin(counts, 1)[0] != half).nnz > 0
    with pytest.raises(InputError, match="whole numbers"):
        thin(counts * 0.3, 0)


def test_pixels_of_whole_bins_hold_equally_many_bins_wherever_the_raster_is() -> None:
    points = bins()
    for shift in (0.0, 0.37, 1.0, 2.0):  # 1 puts bin centers on the borders of pixels
        centers = SimulatedArray(pitch=12, lattice="hex").centers(np.array([100.0, 100.0])) + np.array([shift, 0])
        raster = make_raster(centers, factor=3)
        weights = truth_weights(raster, points, 2.0)
        held = np.asarray(weights.sum(axis=1)).ravel()
        inner = ((raster.centers > 5) & (raster.centers < 115)).all(axis=1)
        np.testing.assert_array_equal(held[inner], 4)
        assert set(np.unique(weights.data)) == {1.0}


def test_other_pixels_share_bins_by_area() -> None:
    points = bins()
    raster = make_raster(SimulatedArray(pitch=12, lattice="square").centers(np.array([100.0, 100.0])), factor=4.7)
    assert not pixels_are_whole_bins(raster.pixel_size, 2.0)
    weights = truth_weights(raster, points, 2.0)
    held = np.asarray(weights.sum(axis=1)).ravel()
    inner = ((raster.centers > 5) & (raster.centers < 100)).all(axis=1)
    np.testing.assert_allclose(held[inner], (raster.pixel_size / 2.0) ** 2, rtol=1e-5)
    given = np.asarray(weights.sum(axis=0)).ravel()
    inside = ((points > 8) & (points < 95)).all(axis=1)
    np.testing.assert_allclose(given[inside], 1, rtol=1e-5)


def test_points_go_to_the_pixel_that_contains_them() -> None:
    raster = make_raster(np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]]), factor=2)
    weights = truth_weights(raster, np.vstack([raster.centers[[3, 3, 5]], [[99.0, 99]]]), 0.0)
    assert weights.sum() == 3
    assert weights[3].sum() == 2


def test_invalid_arrays_are_reported() -> None:
    with pytest.raises(SettingsError, match="spot diameter is 13"):
        SimulatedArray(pitch=12, spot_diameter=13)
    with pytest.raises(SettingsError, match="pitch"):
        SimulatedArray(pitch=0)
    with pytest.raises(SettingsError, match="lattice"):
        SimulatedArray(pitch=1, lattice="round")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="smaller pitch"):
        SimulatedArray(pitch=500).centers(np.array([100.0, 100.0]))
    raster = make_raster(SimulatedArray(pitch=12).centers(np.array([100.0, 100.0])), factor=8)
    with pytest.raises(SettingsError, match="smaller factor"):
        truth_weights(raster, bins(), 2.0)
