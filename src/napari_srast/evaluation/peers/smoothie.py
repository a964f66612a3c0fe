"""Smooth counts by the Gaussian kernel of Smoothie (Holdener and De Vlaminck 2025), at the pixels."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_srast.core.slide import Slide
from napari_srast.geometry.raster import Raster

__all__ = ["smooth"]

_WIDTH = 0.5  # standard deviation of the kernel in pitches, so that the kernel reaches the neighbors of a spot


def smooth(slide: Slide, raster: Raster) -> np.ndarray:
    """Return kernel means of the spots' counts at pixels, shape (Q, G).

    Smoothie smooths at the positions of its table. The pixels are rows without counts, and an additional gene with one
    count in every spot counts the spots under the kernel, so that empty rows do not dilute the mean.
    """
    import anndata
    import smoothie

    n_spots, n_pixels = slide.n_spots, raster.n_pixels
    weights = sparse.csr_matrix(np.ones((n_spots, 1), dtype=np.float32))
    counts = sparse.hstack([slide.counts, weights]).tocsr()
    empty = sparse.csr_matrix((n_pixels, slide.n_genes + 1), dtype=np.float32)
    table = anndata.AnnData(sparse.vstack([counts, empty]).tocsr())
    table.obs_names = [str(i) for i in range(n_spots + n_pixels)]
    table.var_names = [str(i) for i in range(slide.n_genes + 1)]
    origin = slide.centers.min(axis=0)
    table.obsm["spatial"] = (np.concatenate([slide.centers, raster.centers]) - origin) / raster.lattice.pitch
    smoothed = smoothie.run_parallelized_smoothing(
        table, grid_based_or_not=False, gaussian_sd=_WIDTH, min_spots_under_gaussian=1, num_processes=1
    )
    values = np.zeros((n_spots + n_pixels, slide.n_genes + 1))  # genes and positions without counts are left out
    dense = smoothed.X.toarray() if sparse.issparse(smoothed.X) else np.asarray(smoothed.X)
    values[np.ix_(smoothed.obs_names.astype(int), smoothed.var_names.astype(int))] = dense
    of_pixels = values[n_spots:]
    return np.divide(
        of_pixels[:, :-1], of_pixels[:, -1:], out=np.zeros((n_pixels, slide.n_genes)), where=of_pixels[:, -1:] > 0
    )
