"""The raster of a run: all pixels of a slide, or those of a region with a halo."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.inference.rasters import make_rasters
from napari_srast.inference.tiles import HALO

PITCH = 100.0


def test_whole_slide_has_no_halo(make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(5, 6)
    raster, wanted = make_rasters(slide, slide.centers, np.ones(30, dtype=bool), UpsampleSettings(factor=2))
    assert raster.n_pixels == 4 * 30
    assert wanted.all()


def test_region_has_a_halo_that_is_not_wanted(make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(20, 20)
    selected = (slide.centers < 2.5 * PITCH).all(axis=1)
    raster, wanted = make_rasters(slide, slide.centers, selected, UpsampleSettings(factor=2))
    assert set(raster.parent[wanted]) == set(np.flatnonzero(selected))
    inside, around = slide.centers[selected], slide.centers[raster.spots]
    distance = np.linalg.norm(around[:, None] - inside, axis=2).min(axis=1)
    assert distance.max() == HALO * PITCH
    assert (~wanted).sum() == 4 * (len(raster.spots) - selected.sum())


def test_pixels_of_a_region_are_those_of_the_slide(make_slide: Callable[..., Slide]) -> None:
    slide, settings = make_slide(20, 20, lattice="hex"), UpsampleSettings(factor=3)
    whole, _ = make_rasters(slide, slide.centers, np.ones(400, dtype=bool), settings)
    selected = slide.centers[:, 0] < 2.5 * PITCH
    part, wanted = make_rasters(slide, slide.centers, selected, settings)
    expected = whole.centers[selected[whole.parent]]
    assert set(map(tuple, part.centers[wanted].round(6))) == set(map(tuple, expected.round(6)))


def test_size_of_a_pixel_is_in_the_chosen_coordinate_system(make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(5, 6, transforms={"global": np.diag([0.5, 0.5, 1.0])})
    everything = np.ones(30, dtype=bool)
    raster, _ = make_rasters(slide, slide.centers, everything, UpsampleSettings(pixel_size=10.0))
    assert raster.pixel_size == 20.0
