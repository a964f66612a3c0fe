"""Describe one run: slide, region, genes and settings at the time when it was requested."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from napari_srast._utils.text import count
from napari_srast.core.progress import Progress
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.gui.runtime.error_report import ErrorContext
from napari_srast.gui.runtime.processes import process_pool
from napari_srast.gui.runtime.run_modules import import_run_modules
from napari_srast.gui.state.displayed_result import DisplayedResult, prepare_for_display
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.inference.fit_cache import FitCache

__all__ = ["RunInput", "RunRequest", "result_title"]


@dataclass(frozen=True, kw_only=True)
class RunInput:
    """What the panels say about the next run.

    Parameters
    ----------
    genes
        Genes to upsample; None for all.
    settings
        Settings of the run.
    """

    genes: list[str] | None
    settings: UpsampleSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRequest:
    """A run that is waiting or in progress.

    Parameters
    ----------
    owner
        The open slide that receives the result.
    slide
        The slide in the coordinate system of the region.
    region
        The region; None for the whole slide.
    genes
        Genes to upsample; None for all.
    settings
        Settings of the run.
    against
        The displayed result that the new one is compared with. None (default): the new result is displayed instead.
    cache
        Disk cache for what is fitted to the slide. None (default): no cache.
    """

    owner: SlideSession
    slide: Slide
    region: Region | None
    genes: Sequence[str] | None
    settings: UpsampleSettings
    against: DisplayedResult | None = None
    cache: FitCache | None = None

    @classmethod
    def of(
        cls, owner: SlideSession, region: Region | None, genes: Sequence[str] | None, settings: UpsampleSettings
    ) -> RunRequest:
        """Return a request for the current state of a slide.

        Raises
        ------
        RegionError
            No spot is inside the region.
        """
        if region is not None:
            region.spots(owner.slide)
        return cls(owner=owner, slide=owner.slide, region=region, genes=genes, settings=settings)

    @property
    def title(self) -> str:
        """Slide, region and number of spots, for the status line."""
        n_spots = self.slide.n_spots if self.region is None else int(self.region.spots(self.slide).sum())
        extent = "whole slide" if self.region is None else "region"
        return f"{self.owner.title}, {extent} of {count(n_spots, 'spot')}"

    @property
    def context(self) -> ErrorContext:
        """Slide and settings for an error report."""
        n_genes = None if self.genes is None else len(self.genes)
        return ErrorContext(slide=self.slide, settings=self.settings, n_genes=n_genes)

    def steps(self, should_stop: Callable[[], bool]) -> Generator[Progress, None, DisplayedResult]:
        """Run in a background thread; yield the progress and return the result, ready for display."""
        from napari_srast import api
        from napari_srast.inference.executors.local import ThreadExecutor

        import_run_modules()
        is_srast = self.settings.method == "srast"
        executor = ThreadExecutor(fit=process_pool().fit, cache=self.cache) if is_srast else None
        steps = api.upsample_steps(
            self.slide, self.region, self.genes, self.settings, should_stop=should_stop, executor=executor
        )
        result = yield from steps
        yield Progress("checks", 0, 1, 1.0)
        return prepare_for_display(result)


def result_title(number: int, displayed: DisplayedResult) -> str:
    """Return the entry of a result in the list of results: number, spots, genes, pixel size and unusual settings."""
    result = displayed.result
    n_genes = len(result.genes)
    genes = str(result.genes[0]) if n_genes == 1 else count(n_genes, "gene")
    settings = result.settings
    size = f"×{settings.factor:g}" if settings.pixel_size is None else f"pixels of {settings.pixel_size:g}"
    unusual = [option for option in (settings.method, settings.mode) if option not in ("srast", "mean")]
    return ", ".join([f"{number}: {count(len(result.raster.spots), 'spot')}", genes, size, *unusual])
