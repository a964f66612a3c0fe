"""Estimate the run time and memory of a job, and refuse a job that does not fit into the memory.

Shape legend: N spots, G genes, Q pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_srast._utils.free_memory import available_memory, obtainable_memory
from napari_srast._utils.machine_speed import machine_speed
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide, check_is_slide
from napari_srast.errors import DeviceError
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.inference.costs import JobSize, run_bytes, run_seconds, tile_threads
from napari_srast.inference.rasters import make_rasters
from napari_srast.io.result_images import MAX_EXPRESSION_ENTRIES, MAX_EXPRESSION_GENES, MAX_IMAGE_GENES

__all__ = ["CHECK_MEMORY_VARIABLE", "MAX_COUNTED", "Estimate", "estimate", "require_memory"]

MAX_COUNTED = 2_000_000
"""Number of pixels up to which an estimate counts them."""
CHECK_MEMORY_VARIABLE = "NAPARI_SRAST_CHECK_MEMORY"
"""Environment variable; 0 starts runs that need more memory than there is by their estimate."""

_LATTICE_SPOTS = 2000  # in the middle of the slide, from which its lattice is detected
_PIXELS_PER_NEIGHBOR_SEARCH = 4  # detecting the lattice takes as long per spot as counting four pixels
_FEWER_GENES = (5000, 2000, 1000, 500, 200, 100, 50, 20, 10, 5, 1)
_LOWER_FACTORS = (8.0, 6.0, 4.0, 3.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Size, run time and memory of a job.

    Parameters
    ----------
    n_spots, n_pixels, n_genes
        Size of the job.
    is_counted
        Whether ``n_pixels`` was counted, so that it is the number of the run; otherwise it is accurate to 10%.
    pixels_per_spot
        Mean number of pixels of a spot.
    pixel_side
        Side of a pixel, in units of the chosen coordinate system.
    seconds
        Expected run time on this computer.
    memory_bytes
        Expected peak memory beyond the slide itself.
    """

    n_spots: int
    n_pixels: int
    n_genes: int
    is_counted: bool
    pixels_per_spot: float
    pixel_side: float
    seconds: float
    memory_bytes: int


def estimate(
    slide: Slide,
    region: Region | None,
    genes: Sequence[str] | None,
    settings: UpsampleSettings,
    *,
    into_store: bool = False,
    max_counted: int = MAX_COUNTED,
) -> Estimate:
    """Estimate size, run time and memory of a job without running it, with a cold cache.

    The figures are fits to measured runs, and profiles of single ones (docs/performance.md). The run time is scaled by
    the speed and the number of cores of this computer.

    Parameters
    ----------
    slide
        The slide.
    region
        The region; None for the whole slide.
    genes
        Gene names; None for all genes.
    settings
        Settings of the run.
    into_store
        Whether the result is written to a store while it is computed, so that it is never in memory as a whole.
        Default: False.
    max_counted
        Largest number of pixels that are counted; more are estimated. Counting a million takes about three seconds.

    Raises
    ------
    SrastError
        The region, the genes or the settings cannot be used with this slide.

    Examples
    --------
    >>> import napari_srast as srast
    >>> slide = srast.synthetic_colon()  # doctest: +SKIP
    >>> srast.estimate(slide, None, ["MUC2"], srast.UpsampleSettings(factor=4)).n_genes  # doctest: +SKIP
    1
    """
    size, selected, side = _job_size(slide, region, genes, settings)
    is_counted = size.n_pixels + _PIXELS_PER_NEIGHBOR_SEARCH * slide.n_spots <= max_counted
    if is_counted:
        n_pixels = int(make_rasters(slide, slide.centers, selected, settings)[1].sum())
        size = _with_pixels(size, n_pixels, n_pixels / selected.sum())
    n_threads = _n_threads(size)
    return Estimate(
        n_spots=int(selected.sum()),
        n_pixels=size.n_pixels,
        n_genes=size.n_genes,
        is_counted=is_counted,
        pixels_per_spot=size.pixels_per_spot,
        pixel_side=side,
        seconds=float(run_seconds(size, n_threads) / machine_speed()),
        memory_bytes=int(run_bytes(size, n_threads, into_store=into_store)),
    )


def require_memory(slide: Slide, region: Region | None, genes: Sequence[str] | None, settings: UpsampleSettings) -> int:
    """Refuse a job that needs more memory than this computer can provide, even if it predicts one tile at a time.

    Results in memory are counted like those that are written to a store, because large ones are kept in a scratch file.
    The environment variable :data:`CHECK_MEMORY_VARIABLE` turns the refusal off, because an estimate can be too high.

    Parameters
    ----------
    slide, region, genes, settings
        As for :func:`estimate`.

    Returns
    -------
    int
        Number of tiles to predict at the same time, at least 1.

    Raises
    ------
    DeviceError
        The job needs more memory than there is; the message says which part of it would fit.
    """
    size, selected, _ = _job_size(slide, region, genes, settings)
    obtainable = obtainable_memory()

    def fits(smaller: JobSize) -> bool:
        return run_bytes(smaller, 1, into_store=True) <= obtainable

    if fits(size) or os.environ.get(CHECK_MEMORY_VARIABLE) == "0":
        return _n_threads(size)
    needed = run_bytes(size, 1, into_store=True)
    raise DeviceError(
        f"This run needs about {_gigabytes(needed)} of memory besides the slide, and this computer can provide "
        f"{_gigabytes(obtainable)}; close other programs{_what_fits(size, int(selected.sum()), fits)} "
        f"({CHECK_MEMORY_VARIABLE}=0 starts it all the same)."
    )


