"""A result together with the data that the window needs to display it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_srast.analysis.domains import Domains, read_domains
from napari_srast.analysis.quality_checks import QualityChecks, measure_quality
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled, InputError
from napari_srast.gui.runtime.background import error_message
from napari_srast.gui.state.gene_values import GeneValues

__all__ = ["DisplayedResult", "prepare_for_display", "with_saved_domains"]


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
    domains
        Sets of domains that its store contains, by name; the last one that was added is last.
    notices
        What its store contains but could not be read, one sentence each.
    """

    result: UpsampleResult
    values: GeneValues
    totals: np.ndarray
    quality: QualityChecks
    domains: Mapping[str, Domains] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

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
        return dataclasses.replace(
            self,
            result=result,
            values=dataclasses.replace(self.values, result=result),
            domains={name: dataclasses.replace(found, result=result) for name, found in self.domains.items()},
        )


def prepare_for_display(result: UpsampleResult) -> DisplayedResult:
    """Compute the data that displaying a result needs; this takes seconds for large results."""
    values = GeneValues.of(result)
    totals = np.asarray(values.columns.sum(axis=0)).ravel()
    return DisplayedResult(result, values, totals, measure_quality(result))


def with_saved_domains(
    displayed: DisplayedResult,
    path: str | Path,
    should_stop: Callable[[], bool] | None = None,
    *,
    notices: Sequence[str] = (),
) -> DisplayedResult:
    """Return a result with the domains that its store contains; what cannot be read becomes a notice.

    Parameters
    ----------
    displayed
        The result.
    path
        The store or file that it was read from; a file contains no domains.
    should_stop
        Returns True once the work should end.
    notices
        What else of its table could not be read, one sentence each.
    """
    if not Path(path).is_dir():
        return displayed
    left_out: list[str] = []
    try:
        found = read_domains(
            displayed.result, path, on_damage=lambda damage: left_out.append(str(damage)), should_stop=should_stop
        )
    except Cancelled:
        raise
    except Exception as error:  # noqa: BLE001 - the result can be shown without them
        found, left_out = {}, [error_message(error, "reading the saved domains")]
    return dataclasses.replace(displayed, domains=found, notices=(*notices, *left_out))
