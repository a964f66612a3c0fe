"""Tests of the raster: parents of pixels, invariance, and regions."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.lattices import lattice_points
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_srast.errors import SettingsError
from napari_srast.geometry.raster import Raster, make_raster


def parent_positions(raster: Raster, centers: np.ndarray) -> dict[tuple[int, int], tuple[int, int]]:
    """Map the position of each pixel to that of its spot, both rounded."""
    pixel, parent = np.rint(raster.centers * 10).astype(int), np.rint(centers[raster.parent] * 10).astype(int)
    return {tuple(p): tuple(s) for p, s in zip(pixel.tolist(), parent.tolist(), strict=True)}


@settings(max_examples=25, deadline=None)
@given(factor=st.integers(2, 5), angle=st.floats(-1.5, 1.5), rows=st.integers(3, 8), cols=st.integers(3, 8))
def test_square_lattice_has_equal_blocks_at_any_angle(factor: int, angle: float, rows: int, cols: int) -> None:
    centers = lattice_points("square", rows, cols, angle)
    raster = make_raster(centers, factor=factor)
    assert (raster.n_pixels_per_spot == factor**2).all()
    offset = (raster.centers - centers[raster.parent]).reshape(-1, 2)
    np.testing.assert_allclose(raster.sum_to_spots(offset), 0, atol=1.0)  # each block is centered on its spot


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["square", "hex"]),
    factor=st.floats(1.5, 4),
    angle=st.floats(-1, 1),
    seed=st.integers(0, 99),
    footprint=st.sampled_from(["cell", "spot"]),
)
def test_every_spot_has_nearby_pixels(kind: str, factor: float, angle: float, seed: int, footprint) -> None:
    centers = lattice_points(kind, 7, 7, angle, keep=0.8, seed=seed)
    raster = make_raster(centers, factor=factor, footprint=footprint, spot_diameter=60.0)
    assert (raster.n_pixels_per_spot > 0).all()
    assert len(np.unique(raster.row * raster.shape[1] + raster.col)) == raster.n_pixels
    distance = np.hypot(*(raster.centers - centers[raster.parent]).T)
    assert distance.max() <= 100
    nearest = np.hypot(*(raster.centers[:, None] - centers).transpose(2, 0, 1)).min(axis=1)
    share_of_others = np.mean(distance > nearest + 1e-3)  # pixels given to a spot that would have none
    assert share_of_others < 0.2


@pytest.mark.parametrize("kind", ["square", "hex"])
def test_spot_order_does_not_change_parents(kind: str) -> None:
    centers = lattice_points(kind, 8, 6, keep=0.8)
    order = np.random.default_rng(1).permutation(len(centers))
    assert parent_positions(make_raster(centers, factor=3), centers) == parent_positions(
        make_raster(centers[order], factor=3), centers[order]
    )


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(["square", "hex"]),
    x=st.integers(-(10**6), 10**6),
    y=st.integers(-(10**6), 10**6),
    factor=st.sampled_from([2, 2.5, 4]),
)
def test_integer_shift_moves_the_raster(kind: str, x: int, y: int, factor: float) -> None:
    centers = lattice_points(kind, 6, 7, keep=0.8)
    first, second = make_raster(centers, factor=factor), make_raster(centers + np.array([x, y]), factor=factor)
    np.testing.assert_array_equal(first.parent, second.parent)
    np.testing.assert_allclose(first.centers + np.array([x, y]), second.centers, atol=1e-6)


def test_quarter_turn_rotates_the_raster() -> None:
    centers = lattice_points("square", 6, 9, angle=0.2, keep=0.8)
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    first, second = make_raster(centers, factor=2), make_raster(centers @ turn, factor=2)
    order_before = np.lexsort(np.rint(first.centers @ turn * 10).T)
    order_after = np.lexsort(np.rint(second.centers * 10).T)
    np.testing.assert_allclose((first.centers @ turn)[order_before], second.centers[order_after], atol=1e-6)
    np.testing.assert_array_equal(first.parent[order_before], second.parent[order_after])


@pytest.mark.parametrize("kind", ["square", "hex"])
@pytest.mark.parametrize("footprint", ["cell", "spot"])
def test_region_has_the_pixels_of_the_whole_slide(kind: str, footprint) -> None:
    centers = lattice_points(kind, 9, 9, keep=0.9)
    selected = np.hypot(*(centers - centers.mean(axis=0)).T) < 250
    whole = make_raster(centers, factor=3, footprint=footprint, spot_diameter=60.0)
    part = make_raster(centers, factor=3, footprint=footprint, spot_diameter=60.0, selected=selected)
    inside = selected[whole.parent]
    np.testing.assert_allclose(part.centers, whole.centers[inside], atol=1e-6)
    np.testing.assert_array_equal(part.parent, whole.parent[inside])
    assert set(part.spots) == set(np.flatnonzero(selected))


def test_image_and_locate_agree_with_pixel_centers() -> None:
    raster = make_raster(lattice_points("hex", 6, 6, angle=0.3), factor=3)
    values = np.arange(raster.n_pixels)
    np.testing.assert_array_equal(raster.locate(raster.centers), values)
    image = raster.to_image(values)
    assert np.isnan(image).sum() == image.size - raster.n_pixels
    np.testing.assert_array_equal(image[raster.row, raster.col], values)
    assert (raster.locate(raster.centers[-1:] + 1e5) == -1).all()


def test_impossible_settings_are_refused() -> None:
    centers = lattice_points("square", 5, 5)
    with pytest.raises(SettingsError, match="diameter"):
        make_raster(centers, footprint="spot")
    with pytest.raises(SettingsError, match="too large"):
        make_raster(centers, pixel_size=400.0)
    with pytest.raises(SettingsError, match="pixels"):
        make_raster(centers, pixel_size=0.01)
