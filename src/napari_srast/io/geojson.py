"""Read and write regions as GeoJSON files."""

from __future__ import annotations

import json
from pathlib import Path

import shapely

from napari_srast._utils.text import read_text, reading_failure
from napari_srast.core.region import Region
from napari_srast.errors import OutputError, RegionError

__all__ = ["read_geojson", "write_geojson"]


def write_geojson(region: Region, path: Path) -> None:
    """Write a region as a GeoJSON feature with its coordinate system as a property.

    Parameters
    ----------
    region
        The region.
    path
        The file; an existing one is replaced.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    feature = {
        "type": "Feature",
        "properties": {"coordinate_system": region.coordinate_system},
        "geometry": json.loads(shapely.to_geojson(region.geometry)),
    }
    try:
        path.write_text(json.dumps(feature), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"The region cannot be written to '{path}' ({error.strerror}); choose another folder."
        ) from error


def read_geojson(path: Path, coordinate_system: str) -> Region:
    """Read a region from a GeoJSON file.

    Parameters
    ----------
    path
        The file.
    coordinate_system
        Coordinate system of its coordinates, unless the file names one, as :func:`write_geojson` does.

    Raises
    ------
    RegionError
        The file cannot be read or contains no polygon.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise RegionError(
            f"'{path.name}' cannot be read as a region ({reading_failure(error)}); save it as GeoJSON."
        ) from error
    return Region.from_geojson(text, coordinate_system)
