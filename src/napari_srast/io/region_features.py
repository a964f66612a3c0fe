"""Read the annotations of a GeoJSON file one by one, with their names and classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely

from napari_srast._utils.text import read_text, reading_failure
from napari_srast.core.region import Region
from napari_srast.errors import RegionError

__all__ = ["Annotation", "read_annotations"]


@dataclass(frozen=True)
class Annotation:
    """A polygon, or a union of polygons, of a GeoJSON file.

    Parameters
    ----------
    region
        The polygons. Their coordinate system is the one that the file names; empty if it names none.
    name
        Name of the annotation; empty if it has none.
    classification
        Name of its class, as in QuPath; empty if it has none.
    """

    region: Region
    name: str = ""
    classification: str = ""


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
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise RegionError(f"'{path}' is not GeoJSON ({error.msg}, line {error.lineno}); save it again.") from error
    except (OSError, ValueError) as error:
        raise RegionError(f"'{path}' cannot be read ({reading_failure(error)}); save it again as GeoJSON.") from error
    except RecursionError as error:
        raise RegionError(f"'{path}' is not GeoJSON (nested too deeply); save it again.") from error
    annotations = [annotation for feature in _features(content) if (annotation := _annotation(feature, path))]
    if not annotations:
        raise RegionError(f"'{path}' has no polygon; save closed shapes as GeoJSON.")
    return annotations


def _features(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the features of a file; a bare geometry becomes a feature without properties."""
    for item in content if isinstance(content, list) else [content]:
        if not isinstance(item, Mapping):
            continue
        if item.get("type") == "FeatureCollection":
            features = item.get("features")
            yield from (f for f in (features if isinstance(features, list) else []) if isinstance(f, Mapping))
        elif item.get("type") == "Feature":
            yield item
        elif "type" in item:
            yield {"type": "Feature", "properties": {}, "geometry": item}


def _annotation(feature: Mapping[str, Any], path: Path) -> Annotation | None:
    """Return the annotation of a feature; None if it has no polygon."""
    geometry = feature.get("geometry")
    if not isinstance(geometry, Mapping):
        return None
    properties = feature.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    try:
        shape = shapely.from_geojson(json.dumps(geometry))
    except (shapely.errors.ShapelyError, ValueError) as error:
        raise RegionError(f"'{path}' has a shape that is not GeoJSON ({error}); save it again.") from error
    polygons = [part for part in shapely.get_parts(shape) if part.geom_type in ("Polygon", "MultiPolygon")]
    if not any(polygon.area > 0 for polygon in polygons):
        return None
    region = Region(shapely.union_all(shapely.make_valid(polygons)), _text(properties.get("coordinate_system")))
    return Annotation(region, _text(properties.get("name")), _class_name(properties.get("classification")))


def _class_name(value: Any) -> str:
    """Return the name of a class of QuPath: a text, or a mapping with one name or several."""
    if isinstance(value, Mapping):
        names = value.get("names")
        return ": ".join(map(_text, names)) if isinstance(names, list) else _text(value.get("name"))
    return _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
