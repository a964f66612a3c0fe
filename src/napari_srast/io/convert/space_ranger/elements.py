"""Build the SpatialData elements of a Space Ranger slide, under the names that spatialdata-io gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_srast.io.convert.images import multiscale_image
from napari_srast.io.convert.space_ranger.geometry import ArrayGeometry
from napari_srast.io.convert.space_ranger.matrix import FeatureCounts
from napari_srast.io.convert.space_ranger.positions import Positions
from napari_srast.io.element_selection import SLIDE_KEY
from napari_srast.io.spots import square_polygons
from napari_srast.io.transforms import to_affines

if TYPE_CHECKING:
    import spatialdata

__all__ = ["SlideParts", "build_slide"]

_GLOBAL = "global"  # coordinate system in micrometers, or in pixels if their size is unknown
_REGION_KEY = "region"
_RESOLUTIONS = ("hires", "lowres")


@dataclass(frozen=True, kw_only=True, eq=False)
class SlideParts:
    """What was read from a Space Ranger folder. Lengths are in full-resolution pixels unless stated otherwise.

    Parameters
    ----------
    name
        Name of the slide.
    counts
        Counts of the spots, N rows.
    genes
        Unique names of the features.
    spots
        Positions of the spots, N rows.
    geometry
        Lattice and scale.
    diameter
        Diameter of a circle or side of a square, in micrometers; in pixels if their size is unknown.
    pictures
        Images (c, y, x) and their pixels per full-resolution pixel, by name; "hires" and "lowres" get the slide's name.
    given
        Name of the image that the user gave; None if there is none.
    channels
        Names of the channels of this image; none for colors or gray.
    source
        Name of the folder.
    notices
        Choices and repairs of the reader, one sentence each.
    """

    name: str
    counts: FeatureCounts
    genes: np.ndarray
    spots: Positions
    geometry: ArrayGeometry
    diameter: float
    pictures: Mapping[str, tuple[np.ndarray, float]]
    given: str | None
    channels: tuple[str, ...]
    source: str
    notices: tuple[str, ...]


def build_slide(parts: SlideParts) -> spatialdata.SpatialData:
    """Build spots, table and images with the coordinate system "global" in micrometers, or in pixels.

    Parameters
    ----------
    parts
        What was read.
    """
    import anndata
    import geopandas
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    scale = parts.geometry.um_per_px or 1.0
    centers = parts.spots.pixels * scale
    bins = parts.geometry.bin_px is not None
    label = f"square_{round(parts.diameter):03d}um" if bins and parts.geometry.um_per_px else "table"
    name = f"{parts.name}_{label}" if label != "table" else parts.name
    instance_key = "location_id" if bins else "spot_id"

    scales = {res: parts.pictures[res][1] for res in _RESOLUTIONS if res in parts.pictures}
    systems = {_GLOBAL: np.eye(3), parts.name: _zoom(1 / scale)}
    systems |= {f"{parts.name}_downscaled_{res}": _zoom(zoom / scale) for res, zoom in scales.items()}
    images, titles = {}, {}
    for key, (pixels, zoom) in parts.pictures.items():
        own = f"{parts.name}_downscaled_{key}" if key in _RESOLUTIONS else None
        places = {_GLOBAL: _zoom(scale / zoom), parts.name: _zoom(1 / zoom)}
        title = f"{parts.name}_{key}_image" if own else key if key not in (name, label) else f"{key}_image"
        titles[key] = title
        systems_of_image = to_affines(places | ({own: np.eye(3)} if own else {}))
        images[title] = multiscale_image(pixels, systems_of_image, parts.channels if key == parts.given else ())
    if bins:
        squares = geopandas.GeoDataFrame(geometry=square_polygons(centers, parts.diameter, parts.geometry.angle))
        shapes = ShapesModel.parse(squares, transformations=to_affines(systems))
    else:
        shapes = ShapesModel.parse(centers, geometry=0, radius=parts.diameter / 2, transformations=to_affines(systems))
    array = parts.spots.array.astype(int) if np.isfinite(parts.spots.array).all() else parts.spots.array
    table = anndata.AnnData(
        parts.counts.counts,
        obs=pd.DataFrame(
            {
                "in_tissue": parts.spots.in_tissue.astype(int),
                "array_row": array[:, 1],
                "array_col": array[:, 0],
                _REGION_KEY: pd.Categorical([name] * len(centers)),
                instance_key: np.arange(len(centers)),
            },
            index=pd.Index(parts.counts.barcodes),
        ),
        var=parts.counts.features.set_axis(parts.genes, axis=0),
        obsm={"spatial": centers},
        uns={
            SLIDE_KEY: {
                "unit": "um" if parts.geometry.um_per_px else "px",
                "source": parts.source,
                **({"um_per_full_resolution_pixel": scale} if parts.geometry.um_per_px else {}),
                **({"image": titles[parts.given]} if parts.given is not None else {}),
                **({"notices": list(parts.notices)} if parts.notices else {}),
            }
        },
    )
    return spatialdata.SpatialData(
        images=images,
        shapes={name: shapes},
        tables={label: TableModel.parse(table, region=name, region_key=_REGION_KEY, instance_key=instance_key)},
    )


def _zoom(factor: float) -> np.ndarray:
    return np.diag([factor, factor, 1.0])
