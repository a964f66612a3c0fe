"""Read and write annotations as GeoJSON, one by one, with their names and classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely

from napari_srast._utils.text import read_text, reading_failure
from napari_srast.core.geojson import GeoJsonFeature, parse_features
from napari_srast.core.region import Region
from napari_srast.errors import OutputError, RegionError
from napari_srast.io.atomic import replace_file

__all__ = ["Annotation", "Color", "read_annotations", "write_annotations"]

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True)
class Annotation:
    """A polygon, or a union of polygons, with a name and a class.

    Parameters
    ----------
    region
        The polygons. Their coordinate system is the one that the file names; empty if it names none.
    name
        Name of the annotation; empty if it has none.
    classification
        Name of its class, as in QuPath; empty if it has none.
    color
        Color of the class, or of an annotation without a class; None if it has none.
    """

    region: Region
    name: str = ""
    classification: str = ""
    color: Color | None = None


def read_annotations(path: Path) -> list[Annotation]:
    """Read the polygons of a GeoJSON file: a geometry, a feature, a collection, or a list of features as of QuPath.

    Features without a polygon, such as points and lines, are left out.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    RegionError
        The file cannot be read, is not GeoJSON, or has no polygon.
    """
    try:
        features = parse_features(read_text(path))
    except (OSError, ValueError) as error:
        raise RegionError(f"'{path}' cannot be read ({reading_failure(error)}); save it again as GeoJSON.") from error
    except RegionError as error:
        raise RegionError(f"'{path}': {error}") from error
    annotations = [annotation for feature in features if (annotation := _annotation(feature))]
    if not annotations:
        raise RegionError(f"'{path}' has no polygon; save closed shapes as GeoJSON.")
    return annotations


def write_annotations(annotations: Sequence[Annotation], path: Path) -> None:
    """Write annotations as a GeoJSON feature collection that QuPath reads; an existing file is replaced.

    Parameters
    ----------
    annotations
        The annotations. The coordinate system of each is a property of its feature.
    path
        The file.

    Raises
    ------
    OutputError
        The file cannot be written; an existing one is unchanged then.
    """
    collection = {"type": "FeatureCollection", "features": [_feature(annotation) for annotation in annotations]}
    try:
        replace_file(path, json.dumps(collection).encode())
    except OSError as error:
        raise OutputError(
            f"The regions cannot be written to '{path}' ({error.strerror or error}); choose another folder."
        ) from error


def _feature(annotation: Annotation) -> dict[str, Any]:
    """Return the feature of an annotation, with the properties of QuPath."""
    properties: dict[str, Any] = {"objectType": "annotation"}
    if annotation.name:
        properties["name"] = annotation.name
    color = {} if annotation.color is None else {"color": list(annotation.color)}
    if annotation.classification:
        properties["classification"] = {"name": annotation.classification, **color}
    else:
        properties |= color
    if annotation.region.coordinate_system:
        properties["coordinate_system"] = annotation.region.coordinate_system
    geometry = json.loads(shapely.to_geojson(annotation.region.geometry))
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def _annotation(feature: GeoJsonFeature) -> Annotation | None:
    """Return the annotation of a feature; None if it has no polygon with an area."""
    if shapely.area(shapely.make_valid(feature.geometry)) == 0:  # unlike that of an outline that crosses itself
        return None
    region = Region.from_geometries([feature.geometry], feature.coordinate_system)
    if region is None:
        return None
    properties = feature.properties
    kind = properties.get("classification")
    color = _color(kind) or _color(properties)
    return Annotation(region, _text(properties.get("name")), _class_name(kind), color)


def _class_name(value: Any) -> str:
    """Return the name of a class of QuPath: a text, or a mapping with one name or several."""
    if isinstance(value, Mapping):
        names = value.get("names")
        return ": ".join(map(_text, names)) if isinstance(names, list) else _text(value.get("name"))
    return _text(value)


def _color(properties: Any) -> Color | None:
    """Return the color of a class or an object of QuPath: ``color``, or the packed integer of older versions."""
    if not isinstance(properties, Mapping):
        return None
    color, packed = properties.get("color"), properties.get("colorRGB")
    if isinstance(packed, int) and not isinstance(color, list):
        color = [packed >> shift & 255 for shift in (16, 8, 0)]
    if not isinstance(color, list) or len(color) != 3:
        return None
    if not all(isinstance(part, int) and 0 <= part <= 255 for part in color):
        return None
    return (color[0], color[1], color[2])


def _text(value: Any) -> str:
    """Return a text without half characters, which JSON may contain and stores cannot; empty for other types."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""
