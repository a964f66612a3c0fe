"""TODO docstring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from napari_srast.geometry.spot_pixel_map import SpotPixelMap

if TYPE_CHECKING:
    from napari_srast.calibration.dispersion import Concentration


__all__ = ["CountAllocator"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CountAllocator:
    """Turns ratios into counts.

    Parameters
    ----------
    mode, seed
        Of the run.
    genes
        Names of its genes, shape (G,).
    concentration
        How true counts scatter around the ratios; None where nothing is known of it, so that they are drawn as if the
        ratios were exact.
    """

    mode: str
    seed: int
    genes: np.ndarray
    concentration: Concentration | None = None

    def counts(
        self, ratios: np.ndarray, counts: np.ndarray, layout: SpotPixelMap, block: slice, spots: np.ndarray
    ) -> sparse.csc_matrix:
        """Multiply ratios (Q, F) by the spots' counts (N, F); in integer mode draw whole counts.

        Parameters
        ----------
        ratios, counts, layout
            Of a unit.
        block
            Which genes of the run these are.
        spots
            Which spots of the slide these are, shape (N,).
        """
        if self.mode == "integer":
            return self.draw(ratios, counts, layout, block, spots)
        exact = layout.normalize(ratios) * counts[layout.parent]
        return sparse.csc_matrix(exact.astype(np.float32))

    def draw(
        self, ratios: np.ndarray, counts: np.ndarray, layout: SpotPixelMap, block: slice, spots: np.ndarray
    ) -> sparse.csc_matrix:
        """Draw whole counts of a block of genes; arguments as for :meth:`counts`."""
        from napari_srast.calibration.count_sampling import SampleKeys, draw_counts

        draw = draw_counts if self.concentration is None else self.concentration.draw
        drawn = draw(ratios, counts, layout, self.seed, keys=SampleKeys.of(self.genes[block], spots))
        return drawn.astype(np.float32)
