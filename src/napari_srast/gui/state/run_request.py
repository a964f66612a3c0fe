"""What is to be run: a region with its genes and settings, as they were when it was asked for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from napari_srast.core.progress import Progress
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.gui.runtime.error_report import ErrorContext
from napari_srast.gui.runtime.processes import processes
from napari_srast.gui.state.displayed_result import DisplayedResult, prepare_for_display
from napari_srast.gui.state.slide_session import SlideSession

__all__ = ["RunRequest", "result_title"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRequest:
    """A run that waits or goes on.

    Parameters
    ----------
    owner
        The open slide that the result belongs to.
    slide
        The slide in the coordinate system of the region.
    region
        The region, or None for the whole slide.
    genes
        Genes to upsample, or None for all.
    settings
        How.
    against
        The result that this one is to be compared with, which stays on show; None shows this one.
    """

    owner: SlideSession
    slide: Slide
    region: Region | None
    genes: Sequence[str] | None
    settings: UpsampleSettings
    against: DisplayedResult | None = None

    @classmethod
    def of(
        cls, owner: SlideSession, region: Region | None, genes: Sequence[str] | None, settings: UpsampleSettings
    ) -> RunRequest:
        """Return a task.

        Raises
        ------
        RegionError
            No spot lies in the region.
        """
        if region is not None:
            region.spots(owner.slide)
        return cls(owner=owner, slide=owner.slide, region=region, genes=genes, settings=settings)

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        n_spots = self.slide.n_spots if self.region is None else int(self.region.spots(self.slide).sum())
        place = "whole slide" if self.region is None else "region"
        return f"{self.owner.title}, {place} of {n_spots:,} spots"

    @property
    def circumstances(self) -> ErrorContext:
        """What a report of an error says of it."""
        n_genes = None if self.genes is None else len(self.genes)
        return ErrorContext(slide=self.slide, settings=self.settings, n_genes=n_genes)

    def steps(self, should_stop: Callable[[], bool]) -> Generator[Progress, None, DisplayedResult]:
        """Run it, in a worker's thread."""
        from napari_srast import api
        from napari_srast.inference.executors.local import ThreadExecutor

        workers = ThreadExecutor(fit=processes().fit) if self.settings.method == "srast" else None
        steps = api.upsample_steps(
            self.slide, self.region, self.genes, self.settings, should_stop=should_stop, workers=workers
        )
        result = yield from steps
        yield Progress("checks", 0, 1, 1.0)
        return prepare_for_display(result)


def result_title(number: int, finished: DisplayedResult) -> str:
    """Return the line by which a result is chosen."""
    result = finished.result
    n_genes = len(result.genes)
    genes = str(result.genes[0]) if n_genes == 1 else f"{n_genes:,} genes"
    settings = result.settings
    size = f"×{settings.factor:g}" if settings.pixel_size is None else f"pixels of {settings.pixel_size:g}"
    others = [word for word in (settings.method, settings.mode) if word not in ("srast", "mean")]
    return ", ".join([f"{number}: {len(result.raster.spots):,} spots", genes, size, *others])
