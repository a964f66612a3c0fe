"""Build the raster of a run: the pixels of the chosen spots, and those of a halo around them."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.geometry.lattice import Lattice, detect_lattice
from napari_srast.geometry.raster import Raster, make_raster
from napari_srast.inference.tiles import HALO

__all__ = ["make_rasters"]


def make_rasters(
    slide: Slide, centers: np.ndarray, selected: np.ndarray, settings: UpsampleSettings
) -> tuple[Raster, np.ndarray]:
    """Return the raster of the selected spots with a halo around them, and which of its pixels are wanted.

    The halo gives a region the numbers that the whole slide would get.

    Parameters
    ----------
    slide
        The slide; its counts are not used.
    centers
        Centers of its spots in the order of the run, shape (N, 2).
    selected
        Which spots are upsampled, bool, shape (N,).
    settings
        Settings of the run.

    Returns
    -------
    raster, wanted
        The raster, and a boolean mask of its pixels, shape (Q,).

    Raises
    ------
    SettingsError
        The pixels are too large or too many.
    """
    lattice = detect_lattice(centers, slide.spot_diameter)
    raster = make_raster(
        centers,
        factor=settings.factor,
        pixel_size=None if settings.pixel_size is None else settings.pixel_size / slide.cs_scale,
        footprint=settings.footprint,
        selected=_with_halo(centers, selected, lattice),
        spot_diameter=slide.spot_diameter,
        spot_shape=slide.spot_shape,
        lattice=lattice,
    )
    return raster, selected[raster.parent]


def _with_halo(centers: np.ndarray, selected: np.ndarray, lattice: Lattice) -> np.ndarray:
    """Return the selected spots and those within the halo around them, bool, shape (N,)."""
    if selected.all():
        return selected
    distance, _ = cKDTree(centers[selected]).query(centers)
    return distance <= HALO * lattice.pitch
