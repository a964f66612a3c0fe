"""Which pixel of an image shows which spot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.state import spot_grid as module
from napari_srast.gui.state.spot_grid import SpotGrid, spot_grid

pytestmark = pytest.mark.gui


def grid_of(slide: Slide) -> SpotGrid:
    grid = spot_grid(slide)
    assert grid is not None
    return grid


def centers_of_pixels(grid: SpotGrid) -> np.ndarray:
    return apply_affine(grid.to_intrinsic, np.column_stack([grid.col, grid.row]) + 0.5)


def test_bins_have_one_pixel_each(make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(6, 9)
    turn = np.array([[0.96, -0.28], [0.28, 0.96]])
    kept = np.flatnonzero(np.arange(54) % 7 > 0)
    for centers in (slide.centers, slide.centers @ turn.T + 30.0):
        turned = dataclasses.replace(
            slide, counts=slide.counts[kept], spot_ids=slide.spot_ids[kept], centers=centers[kept]
        )
        grid = grid_of(turned)
        np.testing.assert_allclose(centers_of_pixels(grid), turned.centers, atol=1e-6)
        values = np.arange(len(kept)) + 1.0
        (image,) = grid.levels(values)
        assert sorted(image[np.isfinite(image)]) == values.tolist()
        assert image[grid.row[3], grid.col[3]] == 4.0
        (colors,) = grid.levels(np.tile(values[:, None], 4))
        assert colors[~np.isfinite(image)].sum() == 0  # transparent


@pytest.mark.parametrize(
    "fields",
    [{"lattice": "hex"}, {"spot_shape": "circle"}, {"spot_diameter": 50.0}, {"spot_diameter": None}],
    ids=["hexagonal", "round", "with gaps", "of unknown size"],
)
def test_few_spots_that_are_no_bins_are_points(make_slide: Callable[..., Slide], fields: dict[str, object]) -> None:
    assert spot_grid(make_slide(**fields)) is None


def test_bins_off_the_lattice_are_points(make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(6, 9)
    moved = slide.centers.copy()
    moved[20] += 40.0
    assert spot_grid(dataclasses.replace(slide, centers=moved)) is None
    doubled = slide.centers.copy()
    doubled[20] = doubled[21]
    assert spot_grid(dataclasses.replace(slide, centers=doubled)) is None


@pytest.fixture
def beads(make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch) -> Slide:
    """Beads at random positions, more than are drawn as points."""
    monkeypatch.setattr(module, "MAX_POINTS", 50)
    monkeypatch.setattr(module, "_COARSEST", 16)
    centers = np.random.default_rng(3).uniform(0, 1000, (120, 2))
    return dataclasses.replace(make_slide(12, 10), centers=centers, spot_shape="circle", spot_diameter=40.0)


def test_no_bead_is_left_out_at_any_level(beads: Slide) -> None:
    grid = grid_of(beads)
    assert grid.n_levels > 2
    values = np.arange(120) + 1.0
    levels = grid.levels(values)
    assert [level.shape for level in levels] == [(grid.shape[0] >> k, grid.shape[1] >> k) for k in range(grid.n_levels)]
    for level, image in enumerate(levels[1:], start=1):
        row, col = grid.row >> level, grid.col >> level
        for spot in range(120):
            together = (row == row[spot]) & (col == col[spot])
            assert image[row[spot], col[spot]] == pytest.approx(values[together].mean())
        assert np.isfinite(image).sum() == len(set(zip(row, col, strict=True)))


def test_finest_level_shows_the_nearest_bead_within_its_radius(beads: Slide) -> None:
    grid = grid_of(beads)
    image = grid.levels(np.arange(120.0))[0]
    middles = np.indices(grid.shape)[::-1].reshape(2, -1).T + 0.5
    distance = np.linalg.norm(apply_affine(grid.to_intrinsic, middles)[:, None] - beads.centers, axis=2)
    nearest, away = distance.argmin(axis=1), distance.min(axis=1)
    clear = np.abs(away - 20.0) > 1e-3
    expected = np.where(away <= 20.0, nearest, np.nan)
    np.testing.assert_array_equal(image.ravel()[clear], expected[clear])


def test_beads_that_are_small_for_the_image_are_averaged(beads: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_SIDE", 8)
    grid = grid_of(beads)
    assert grid.owner is None
    image, values = grid.levels(np.arange(120.0))[0], np.arange(120.0)
    together = (grid.row == grid.row[0]) & (grid.col == grid.col[0])
    assert together.sum() > 1
    assert image[grid.row[0], grid.col[0]] == pytest.approx(values[together].mean())


@pytest.mark.parametrize("kind", ["bins", "beads", "beads in one level"])
def test_selected_spots_stay_where_they_are(
    make_slide: Callable[..., Slide], beads: Slide, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "beads in one level":
        monkeypatch.setattr(module, "_COARSEST", 1024)
    slide = make_slide(12, 10) if kind == "bins" else beads
    grid = grid_of(slide)
    assert (grid.n_levels > 1) == (kind == "beads")
    is_selected = (slide.centers > 300).all(axis=1) & (slide.centers < 700).all(axis=1)
    spots = np.flatnonzero(is_selected)
    part = grid.select(spots)
    assert np.prod(part.shape) < np.prod(grid.shape)
    np.testing.assert_allclose(centers_of_pixels(part), centers_of_pixels(grid)[spots])
    values = np.arange(120.0) + 1.0
    finest = grid.levels(np.where(is_selected, values, 0.0))[0]
    assert np.nansum(part.levels(values[spots])[0]) == pytest.approx(np.nansum(finest))  # no spot is cut off
    for level, image in enumerate(part.levels(values[spots])):
        assert image.shape == (part.shape[0] >> level, part.shape[1] >> level)
        row, col = part.row >> level, part.col >> level
        for spot in range(len(spots) if level or kind == "bins" else 0):
            together = (row == row[spot]) & (col == col[spot])
            assert image[row[spot], col[spot]] == pytest.approx(values[spots][together].mean())


def test_grid_is_made_once_for_a_slide(make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(6, 9)
    assert grid_of(slide) is grid_of(dataclasses.replace(slide, transforms={"a": np.eye(3)}, coordinate_system="a"))
    key = next(key for key in module._grids if key[0] == id(slide.centers))
    del slide
    assert key not in module._grids
