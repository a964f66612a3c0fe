"""Tests of regions of interest."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.errors import RegionError


def test_border_belongs_to_the_region() -> None:
    region = Region.from_polygons([np.array([[0, 0], [2, 0], [2, 2], [0, 2]])])
    assert region.contains(np.array([[1.0, 1.0], [2.0, 1.0], [2.1, 1.0]])).tolist() == [True, True, False]


def test_overlapping_polygons_are_united() -> None:
    square = np.array([[0.0, 0], [2, 0], [2, 2], [0, 2]])
    assert Region.from_polygons([square, square + 1]).geometry.area == 7
    assert Region.from_wkt(Region.from_polygons([square]).wkt).geometry.area == 4


def test_polygon_that_crosses_itself_is_repaired() -> None:
    region = Region.from_wkt("POLYGON ((0 0, 2 2, 2 0, 0 2, 0 0))")
    assert region.geometry.is_valid
    assert region.geometry.area == 2


@pytest.mark.parametrize("text", ["POINT (0 0)", "POLYGON EMPTY", "POLYGON ((0 0, 1 1, 0 0))", "circle"])
def test_invalid_regions_are_refused(text: str) -> None:
    with pytest.raises(RegionError):
        Region.from_wkt(text)


@pytest.mark.contract(
    section="Requests",
    case="region in pixels, such as of QuPath, read in micrometers",
    response="encloses no spot; names the coordinate system in which it encloses some",
)
def test_coordinate_system_of_a_region_off_the_tissue_is_suggested(make_slide) -> None:
    slide: Slide = make_slide(4, 4)
    slide.transforms["pixels"] = np.array([[0.5, 0, 1e4], [0, 0.5, 1e4], [0, 0, 1]])
    everything = Region.from_wkt("POLYGON ((1e4 1e4, 2e4 1e4, 2e4 2e4, 1e4 2e4, 1e4 1e4))")
    with pytest.raises(RegionError, match="or name its coordinate system, such as 'pixels'"):
        everything.spots(slide)


def test_region_off_the_tissue_is_refused(make_slide) -> None:
    slide: Slide = make_slide(4, 4)
    with pytest.raises(RegionError, match="encloses no spot; spots are at x"):
        Region.from_wkt("POLYGON ((-9 -9, -8 -9, -8 -8, -9 -9))").spots(slide)
    with pytest.raises(RegionError, match="coordinate system 'elsewhere'"):
        Region.from_wkt("POLYGON ((0 0, 1 0, 1 1, 0 0))", "elsewhere").spots(slide)
