"""Interpolate by tobler's pycnophylactic method, one gene at a time."""

from __future__ import annotations

import importlib

import numpy as np
import shapely

from napari_srast.core.slide import Slide
from napari_srast.geometry.raster import Raster

__all__ = ["interpolate"]


def interpolate(slide: Slide, raster: Raster) -> np.ndarray:
    """Return counts of pixels, shape (Q, G), with the raster's pixels of each spot as zones, in units of pixels.

    tobler divides 0 by 0 around spots without counts whose neighbors have none either; those pixels become 0 here.
    Genes without counts are 0, because tobler never ends on them.
    """
    import geopandas

    # The package's __init__ replaces the module by the function of the same name.
    pycno = importlib.import_module("tobler.pycno.pycno").pycno

    squares = shapely.box(raster.col, -raster.row - 1.0, raster.col + 1.0, -raster.row)
    groups = np.split(squares[np.argsort(raster.parent, kind="stable")], np.cumsum(raster.n_pixels_per_spot)[:-1])
    zones = geopandas.GeoDataFrame(geometry=[shapely.union_all(group) for group in groups])
    values = np.zeros((raster.n_pixels, slide.n_genes))
    for gene in np.flatnonzero(np.asarray(slide.counts.sum(axis=0)).ravel()):
        zones["counts"] = slide.counts[:, [gene]].toarray().ravel().astype(float)
        image, _, _ = pycno(zones, "counts", cellsize=1, r=0.2, handle_null=False, converge=3, verbose=False)
        values[:, gene] = image[raster.row, raster.col]
    return np.nan_to_num(values)
