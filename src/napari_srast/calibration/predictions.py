"""TODO docstring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_srast.calibration.likelihood import MOST_PAIRS, PoolLikelihood
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

if TYPE_CHECKING:
    pass


__all__ = ["HoldoutPredictions"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HoldoutPredictions:
    """One layout whose pixels are known, with what the experts say of it.

    Parameters
    ----------
    log_experts
        Shape (E, Q, F).
    counts, truth
        Counts of the spots (N, F) and of their pixels (Q, F).
    layout
        Gives each pixel's spot.
    """

    log_experts: np.ndarray
    counts: np.ndarray
    truth: np.ndarray
    layout: SpotPixelMap

    def likelihood(self, most_pairs: int = MOST_PAIRS) -> PoolLikelihood:
        """Return how well weights explain the pixels."""
        return PoolLikelihood(self.log_experts, self.counts, self.truth, self.layout, most_pairs=most_pairs)
