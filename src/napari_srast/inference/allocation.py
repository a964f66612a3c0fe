"""Allocate the counts of spots to their pixels by predicted ratios.

Shape legend: n spots, q pixels, F genes of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from napari_srast.arrays import GeneNames, PixelRatios, SpotFields
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

if TYPE_CHECKING:
    from napari_srast.calibration.dispersion import Concentration

__all__ = ["CountAllocator"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CountAllocator:
    """Convert predicted ratios to counts of pixels.

    Parameters
    ----------
    mode, seed
        Mode and seed of the run.
    genes
        Names of the run's genes, shape (G,).
    concentration
        Concentration of the true counts around the ratios, for sampled counts. None: the ratios are taken as exact.
    """

    mode: str
    seed: int
    genes: GeneNames
    concentration: Concentration | None = None

    def allocate(
        self, ratios: PixelRatios, counts: SpotFields, layout: SpotPixelMap, block: slice, spots: np.ndarray
    ) -> sparse.csc_matrix:
        """Multiply ratios by the counts of the spots; in integer mode, sample integer counts.

        Parameters
        ----------
        ratios
            Predicted share of each pixel in its spot, up to a factor, shape (q, F).
        counts
            Counts of the spots, shape (n, F).
        layout
            The spots and their pixels.
        block
            Columns of the run's genes that are computed.
        spots
            Indices of the spots in the slide, shape (n,).

        Returns
        -------
        scipy.sparse.csc_matrix
            Counts of the pixels, float32, shape (q, F).
        """
        if self.mode == "integer":
            return self.sample(ratios, counts, layout, block, spots)
        exact = layout.normalize(ratios) * counts[layout.parent]
        return sparse.csc_matrix(exact.astype(np.float32))

    def sample(
        self, ratios: PixelRatios, counts: SpotFields, layout: SpotPixelMap, block: slice, spots: np.ndarray
    ) -> sparse.csc_matrix:
        """Sample integer counts; parameters as for :meth:`allocate`."""
        from napari_srast.calibration.count_sampling import SampleKeys, sample_counts

        sample = sample_counts if self.concentration is None else self.concentration.sample
        keys = SampleKeys.of(self.genes[block], spots)
        return sample(ratios, counts, layout, self.seed, keys=keys).astype(np.float32)
