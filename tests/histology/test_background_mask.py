from __future__ import annotations

import numpy as np

from napari_srast.histology.background_mask import background_pixels
from napari_srast.histology.features import StainTexture


def _bare(tissue, totals: np.ndarray) -> np.ndarray:
    features = StainTexture().extract(tissue.image(), tissue.centers, 100.0)
    return background_pixels(features, tissue.centers, totals, tissue.layout, 100.0**2, 50.0**2)


def test_pixels_off_the_tissue_are_bare_where_empty_spots_prove_it(tissue) -> None:
    totals = np.asarray(tissue.counts.sum(axis=1)).ravel()
    bare = _bare(tissue, totals)
    assert bare.any()
    assert tissue.truth[bare].sum() == 0
    kept = np.bincount(tissue.layout.parent[~bare], minlength=len(totals))
    assert (kept > 0).all()  # a spot keeps a pixel for its counts


def test_counts_on_the_glass_refute_the_mask(tissue) -> None:
    assert not _bare(tissue, np.full(len(tissue.centers), 50.0)).any()


def test_without_spots_off_the_tissue_there_is_no_proof(tissue) -> None:
    middle = np.hypot(*(tissue.centers - tissue.centers.mean(axis=0)).T) < 450
    features = StainTexture().extract(tissue.image(), tissue.centers[middle], 100.0)
    from napari_srast.geometry.raster import make_raster
    from napari_srast.geometry.spot_pixel_map import SpotPixelMap

    centers = tissue.centers[middle]
    layout = SpotPixelMap.of_raster(centers, make_raster(centers, factor=2, spot_diameter=100.0))
    assert not background_pixels(features, centers, np.full(len(centers), 50.0), layout, 100.0**2, 50.0**2).any()
