"""Annotations of a GeoJSON file, one by one."""

from __future__ import annotations

import json

import pytest
import shapely

from napari_srast.core.region import Region
from napari_srast.errors import OutputError, RegionError
from napari_srast.io.annotations import Annotation, read_annotations, write_annotations

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


def test_names_classes_and_colors_are_kept_on_saving(tmp_path):
    path = tmp_path / "regions.geojson"
    box = Region(shapely.box(0, 0, 4, 4), "mouse")
    annotations = [Annotation(box, "core", "Tumor: Positive", (1, 2, 255)), Annotation(box), Annotation(box, "x")]
    write_annotations(annotations, path)
    assert read_annotations(path) == annotations
    first = json.loads(path.read_text())["features"][0]
    assert first["properties"]["classification"] == {"name": "Tumor: Positive", "color": [1, 2, 255]}
    assert first["properties"]["objectType"] == "annotation"


def test_packed_colors_of_older_versions_of_qupath_are_read(tmp_path):
    path = tmp_path / "regions.geojson"
    kind = {"name": "Tumor", "colorRGB": -3670016}  # 200, 0, 0
    path.write_text(
        json.dumps([{"type": "Feature", "geometry": polygon(SQUARE), "properties": {"classification": kind}}])
    )
    (annotation,) = read_annotations(path)
    assert (annotation.classification, annotation.color) == ("Tumor", (200, 0, 0))


def test_half_characters_in_names_are_replaced_because_stores_cannot_hold_them(tmp_path):
    path = tmp_path / "regions.geojson"
    path.write_text(
        json.dumps({"type": "Feature", "geometry": polygon(SQUARE), "properties": {"name": "a\ud800"}}),
        encoding="ascii",
    )
    (annotation,) = read_annotations(path)
    assert annotation.name == "a?"


def test_unwritable_folder_is_refused(tmp_path):
    with pytest.raises(OutputError, match="choose another folder"):
        write_annotations([Annotation(Region(shapely.box(0, 0, 4, 4)))], tmp_path / "missing" / "regions.geojson")
