"""Test the mask of pixels off the tissue."""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology.background_mask import background_pixels
from napari_srast.histology.features import StainTexture


def _background(tissue, totals: np.ndarray) -> np.ndarray:
    features = StainTexture().extract(tissue.image(), tissue.centers, 100.0)
    return background_pixels(features, tissue.centers, totals, tissue.layout, 100.0**2, 50.0**2)


def test_pixels_off_tissue_are_background(tissue) -> None:
    totals = np.asarray(tissue.counts.sum(axis=1)).ravel()
    background = _background(tissue, totals)
    assert background.any()
    assert tissue.truth[background].sum() == 0
    n_on_tissue = np.bincount(tissue.layout.parent[~background], minlength=len(totals))
    assert (n_on_tissue > 0).all()  # every spot keeps a pixel for its counts


def test_counts_off_tissue_disable_the_mask(tissue) -> None:
    assert not _background(tissue, np.full(len(tissue.centers), 50.0)).any()


def test_mask_requires_spots_off_tissue(tissue) -> None:
    central = np.hypot(*(tissue.centers - tissue.centers.mean(axis=0)).T) < 450
    features = StainTexture().extract(tissue.image(), tissue.centers[central], 100.0)
    centers = tissue.centers[central]
    layout = SpotPixelMap.of_raster(centers, make_raster(centers, factor=2, spot_diameter=100.0))
    assert not background_pixels(features, centers, np.full(len(centers), 50.0), layout, 100.0**2, 50.0**2).any()
