"""Variances of the counts of cells."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_srast.analysis.cell_variance import cell_std
from napari_srast.geometry.raster import Raster, make_raster

N = 20.0  # counts of every spot


def _multinomial(raster: Raster) -> tuple[np.ndarray, sparse.csr_matrix, sparse.csr_matrix]:
    """Return the ratios of pixels, and means and standard deviations of multinomial counts."""
    ratio = np.random.default_rng(0).random(raster.n_pixels)
    ratio /= raster.sum_to_spots(ratio)[raster.parent]
    mean, std = N * ratio, np.sqrt(N * ratio * (1 - ratio))
    return ratio, sparse.csr_matrix(mean[:, None]), sparse.csr_matrix(std[:, None])


def test_cells_of_a_multinomial_split_are_binomial() -> None:
    raster = make_raster(np.array([[0.0, 0.0], [10, 0], [0, 10], [10, 10]]), factor=2)
    ratio, mean, std = _multinomial(raster)
    shares = np.zeros((3, raster.n_pixels))
    first = np.flatnonzero(raster.parent == 0)
    shares[0, first[:2]] = 1  # whole pixels of one spot
    shares[1, first[2:]] = 0.3  # parts of pixels
    shares[2] = 1  # all pixels: every count is inside
    found = cell_std(sparse.csr_matrix(shares), raster, mean, std).toarray()[:, 0]
    p = [ratio[first[:2]].sum(), 0.3 * ratio[first[2:]].sum()]
    np.testing.assert_allclose(found[:2], [np.sqrt(N * q * (1 - q)) for q in p], rtol=1e-5)
    np.testing.assert_allclose(found[2], 0, atol=1e-3)
