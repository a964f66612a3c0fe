"""Parse GeoJSON as programs write it: RFC 7946, and the lists of features and empty features of QuPath."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from napari_srast.errors import RegionError

__all__ = ["parse_geojson"]

_SAVE = "save the region as a polygon feature"


def parse_geojson(text: str) -> tuple[list[BaseGeometry], str | None]:
    """Return the geometries of a GeoJSON text, and the coordinate system that its features name.

    Parameters
    ----------
    text
        A geometry, a feature, a feature collection, or a list of any of these. Features without geometry are left out.

    Returns
    -------
    tuple
        The geometries, and the property ``coordinate_system`` of the features; None if none has it.

    Raises
    ------
    RegionError
        The text is not GeoJSON, or its features name several coordinate systems.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RegionError(f"The region is not GeoJSON ({error}); {_SAVE}.") from error
    geometries, systems = [], set()
    for feature in _features(content):
        geometry, properties = feature.get("geometry"), feature.get("properties")
        if not isinstance(geometry, Mapping):
            continue
        try:
            geometries.append(shapely.from_geojson(json.dumps(geometry)))
        except (shapely.errors.ShapelyError, ValueError) as error:
            raise RegionError(f"The region is not GeoJSON ({error}); {_SAVE}.") from error
        system = properties.get("coordinate_system") if isinstance(properties, Mapping) else None
        if isinstance(system, str) and system:
            systems.add(system)
    if len(systems) > 1:
        raise RegionError(
            f"The shapes of the region are in several coordinate systems ({', '.join(sorted(systems))}); save those of "
            "one coordinate system."
        )
    return geometries, next(iter(systems), None)


def _features(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the features; a bare geometry becomes a feature without properties."""
    for item in content if isinstance(content, list) else [content]:
        kind = item.get("type") if isinstance(item, Mapping) else None
        if kind == "FeatureCollection":
            features = item.get("features")
            yield from (f for f in (features if isinstance(features, list) else []) if isinstance(f, Mapping))
        elif kind == "Feature":
            yield item
        elif isinstance(kind, str):
            yield {"geometry": item}
