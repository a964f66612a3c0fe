"""Annotations of a GeoJSON file, one by one."""

from __future__ import annotations

import json

import pytest

from napari_srast.errors import RegionError
from napari_srast.io.region_features import read_annotations

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
WITH_SPIKE = [*SQUARE, [-5, 0], [0, 0]]
BOWTIE = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]


def polygon(corners):
    return {"type": "Polygon", "coordinates": [corners]}


def collection(*geometries):
    return {"type": "GeometryCollection", "geometries": list(geometries)}


@pytest.mark.parametrize(
    ("geometry", "area"),
    [
        (polygon(WITH_SPIKE), 100),
        (polygon(BOWTIE), 50),
        (collection(collection(polygon(SQUARE)), {"type": "Point", "coordinates": [1, 1]}), 100),
    ],
    ids=["spike", "crossing", "nested"],
)
def test_invalid_and_nested_polygons_are_repaired(tmp_path, geometry, area):
    path = tmp_path / "regions.geojson"
    path.write_text(json.dumps(geometry))
    (annotation,) = read_annotations(path)
    assert annotation.region.geometry.area == area


def test_names_and_classes_are_kept_and_lines_left_out(tmp_path):
    path = tmp_path / "regions.geojson"
    line = {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}
    properties = {"name": "a", "classification": {"name": "Tumor"}, "coordinate_system": "um"}
    shapes = [
        {"type": "Feature", "properties": properties, "geometry": polygon(SQUARE)},
        {"type": "Feature", "properties": None, "geometry": line},
    ]
    path.write_text(json.dumps(shapes))
    (annotation,) = read_annotations(path)
    assert (annotation.name, annotation.classification, annotation.region.coordinate_system) == ("a", "Tumor", "um")


@pytest.mark.parametrize(("text", "message"), [("{", "not GeoJSON"), ("[]", "no polygon"), ("\xff", "not UTF-8")])
def test_unreadable_files_are_named(tmp_path, text, message):
    path = tmp_path / "regions.geojson"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RegionError, match=rf"regions\.geojson.*{message}"):
        read_annotations(path)
