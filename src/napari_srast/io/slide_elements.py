"""Build the SpatialData object of a slide from a table, circles and images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.io.transforms import to_affines

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = ["slide_store"]


def slide_store(
    table: anndata.AnnData, radius: float, images: dict[str, Any], attrs: dict[str, Any]
) -> spatialdata.SpatialData:
    """Build the SpatialData object of a slide with circular spots.

    Parameters
    ----------
    table
        Counts of the spots. ``obs["region"]`` is "spots", ``obs["instance_id"]`` numbers the spots from 0, and
        ``obsm["spatial"]`` contains their centers (x, y) in the coordinate system "global", shape (N, 2).
    radius
        Radius of the spots, in the unit of the centers.
    images
        Image elements by name.
    attrs
        Attributes of the store.
    """
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    circles = ShapesModel.parse(
        table.obsm["spatial"], geometry=0, radius=radius, transformations=to_affines({"global": np.eye(3)})
    )
    return spatialdata.SpatialData(
        images=images,
        shapes={"spots": circles},
        tables={"table": TableModel.parse(table, region="spots", region_key="region", instance_key="instance_id")},
        attrs=attrs,
    )
