"""The raster alone says who owns what: exact splits on squares, one parent each, the same pixels in a region."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_srast.errors import SettingsError
from napari_srast.geometry.raster import Raster, make_raster


def lattice_points(kind: str, rows: int, cols: int, angle: float = 0.0, keep: float = 1.0, seed: int = 0) -> np.ndarray:
    row, col = (a.ravel().astype(float) for a in np.mgrid[:rows, :cols])
    points = np.column_stack([col + 0.5 * (row % 2), row * np.sqrt(0.75)] if kind == "hex" else [col, row])
    points = points[np.random.default_rng(seed).random(len(points)) < keep]
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return 100 * points @ turn


def ownership(raster: Raster, centers: np.ndarray) -> dict[tuple[int, int], tuple[int, int]]:
    """Pixel position -> position of its spot, both rounded."""
    pixel, parent = np.rint(raster.centers * 10).astype(int), np.rint(centers[raster.parent] * 10).astype(int)
    return {tuple(p): tuple(s) for p, s in zip(pixel.tolist(), parent.tolist(), strict=True)}


@settings(max_examples=25, deadline=None)
@given(factor=st.integers(2, 5), angle=st.floats(-1.5, 1.5), rows=st.integers(3, 8), cols=st.integers(3, 8))
def test_squares_split_exactly_also_tilted(factor: int, angle: float, rows: int, cols: int) -> None:
    centers = lattice_points("square", rows, cols, angle)
    raster = make_raster(centers, factor=factor)
    assert (raster.counts_per_spot == factor**2).all()
    offset = (raster.centers - centers[raster.parent]).reshape(-1, 2)
    np.testing.assert_allclose(raster.sum_to_spots(offset), 0, atol=1.0)  # each block is centerd on its spot


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["square", "hex"]),
    factor=st.floats(1.5, 4),
    angle=st.floats(-1, 1),
    seed=st.integers(0, 99),
    footprint=st.sampled_from(["cell", "spot"]),
)
def test_every_spot_has_near_pixels_of_its_own(kind: str, factor: float, angle: float, seed: int, footprint) -> None:
    centers = lattice_points(kind, 7, 7, angle, keep=0.8, seed=seed)
    raster = make_raster(centers, factor=factor, footprint=footprint, spot_diameter=60.0)
    assert (raster.counts_per_spot > 0).all()
    assert len(np.unique(raster.row * raster.shape[1] + raster.col)) == raster.n_pixels
    distance = np.hypot(*(raster.centers - centers[raster.parent]).T)
    assert distance.max() <= 100
    nearest = np.hypot(*(raster.centers[:, None] - centers).transpose(2, 0, 1)).min(axis=1)
    shared = np.mean(distance > nearest + 1e-3)  # only pixels given to a spot that would have none
    assert shared < 0.2


@pytest.mark.parametrize("kind", ["square", "hex"])
def test_order_of_spots_decides_nothing(kind: str) -> None:
    centers = lattice_points(kind, 8, 6, keep=0.8)
    order = np.random.default_rng(1).permutation(len(centers))
    assert ownership(make_raster(centers, factor=3), centers) == ownership(
        make_raster(centers[order], factor=3), centers[order]
    )


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(["square", "hex"]),
    x=st.integers(-(10**6), 10**6),
    y=st.integers(-(10**6), 10**6),
    factor=st.sampled_from([2, 2.5, 4]),
)
def test_whole_number_shifts_move_the_raster_along(kind: str, x: int, y: int, factor: float) -> None:
    centers = lattice_points(kind, 6, 7, keep=0.8)
    first, second = make_raster(centers, factor=factor), make_raster(centers + np.array([x, y]), factor=factor)
    np.testing.assert_array_equal(first.parent, second.parent)
    np.testing.assert_allclose(first.centers + np.array([x, y]), second.centers, atol=1e-6)


def test_a_quarter_turn_of_squares_turns_the_raster() -> None:
    centers = lattice_points("square", 6, 9, angle=0.2, keep=0.8)
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    first, second = make_raster(centers, factor=2), make_raster(centers @ turn, factor=2)
    whence = np.lexsort(np.rint(first.centers @ turn * 10).T)
    whither = np.lexsort(np.rint(second.centers * 10).T)
    np.testing.assert_allclose((first.centers @ turn)[whence], second.centers[whither], atol=1e-6)
    np.testing.assert_array_equal(first.parent[whence], second.parent[whither])


@pytest.mark.parametrize("kind", ["square", "hex"])
@pytest.mark.parametrize("footprint", ["cell", "spot"])
def test_a_region_sees_the_pixels_of_the_whole_slide(kind: str, footprint) -> None:
    centers = lattice_points(kind, 9, 9, keep=0.9)
    selected = np.hypot(*(centers - centers.mean(axis=0)).T) < 250
    whole = make_raster(centers, factor=3, footprint=footprint, spot_diameter=60.0)
    part = make_raster(centers, factor=3, footprint=footprint, spot_diameter=60.0, selected=selected)
    inside = selected[whole.parent]
    np.testing.assert_allclose(part.centers, whole.centers[inside], atol=1e-6)
    np.testing.assert_array_equal(part.parent, whole.parent[inside])
    assert set(part.spots) == set(np.flatnonzero(selected))


def test_paint_and_locate_agree_with_the_pixel_centers() -> None:
    raster = make_raster(lattice_points("hex", 6, 6, angle=0.3), factor=3)
    values = np.arange(raster.n_pixels)
    np.testing.assert_array_equal(raster.locate(raster.centers), values)
    image = raster.paint(values)
    assert np.isnan(image).sum() == image.size - raster.n_pixels
    np.testing.assert_array_equal(image[raster.row, raster.col], values)
    assert (raster.locate(raster.centers[-1:] + 1e5) == -1).all()


def test_settings_that_cannot_work_are_refused() -> None:
    centers = lattice_points("square", 5, 5)
    with pytest.raises(SettingsError, match="diameter"):
        make_raster(centers, footprint="spot")
    with pytest.raises(SettingsError, match="too large"):
        make_raster(centers, pixel_size=400.0)
    with pytest.raises(SettingsError, match="pixels"):
        make_raster(centers, pixel_size=0.01)
