"""Hold the experts' predictions for pixels whose counts are measured.

Shape legend: N spots, Q pixels, F fields, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_srast.calibration.likelihood import MAX_PAIRS, PoolLikelihood
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["HoldoutPredictions"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HoldoutPredictions:
    """Predictions of the experts on a layout, with the measured counts of its pixels held out from them.

    Parameters
    ----------
    log_experts
        Log ratios of the experts, shape (E, Q, F).
    counts, truth
        Counts of the spots, shape (N, F), and measured counts of their pixels, shape (Q, F).
    layout
        Spots and pixels.
    """

    log_experts: np.ndarray
    counts: np.ndarray
    truth: np.ndarray
    layout: SpotPixelMap

    def likelihood(self, max_pairs: int = MAX_PAIRS) -> PoolLikelihood:
        """Return the likelihood of pool weights, given the measured counts.

        Parameters
        ----------
        max_pairs
            Number of spot-field pairs that are used at most.
        """
        return PoolLikelihood(self.log_experts, self.counts, self.truth, self.layout, max_pairs=max_pairs)
