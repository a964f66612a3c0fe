"""Regions from GeoJSON as other programs write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import shapely

from napari_srast.core.region import Region
from napari_srast.errors import RegionError
from napari_srast.io.annotations import Annotation, write_annotations

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]}
FAR = {"type": "Polygon", "coordinates": [[[20, 0], [30, 0], [30, 10], [20, 0]]]}
POINT = {"type": "Point", "coordinates": [1, 1]}


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": geometry}


@pytest.mark.contract(
    section="Requests",
    case="region file of QuPath: a bare list of features, or features without geometry",
    response="the union of its polygons; a file without polygons is refused in one sentence",
)
@pytest.mark.parametrize(
    "content",
    [
        SQUARE,
        feature(SQUARE),
        [feature(SQUARE), feature(None), feature(POINT)],
        {"type": "FeatureCollection", "features": [feature(None), feature(SQUARE, classification={"name": "Tumor"})]},
        [{"type": "FeatureCollection", "features": [feature(SQUARE)]}],
    ],
)
def test_polygons_of_any_geojson_are_read(content: Any) -> None:
    region = Region.from_geojson(json.dumps(content), "um")
    assert (region.geometry.area, region.coordinate_system) == (100, "um")


OPEN = {"type": "Polygon", "coordinates": [SQUARE["coordinates"][0][:-1]]}  # type: ignore[index]
OPEN_PARTS = {"type": "MultiPolygon", "coordinates": [OPEN["coordinates"], OPEN["coordinates"]]}


@pytest.mark.contract(
    section="Requests",
    case="region whose rings do not end where they begin",
    response="they are closed",
)
@pytest.mark.parametrize("geometry", [OPEN, OPEN_PARTS])
def test_open_rings_are_closed(geometry: Any) -> None:
    assert Region.from_geojson(json.dumps(feature(geometry))).geometry.area == 100


@pytest.mark.parametrize("text", ["x,y\n0,0\n10,0\n10,10\n", "<svg/>", "Barcode,region\nb0,A\n", ""])
def test_other_texts_are_not_called_broken_json(text: str) -> None:
    with pytest.raises(RegionError, match=r"is not GeoJSON, which begins with a brace; save the region"):
        Region.from_geojson(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no polygon"),
        (json.dumps(feature(None)), "no polygon"),
        (json.dumps(feature(POINT)), "no polygon"),
        ("{", "not GeoJSON"),
        ('{"type": "Polygon", "coordinates": "x"}', "not GeoJSON"),
        ("17", "no polygon"),
    ],
)
def test_files_without_polygons_are_refused(text: str, message: str) -> None:
    with pytest.raises(RegionError, match=message) as caught:
        Region.from_geojson(text)
    assert "\n" not in str(caught.value)


@pytest.mark.contract(
    section="Requests",
    case="region file that names its coordinate system",
    response="the region is read in this coordinate system; several names are refused",
)
def test_saved_region_keeps_its_coordinate_system(tmp_path: Path) -> None:
    region = Region(shapely.box(0, 0, 3, 4), "mouse_downscaled_hires")
    write_annotations([Annotation(region)], tmp_path / "region.geojson")
    loaded = Region.from_geojson((tmp_path / "region.geojson").read_text(), "global")
    assert loaded.coordinate_system == "mouse_downscaled_hires"
    assert loaded.geometry.equals(region.geometry)
    mixed = [feature(SQUARE, coordinate_system="a"), feature(FAR, coordinate_system="b")]
    with pytest.raises(RegionError, match=r"several coordinate systems \(a, b\)"):
        Region.from_geojson(json.dumps(mixed))
