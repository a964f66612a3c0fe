"""From a slide and a region to upsampled counts, in steps that can be watched and stopped."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from scipy import sparse

from napari_srast import __version__
from napari_srast.errors import Cancelled
from napari_srast.geometry.raster import make_raster
from napari_srast.slide import Progress, Region, Slide, UpsampleResult, UpsampleSettings

__all__ = ["Estimate", "estimate", "upsample", "upsample_steps"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take, before it starts.

    Parameters
    ----------
    n_spots, n_pixels, n_genes
        Size of the job.
    seconds
        Expected time on this device.
    memory_bytes
        Expected peak memory beyond the slide itself.
    """

    n_spots: int
    n_pixels: int
    n_genes: int
    seconds: float
    memory_bytes: int


def upsample(
    slide: Slide,
    region: Region | None = None,
    genes: Sequence[str] | None = None,
    *,
    settings: UpsampleSettings | None = None,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    **options: object,
) -> UpsampleResult:
    """TEMPORARY body, see upsample_steps."""
    settings = settings or UpsampleSettings(**options)  # type: ignore[arg-type]
    steps = upsample_steps(slide, region, genes, settings, should_stop=should_stop)
    while True:
        try:
            step = next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        if progress is not None:
            progress(step)


def upsample_steps(
    slide: Slide,
    region: Region | None,
    genes: Sequence[str] | None,
    settings: UpsampleSettings,
    *,
    should_stop: Callable[[], bool] | None = None,
) -> Generator[Progress, None, UpsampleResult]:
    """Run step by step: a generator of few, large steps that yields Progress and returns the UpsampleResult."""
    start = time.perf_counter()
    mask = None if region is None else region.spots(slide)
    columns = slide.gene_indices(genes)
    pixel_size = None if settings.pixel_size is None else settings.pixel_size / slide.cs_scale
    raster = make_raster(
        slide.centers,
        factor=settings.factor,
        pixel_size=pixel_size,
        footprint=settings.footprint,
        selected=mask,
        spot_diameter=slide.spot_diameter,
        spot_shape=slide.spot_shape,
    )
    yield Progress("raster", 1, 1, 0.1)
    if should_stop is not None and should_stop():
        raise Cancelled
    split = sparse.csr_matrix(
        (1 / raster.counts_per_spot[raster.parent], (np.arange(raster.n_pixels), raster.parent)),
        shape=(raster.n_pixels, slide.n_spots),
    )
    counts = (split @ slide.counts[:, columns]).astype(np.float32).tocsr()
    yield Progress("split", 1, 1, 1.0)
    return UpsampleResult(
        counts=counts,
        std=None,
        genes=slide.genes[columns],
        skill=np.zeros(len(columns)),
        method=np.array(["uniform"] * len(columns)),
        raster=raster,
        slide=slide,
        region=region,
        settings=settings,
        run=f"{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(2)}",
        provenance={"version": __version__, "seconds": {"total": time.perf_counter() - start}},
    )


def estimate(slide: Slide, region: Region | None, genes: Sequence[str] | None, settings: UpsampleSettings) -> Estimate:
    """Predict size, time and memory of a run without starting it."""
    n_spots = slide.n_spots if region is None else int(region.spots(slide).sum())
    n_genes = len(slide.gene_indices(genes))
    n_pixels = int(n_spots * settings.factor**2)
    return Estimate(
        n_spots=n_spots, n_pixels=n_pixels, n_genes=n_genes, seconds=10.0, memory_bytes=n_pixels * n_genes * 8
    )
