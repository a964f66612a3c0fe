"""A result together with the data that the window needs to display it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from napari_srast.analysis.quality_checks import QualityChecks, measure_quality
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError
from napari_srast.gui.state.gene_values import GeneValues

__all__ = ["DisplayedResult", "prepare_for_display"]


@dataclass(frozen=True, eq=False)
class DisplayedResult:
    """A result with derived data, computed in a background thread so that the window stays responsive.

    Parameters
    ----------
    result
        The result.
    values
        Its counts and expression, gene by gene.
    totals
        Total count of each gene, shape (G,).
    quality
        Checks against the measured counts.
    """

    result: UpsampleResult
    values: GeneValues
    totals: np.ndarray
    quality: QualityChecks

    def on(self, slide: Slide) -> DisplayedResult:
        """Return the same result with a slide that is already open.

        Raises
        ------
        InputError
            The result was made from other spots than those of the slide.
        """
        origin = self.result.slide
        same_ids = origin.n_spots == slide.n_spots and (origin.spot_ids == slide.spot_ids).all()
        if not (same_ids and np.allclose(origin.centers, slide.centers)):
            raise InputError(
                f"The result {self.result.run} was made from other spots than those of the open slide; choose its "
                "spots under Slide and open it again."
            )
        result = dataclasses.replace(self.result, slide=slide)
        return dataclasses.replace(self, result=result, values=dataclasses.replace(self.values, result=result))


def prepare_for_display(result: UpsampleResult) -> DisplayedResult:
    """Compute the data that displaying a result needs; this takes seconds for large results."""
    values = GeneValues.of(result)
    totals = np.asarray(values.columns.sum(axis=0)).ravel()
    return DisplayedResult(result, values, totals, measure_quality(result))
