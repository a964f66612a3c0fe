"""TODO docstring."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.calibration.experts import Experts
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.geometry.coarsening import Coarsened, coarsen_slide
from napari_srast.geometry.lattice import Lattice

__all__ = ["CoarseSlide", "LogRatioAdjustment", "coarsened_variants"]

LogRatioAdjustment = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""Takes the number of a coarsened slide, the pool's log ratios there (Q, F) and the coarse spots' counts (N, F), and
returns better log ratios: the image's part in the check."""
_CALIBRATION_SPOTS = 6000  # at the most: a few weights are told by so many
_CALIBRATION_PATCHES = 4  # that they lie in, where the slide has more
_FEWEST_COARSE_SPOTS = 6
_MOST_VARIANTS = 4
_ENOUGH_COARSE_SPOTS = 300


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseSlide:
    """A slide coarsened once in one way.

    Parameters
    ----------
    experts
        On the coarsened slide.
    counts, truth
        Counts of the coarse spots (N', G) and of their pixels, which are spots of the slide (Q', G).
    origin
        By how much the slide's own frame lies beside that of the coarse layout, shape (2,).
    """

    experts: Experts
    counts: sparse.csr_matrix
    truth: sparse.csr_matrix
    origin: np.ndarray

    def ask(self, columns: np.ndarray, should_stop: Callable[[], bool] | None = None) -> HoldoutPredictions:
        """Return what the experts say of some genes, beside their truth."""
        counts = self.counts[:, columns]
        _, log_experts = self.experts.predict(counts, should_stop)
        truth = self.truth[:, columns].toarray().astype(np.float64)
        return HoldoutPredictions(
            log_experts=log_experts, counts=counts.toarray(), truth=truth, layout=self.experts.layout
        )


def coarsened_variants(
    centers: np.ndarray, counts: sparse.csr_matrix, lattice: Lattice, *, seed: int = 0
) -> Generator[Coarsened, None, None]:
    """Yield a slide coarsened once, a small one in several ways, so that a few hundred coarse spots can be checked."""
    n_seen = 0
    for variant in range(_MOST_VARIANTS):
        coarsened = coarsen_slide(centers, counts, lattice, seed=seed, variant=variant)
        n_targets = 0 if coarsened is None else len(np.unique(coarsened.layout.parent))
        if coarsened is None or n_targets < _FEWEST_COARSE_SPOTS:
            return
        yield coarsened
        n_seen += n_targets
        if n_seen >= _ENOUGH_COARSE_SPOTS:
            return
