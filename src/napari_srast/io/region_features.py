"""Read the annotations of a GeoJSON file one by one, with their names and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely

from napari_srast._utils.text import read_text, reading_failure
from napari_srast.core.geojson import GeoJsonFeature, parse_features
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
        features = parse_features(read_text(path))
    except (OSError, ValueError) as error:
        raise RegionError(f"'{path}' cannot be read ({reading_failure(error)}); save it again as GeoJSON.") from error
    except RegionError as error:
        raise RegionError(f"'{path}': {error}") from error
    annotations = [annotation for feature in features if (annotation := _annotation(feature))]
    if not annotations:
        raise RegionError(f"'{path}' has no polygon; save closed shapes as GeoJSON.")
    return annotations


def _annotation(feature: GeoJsonFeature) -> Annotation | None:
    """Return the annotation of a feature; None if it has no polygon with an area."""
    if shapely.area(shapely.make_valid(feature.geometry)) == 0:  # unlike that of an outline that crosses itself
        return None
    region = Region.from_geometries([feature.geometry], feature.coordinate_system)
    name, kind = feature.properties.get("name"), feature.properties.get("classification")
    return None if region is None else Annotation(region, _text(name), _class_name(kind))


def _class_name(value: Any) -> str:
    """Return the name of a class of QuPath: a text, or a mapping with one name or several."""
    if isinstance(value, Mapping):
        names = value.get("names")
        return ": ".join(map(_text, names)) if isinstance(names, list) else _text(value.get("name"))
    return _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
