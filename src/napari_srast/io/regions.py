"""Save regions in the store of their slide, as polygons that other programs can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.errors import OutputError, translate_memory_errors
from napari_srast.io.element_selection import RESULT_PREFIX
from napari_srast.io.store import open_store, write_store
from napari_srast.io.store_merge import merge_into
from napari_srast.io.transforms import element_matrices, to_affines

__all__ = ["REGION_PREFIX", "read_regions", "write_region"]

REGION_PREFIX = f"{RESULT_PREFIX}region_"
"""Start of the names of all saved regions in a store."""


@translate_memory_errors("while saving the region", "save it as GeoJSON")
def write_region(region: Region, slide: Slide) -> str:
    """Add a region to the store of its slide, with transformations to every coordinate system of the spots.

    Parameters
    ----------
    region
        The region.
    slide
        The slide, read from a store on disk.

    Returns
    -------
    str
        Name of the new shapes element: ``srast_region_1``, ``srast_region_2`` and so on.

    Raises
    ------
    OutputError
        The slide was not read from a Zarr 3 store, or the store cannot be written; it is unchanged then.
    RegionError
        The slide does not have the coordinate system of the region.
    """
    import geopandas
    import shapely
    import spatialdata
    from spatialdata.models import ShapesModel

    if slide.source.path is None or not (Path(slide.source.path) / "zarr.json").exists():
        raise OutputError("The slide was not read from a store of Zarr format 3; save the region as GeoJSON instead.")
    region.check_coordinate_system(slide)
    path = Path(slide.source.path)
    folder = path / "shapes"
    existing = {element.name for element in folder.iterdir()} if folder.is_dir() else set()
    name = next(n for n in (f"{REGION_PREFIX}{i}" for i in range(1, len(existing) + 2)) if n not in existing)
    from_region = np.linalg.inv(slide.transforms[region.coordinate_system])
    shapes = ShapesModel.parse(
        geopandas.GeoDataFrame(geometry=list(shapely.get_parts(region.geometry))),
        transformations=to_affines(slide.transforms, first=from_region),
    )
    merge_into(
        path, {"shapes": [name]}, lambda staging: write_store(spatialdata.SpatialData(shapes={name: shapes}), staging)
    )
    return name


@translate_memory_errors("while reading the slide", "take a smaller one")
def read_regions(path: str | Path) -> dict[str, Region]:
    """Read the saved regions of a slide.

    Parameters
    ----------
    path
        The store of the slide.

    Returns
    -------
    dict
        The regions by the name of their element.

    Raises
    ------
    InputError
        The store cannot be read.
    """
    store: Any = open_store(path)[0]
    regions = {}
    for name in sorted(n for n in store.shapes if n.startswith(REGION_PREFIX)):
        element = store.shapes[name]
        system, matrix = next(iter(element_matrices(element, name).items()))
        a, b, c, d = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
        polygons = element.geometry.affine_transform([a, b, c, d, matrix[0, 2], matrix[1, 2]])
        regions[name] = Region(polygons.union_all(), system)
    return regions
