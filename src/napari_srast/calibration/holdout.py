"""Coarsen a slide once, so that its own spots become pixels with measured counts.

Shape legend: N' coarse spots, Q' their pixels (spots of the slide), G genes, F fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.calibration.experts import Experts
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.core.limits import MAX_HOLDOUT_VARIANTS, MIN_HOLDOUT_SPOTS
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.geometry.coarsening import CoarsenedSlide, coarsen_slide
from napari_srast.geometry.lattice import Lattice

__all__ = ["CoarseSlide", "LogRatioAdjustment", "coarsened_variants"]

LogRatioAdjustment = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""Function that adds other evidence, such as the histology, to the pool's log ratios on a coarsened slide.

It takes the number of the coarsened slide, the log ratios (Q', F) and the counts of the coarse spots (N', F), and
returns log ratios (Q', F).
"""
_MIN_COARSE_SPOTS = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseSlide:
    """A slide that was coarsened once.

    Parameters
    ----------
    experts
        Experts on the coarsened slide.
    counts, truth
        Counts of the coarse spots, shape (N', G), and of their pixels, shape (Q', G).
    origin
        Offset from the frame of the coarse layout to the frame of the slide, shape (2,).
    """

    experts: Experts
    counts: sparse.csr_matrix
    truth: sparse.csr_matrix
    origin: np.ndarray

    def predict(self, columns: np.ndarray, monitor: RunMonitor = NO_MONITOR) -> HoldoutPredictions:
        """Return the experts' predictions of some genes with their measured counts."""
        counts = self.counts[:, columns]
        _, log_experts = self.experts.predict(counts, monitor)
        truth = self.truth[:, columns].toarray().astype(np.float64)
        return HoldoutPredictions(
            log_experts=log_experts, counts=counts.toarray(), truth=truth, layout=self.experts.layout
        )


def coarsened_variants(
    centers: np.ndarray, counts: sparse.csr_matrix, lattice: Lattice, *, seed: int = 0
) -> Iterator[CoarsenedSlide]:
    """Yield coarsened versions of a slide; a small slide in several variants, until there are enough coarse spots.

    Parameters
    ----------
    centers, counts
        Spots of the slide and their counts.
    lattice
        Lattice of the spots.
    seed
        Seed of the coarsening.
    """
    n_spots = 0
    for variant in range(MAX_HOLDOUT_VARIANTS):
        coarsened = coarsen_slide(centers, counts, lattice, seed=seed, variant=variant)
        n_targets = 0 if coarsened is None else len(np.unique(coarsened.layout.parent))
        if coarsened is None or n_targets < _MIN_COARSE_SPOTS:
            return
        yield coarsened
        n_spots += n_targets
        if n_spots >= MIN_HOLDOUT_SPOTS:
            return
