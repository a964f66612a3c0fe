"""Parse GeoJSON as programs write it: RFC 7946, and the lists of features and empty features of QuPath."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from napari_srast.errors import RegionError

__all__ = ["GeoJsonFeature", "parse_features", "parse_geojson"]

_SAVE = "save the region as a polygon feature"


@dataclass(frozen=True, eq=False)
class GeoJsonFeature:
    """Feature of a GeoJSON text.

    Parameters
    ----------
    geometry
        Its geometry.
    properties
        Its properties; empty if it has none.
    """

    geometry: BaseGeometry
    properties: Mapping[str, Any]

    @property
    def coordinate_system(self) -> str:
        """The property ``coordinate_system``; empty if it has none."""
        system = self.properties.get("coordinate_system")
        return system if isinstance(system, str) else ""


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
    features = parse_features(text)
    systems = {feature.coordinate_system for feature in features} - {""}
    if len(systems) > 1:
        raise RegionError(
            f"The shapes of the region are in several coordinate systems ({', '.join(sorted(systems))}); save those of "
            "one coordinate system."
        )
    return [feature.geometry for feature in features], next(iter(systems), None)


def parse_features(text: str) -> list[GeoJsonFeature]:
    """Return the features of a GeoJSON text; a bare geometry becomes a feature without properties.

    Parameters
    ----------
    text
        As for :func:`parse_geojson`.

    Raises
    ------
    RegionError
        The text is not GeoJSON.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not text.lstrip().startswith(("{", "[")):  # a table of corners, a drawing
            raise RegionError(
                f"The region is not GeoJSON, which begins with a brace; {_SAVE} in a GeoJSON file."
            ) from error
        raise RegionError(f"The region is not GeoJSON ({error}); {_SAVE}.") from error
    features = []
    for feature in _features(content):
        geometry, properties = feature.get("geometry"), feature.get("properties")
        if not isinstance(geometry, Mapping):
            continue
        try:
            shape = shapely.from_geojson(json.dumps(_closed(geometry)))
        except (shapely.errors.ShapelyError, ValueError) as error:
            raise RegionError(f"The region is not GeoJSON ({error}); {_SAVE}.") from error
        features.append(GeoJsonFeature(shape, properties if isinstance(properties, Mapping) else {}))
    return features


def _closed(geometry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a geometry whose rings end where they begin, which some programs leave out."""
    depth = {"Polygon": 1, "MultiPolygon": 2}.get(str(geometry.get("type")))
    rings = geometry.get("coordinates")
    if depth is None or not isinstance(rings, list):
        return geometry
    closed = _closed_rings(rings) if depth == 1 else [_closed_rings(p) if isinstance(p, list) else p for p in rings]
    return {**geometry, "coordinates": closed}


def _closed_rings(rings: list[Any]) -> list[Any]:
    return [
        [*ring, ring[0]] if isinstance(ring, list) and len(ring) > 2 and ring[0] != ring[-1] else ring for ring in rings
    ]


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