def _n_threads(size: JobSize) -> int:
    """Return how many tiles of a job this computer has cores and free memory for, at least 1."""
    free = available_memory()
    return next((n for n in range(tile_threads(), 1, -1) if run_bytes(size, n, into_store=True) <= free), 1)


def _what_fits(size: JobSize, n_spots: int, fits: Callable[[JobSize], bool]) -> str:
    """Return changes of a job with which it fits into the memory, as the end of a sentence."""
    settings, changes = size.settings, []
    genes = next((n for n in _FEWER_GENES if n < size.n_genes and fits(_with_genes(size, n))), None)
    if genes is not None:
        changes.append(f"choose at most {genes:,} genes")
    fraction = next(
        (1 / n for n in (2, 4, 8, 16) if n <= n_spots and fits(_with_pixels(size, size.n_pixels // n))), None
    )
    if fraction is not None:
        changes.append(f"a region of at most {round(n_spots * fraction):,} spots")
    for factor in _LOWER_FACTORS:
        pixels_per_spot = size.pixels_per_spot * (factor / settings.factor) ** 2
        lower = _with_pixels(size, round(n_spots * pixels_per_spot), pixels_per_spot)
        if settings.pixel_size is None and factor < settings.factor and fits(lower):
            changes.append(f"factor {factor:g}")
            break
    if not changes and size.n_expression and fits(replace(size, n_expression=0)):
        changes.append("expression 'none'")
    if not changes:
        return ", or use a computer with more memory: no choice of genes or region makes this slide fit"
    return ", or " + ", ".join(changes[:-1]) + (" or " if len(changes) > 1 else "") + changes[-1]


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB"


def _job_size(
    slide: Slide, region: Region | None, genes: Sequence[str] | None, settings: UpsampleSettings
) -> tuple[JobSize, np.ndarray, float]:
    """Return the size of a job with an estimated number of pixels, its spots (N,), and the side of a pixel."""
    check_is_slide(slide)
    selected = np.ones(slide.n_spots, dtype=bool) if region is None else region.spots(slide)
    n_genes = len(slide.gene_indices(genes))
    pixels_per_spot, side = _pixels_per_spot(slide, settings)
    n_pixels = round(int(selected.sum()) * pixels_per_spot)
    size = JobSize(
        n_spots=slide.n_spots,
        n_slide_genes=slide.n_genes,
        n_entries=slide.counts.nnz,
        n_pixels=n_pixels,
        n_genes=n_genes,
        pixels_per_spot=pixels_per_spot,
        n_expression=0,
        settings=settings,
    )
    return _with_genes(size, n_genes), selected, side


def _with_genes(size: JobSize, n_genes: int) -> JobSize:
    """Return a job with another number of genes."""
    choice = size.settings.expression
    is_small = n_genes <= MAX_EXPRESSION_GENES and size.n_pixels * n_genes < MAX_EXPRESSION_ENTRIES
    n_expression = n_genes if is_small else min(n_genes, MAX_IMAGE_GENES)
    if choice == "none":
        n_expression = 0
    elif not isinstance(choice, str):
        n_expression = min(len(choice), n_genes)
    return replace(size, n_genes=n_genes, n_expression=n_expression)


def _with_pixels(size: JobSize, n_pixels: int, pixels_per_spot: float | None = None) -> JobSize:
    """Return a job with another number of pixels."""
    per_spot = size.pixels_per_spot if pixels_per_spot is None else pixels_per_spot
    return _with_genes(replace(size, n_pixels=n_pixels, pixels_per_spot=float(per_spot)), size.n_genes)


def _pixels_per_spot(slide: Slide, settings: UpsampleSettings) -> tuple[float, float]:
    """Return the mean number of pixels of a spot, and a pixel's side in units of the coordinate system.

    A spot has fewer pixels on a hexagonal than on a square lattice of the same pitch.
    """
    middle = np.median(slide.centers, axis=0)
    n_sample = min(_LATTICE_SPOTS, slide.n_spots)
    sample = np.argpartition(((slide.centers - middle) ** 2).sum(axis=1), n_sample - 1)[:n_sample]
    lattice = detect_lattice(slide.centers[sample], slide.spot_diameter)
    pixels_per_pitch = settings.factor
    if settings.pixel_size is not None:
        pixels_per_pitch = lattice.pitch * slide.cs_scale / settings.pixel_size
    area = np.sqrt(0.75) if lattice.kind == "hex" else 1.0  # of a spot's cell, in squares of the pitch
    if settings.footprint == "spot" and slide.spot_diameter:
        disc = 1.0 if slide.spot_shape == "square" else np.pi / 4
        area = min(area, disc * (slide.spot_diameter / lattice.pitch) ** 2)
    side = float(lattice.pitch * slide.cs_scale / pixels_per_pitch)
    return float(max(1.0, area * pixels_per_pitch**2)), side
