"""A result with what showing it needs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError
from napari_srast.gui.state.quality_checks import QualityChecks, measure_quality

__all__ = ["DisplayedResult", "prepare_for_display"]


@dataclass(frozen=True, eq=False)
class DisplayedResult:
    """A result with what was worked out in its thread, for the window would stand still meanwhile.

    Parameters
    ----------
    result
        The result.
    columns
        Its counts by columns, shape (Q, G).
    totals
        Counts of each gene, shape (G,).
    trust
        Its checks.
    """

    result: UpsampleResult
    columns: sparse.csc_matrix
    totals: np.ndarray
    trust: QualityChecks

    def on(self, slide: Slide) -> DisplayedResult:
        """Return the same result on a slide that is open already.

        Raises
        ------
        InputError
            The slide has other spots than those that the result was made from.
        """
        made_from = self.result.slide
        same = made_from.n_spots == slide.n_spots and (made_from.spot_ids == slide.spot_ids).all()
        if not (same and np.allclose(made_from.centers, slide.centers)):
            raise InputError(
                f"The result {self.result.run} was made from other spots than those on show; choose its spots under "
                "Slide and open it again."
            )
        return dataclasses.replace(self, result=dataclasses.replace(self.result, slide=slide))


def prepare_for_display(result: UpsampleResult) -> DisplayedResult:
    """Work out what showing a result needs; takes a while on large results."""
    columns = result.counts.tocsc()
    return DisplayedResult(result, columns, np.asarray(columns.sum(axis=0)).ravel(), measure_quality(result))
