"""Regions in the store of their slide."""

from __future__ import annotations

import pytest
import shapely

from napari_srast.core.region import Region
from napari_srast.errors import RegionError
from napari_srast.io.regions import read_regions, write_region


def test_region_reopens_under_the_next_number(written_slide):
    for number, side in enumerate((50, 80), start=1):
        region = Region(shapely.box(0, 0, side, side), written_slide.coordinate_system)
        assert write_region(region, written_slide) == f"srast_region_{number}"
    found = read_regions(written_slide.source.path)
    assert [round(region.geometry.area) for region in found.values()] == [2500, 6400]


def test_region_of_another_coordinate_system_is_refused(written_slide):
    with pytest.raises(RegionError, match=r"'elsewhere'.* choose one of"):
        write_region(Region(shapely.box(0, 0, 9, 9), "elsewhere"), written_slide)
