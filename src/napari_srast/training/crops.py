"""Choose a part of a slide: spots of a crop, spots away from the border, and the area that observations cover.

Shape legend: N spots, n cells, beads or bins.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from napari_srast.geometry.raster import Raster
from napari_srast.training.sources import PseudoSlideSettings

__all__ = ["area_per_point", "crop_mask", "interior_spots"]


def crop_mask(centers: np.ndarray, settings: PseudoSlideSettings, rng: np.random.Generator) -> np.ndarray:
    """Choose spots to keep, (N,) bool: all, or those on one side of a line or in a disc; some are removed.

    The spots can end where the tissue continues: capture areas end, and spots fail. Without such examples a network
    takes every missing neighbor for the edge of the tissue and moves counts away from it.
    """
    keep = rng.random(len(centers)) >= rng.choice(settings.missing_spots)
    shape, min_spots = rng.integers(3), int(0.6 * settings.least_spots)
    fraction, middle = rng.uniform(0.4, 0.9), centers[rng.integers(len(centers))]
    angle = rng.uniform(0, 2 * np.pi)
    distance = centers @ [np.cos(angle), np.sin(angle)] if shape == 1 else np.linalg.norm(centers - middle, axis=1)
    if shape > 0:
        keep &= distance <= np.quantile(distance, fraction)
    return keep if keep.sum() >= min_spots else np.ones(len(centers), dtype=bool)


def interior_spots(raster: Raster, points: np.ndarray) -> np.ndarray:
    """Return which spots have all of their pixel centers in the convex hull of the observations, (N,) bool.

    The cells of the others reach to where nothing was observed, so that their true pixels are empty without a reason
    in the tissue.
    """
    outside = Delaunay(points).find_simplex(raster.centers) < 0
    return (raster.n_pixels_per_spot > 0) & (np.bincount(raster.parent[outside], minlength=raster.n_spots) == 0)


def area_per_point(points: np.ndarray) -> float:
    """Return the covered area per point, from the occupied squares of a coarse grid."""
    spacing = float(np.median(cKDTree(points).query(points, k=2)[0][:, 1])) or 1.0
    side = 6 * spacing
    occupied = np.unique(np.floor(points / side), axis=0)
    return len(occupied) * side**2 / len(points)
