"""Save regions in the store of their slide, as polygons that other programs can read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.errors import OutputError, RegionError, translate_memory_errors
from napari_srast.io.annotations import Annotation, Color
from napari_srast.io.element_selection import RESULT_PREFIX
from napari_srast.io.store import open_store, write_store
from napari_srast.io.store_merge import merge_into
from napari_srast.io.transforms import element_matrices, to_affines

__all__ = ["REGION_PREFIX", "read_regions", "write_regions"]

REGION_PREFIX = f"{RESULT_PREFIX}region_"
"""Start of the names of all saved regions in a store."""
_WAIT = 1.0  # seconds for another process that writes to the store, because the window waits, too


@translate_memory_errors("while saving the regions", "save them as GeoJSON")
def write_regions(annotations: Sequence[Annotation], slide: Slide) -> str:
    """Add regions to the store of their slide, with transformations to every coordinate system of the spots.

    Parameters
    ----------
    annotations
        The regions, with names and classes; all in the same coordinate system.
    slide
        The slide, read from a store on disk.

    Returns
    -------
    str
        Name of the new shapes element: ``srast_region_1``, ``srast_region_2`` and so on. Its table has a row for each
        region, with the columns ``geometry``, ``name``, ``classification`` and ``color`` (``#rrggbb``).

    Raises
    ------
    OutputError
        The slide was not read from a Zarr 3 store, another process writes to it, or it cannot be written; it
        is unchanged then.
    RegionError
        There is no region, or the slide does not have the coordinate system of the regions.
    """
    import geopandas
    import spatialdata
    from spatialdata.models import ShapesModel

    if slide.source.path is None or not (Path(slide.source.path) / "zarr.json").exists():
        raise OutputError("The slide was not read from a store of Zarr format 3; save the regions as GeoJSON instead.")
    systems = {annotation.region.coordinate_system for annotation in annotations}
    if len(systems) != 1:
        raise RegionError("Regions of exactly one coordinate system can be saved together; draw a region first.")
    annotations[0].region.check_coordinate_system(slide)
    path = Path(slide.source.path)
    folder = path / "shapes"
    existing = {element.name for element in folder.iterdir()} if folder.is_dir() else set()
    name = next(n for n in (f"{REGION_PREFIX}{i}" for i in range(1, len(existing) + 2)) if n not in existing)
    from_region = np.linalg.inv(slide.transforms[systems.pop()])
    columns = {
        "name": [annotation.name for annotation in annotations],
        "classification": [annotation.classification for annotation in annotations],
        "color": ["" if annotation.color is None else _hex(annotation.color) for annotation in annotations],
    }
    shapes = ShapesModel.parse(
        geopandas.GeoDataFrame(columns, geometry=[annotation.region.geometry for annotation in annotations]),
        transformations=to_affines(slide.transforms, first=from_region),
    )
    merge_into(
        path,
        {"shapes": [name]},
        lambda staging: write_store(spatialdata.SpatialData(shapes={name: shapes}), staging),
        wait=_WAIT,
    )
    return name


@translate_memory_errors("while reading the slide", "take a smaller one")
def read_regions(path: str | Path) -> dict[str, list[Annotation]]:
    """Read the saved regions of a slide.

    Parameters
    ----------
    path
        The store of the slide.

    Returns
    -------
    dict
        The regions of each saved element, by its name.

    Raises
    ------
    InputError
        The store cannot be read.
    """
    store: Any = open_store(path)[0]
    regions = {}
    for name in sorted((n for n in store.shapes if n.startswith(REGION_PREFIX)), key=_number):
        element = store.shapes[name]
        system, matrix = next(iter(element_matrices(element, name).items()))
        a, b, c, d = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
        polygons = element.geometry.affine_transform([a, b, c, d, matrix[0, 2], matrix[1, 2]])
        if "name" not in element:  # the polygons of one region, as version 0.1 saved it
            regions[name] = [Annotation(Region(polygons.union_all(), system))]
            continue
        texts = (_texts(element, column) for column in ("name", "classification", "color"))
        regions[name] = [
            Annotation(Region(polygon, system), title, kind, _color(color))
            for polygon, title, kind, color in zip(polygons, *texts, strict=True)
        ]
    return regions


def _texts(element: Any, column: str) -> list[str]:
    """Return a column as texts; empty where the element has none."""
    values = element[column] if column in element else [""] * len(element)
    return [value if isinstance(value, str) else "" for value in values]


def _number(name: str) -> tuple[int, str]:
    """Return a key that sorts ``srast_region_10`` after ``srast_region_9``."""
    number = name.removeprefix(REGION_PREFIX)
    return (int(number) if number.isdecimal() else 0, name)


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _color(text: str) -> Color | None:
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        return None
    red, green, blue = bytes.fromhex(text[1:])
    return (red, green, blue)
