"""State the skill of a result by the information that its own ratios expect to hold.

If the ratios r of a spot's pixels are right, a count of gene g gains sum_k r_kg log(r_kg K) nats over the uniform split
of its K pixels. The mean over the counts of the gene is the score that the map itself predicts, at its own factor and
footprint. It is honest only as far as the ratios are calibrated; docs/results/fine_truth.md compares it with the
achieved score.

Shape legend: N spots, G genes, q pixels of a tile.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.special import xlogy

from napari_srast._utils.row_blocks import add_up, row_blocks
from napari_srast.geometry.raster import Raster

__all__ = ["MIN_SPOTS", "ExpectedInformation"]

MIN_SPOTS = 120
"""Spots of a slide, which calibrates the ratios of its regions, from which on its skill is stated."""
_MIN_COUNTS = 20.0  # of a gene
_UNIT = 2.0**-20  # nats; sums of whole units are exact, so that the order of the tiles changes no bit


class ExpectedInformation:
    """Sum up the expected information of a result, at once or tile by tile.

    Parameters
    ----------
    spot_counts
        Counts of all spots of the slide, which ``raster.parent`` indexes, shape (N, G).
    raster
        The pixels and their parents.
    """

    def __init__(self, spot_counts: sparse.csr_matrix, raster: Raster) -> None:
        self._spot_counts = spot_counts
        self._raster = raster
        self._units = np.zeros(spot_counts.shape[1])

    def add(self, counts: sparse.csr_matrix) -> None:
        """Add some pixels, given their counts (q, G)."""
        values = counts.data.astype(np.float64)
        self._units += np.bincount(
            counts.indices, weights=np.rint(xlogy(values, values) / _UNIT), minlength=len(self._units)
        )

    def nats_per_count(self) -> np.ndarray:
        """Return the expected score of each gene, shape (G,); NaN for rare genes and for slides of few spots."""
        spots, n_pixels = np.unique(self._raster.parent, return_counts=True)
        n_genes, log_pixels = len(self._units), np.log(n_pixels)
        totals, uniforms = [], []
        for rows in row_blocks(len(spots), self._spot_counts.nnz):
            measured = self._spot_counts[spots[rows]].tocoo()
            values = measured.data.astype(np.float64)
            uniform = values * log_pixels[rows][measured.row] - xlogy(values, values)
            totals.append(np.bincount(measured.col, weights=values, minlength=n_genes))
            uniforms.append(np.bincount(measured.col, weights=uniform, minlength=n_genes))
        total = add_up(totals)
        information = self._units * _UNIT + add_up(uniforms)
        known = (total >= _MIN_COUNTS) & (self._spot_counts.shape[0] >= MIN_SPOTS)
        return np.where(known, information / np.maximum(total, 1.0), np.nan)
