"""Regions in the store of their slide."""

from __future__ import annotations

import pytest
import shapely

from napari_srast.core.region import Region
from napari_srast.errors import RegionError
from napari_srast.io.annotations import Annotation
from napari_srast.io.regions import read_regions, write_regions

TUMOR = Annotation(Region(shapely.box(0, 0, 50, 50)), "core", "Tumor", (200, 0, 10))


def test_regions_reopen_with_names_classes_and_colors(written_slide):
    two = shapely.union_all([shapely.box(0, 0, 20, 20), shapely.box(40, 40, 80, 80)])
    regions = [TUMOR, Annotation(Region(two))]
    assert write_regions(regions, written_slide) == "srast_region_1"
    assert write_regions(regions[:1], written_slide) == "srast_region_2"
    found = read_regions(written_slide.source.path)
    assert list(found) == ["srast_region_1", "srast_region_2"]
    first, second = found["srast_region_1"]
    assert (first.name, first.classification, first.color) == ("core", "Tumor", (200, 0, 10))
    assert (second.name, second.classification, second.color) == ("", "", None)
    assert [round(one.region.geometry.area) for one in (first, second)] == [2500, 2000]


def test_regions_of_another_coordinate_system_are_refused(written_slide):
    with pytest.raises(RegionError, match=r"'elsewhere'.* choose one of"):
        write_regions([Annotation(Region(shapely.box(0, 0, 9, 9), "elsewhere"))], written_slide)
    with pytest.raises(RegionError, match="draw a region first"):
        write_regions([], written_slide)
