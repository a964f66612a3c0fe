"""Estimate the run time and memory of a job, from a fit to ``napari-srast bench`` on two CPU cores.

Shape legend: N spots, G genes, Q pixels, E counts above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_srast.core.limits import (
    EMPTY_PAIR_COST,
    FLOW_DRAWS,
    FLOW_PAIR_BUDGET,
    FLOW_STEPS,
    MAX_CALIBRATION_GENES,
    MAX_HOLDOUT_SPOTS,
    MAX_HOLDOUT_VARIANTS,
    MAX_SASA_TRAINING_SPOTS,
    MIN_HOLDOUT_SPOTS,
    N_PROGRAMS,
    PER_GENE_LIMIT,
    PIXELS_PER_PAIR,
)
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide, check_is_slide
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.inference.rasters import make_rasters
from napari_srast.models.sasa.config import SasaConfig

__all__ = ["MAX_COUNTED", "Estimate", "estimate"]

MAX_COUNTED = 2_000_000
"""Number of pixels up to which an estimate counts them."""

_N_CORES = 2
_LATTICE_SPOTS = 2000  # in the middle of the slide, from which its lattice is detected
_MAX_STREAMED_BYTES = 1e9  # of tiles that wait to be written to a store, and of the genes in its image
_SPOTS_PER_COARSE_SPOT = 4
_PIXELS_PER_NEIGHBOR_SEARCH = 4  # detecting the lattice takes as long per spot as counting four pixels
_SASA = SasaConfig()


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
        Expected run time on two CPU cores.
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

    The figures are fits to runs on two CPU cores without expression and intensity field; only their order of magnitude
    is reliable.

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
    check_is_slide(slide)
    selected = np.ones(slide.n_spots, dtype=bool) if region is None else region.spots(slide)
    n_spots = int(selected.sum())
    n_genes = len(slide.gene_indices(genes))
    pixels_per_spot, side = _pixels_per_spot(slide, settings)
    n_pixels = round(n_spots * pixels_per_spot)
    is_counted = n_pixels + _PIXELS_PER_NEIGHBOR_SEARCH * slide.n_spots <= max_counted
    if is_counted:
        n_pixels = int(make_rasters(slide, slide.centers, selected, settings)[1].sum())
        pixels_per_spot = n_pixels / n_spots
    n_entries = n_pixels * n_genes * _filled_fraction(slide)
    result_bytes = min(12 * n_entries, _MAX_STREAMED_BYTES) if into_store else 12 * n_entries
    if settings.method == "srast":
        seconds = _fit_seconds(slide) + _tile_seconds(slide, n_pixels, n_genes, n_entries, pixels_per_spot, settings)
        memory = 6e8 + 4e3 * slide.n_spots + 30.0 * slide.counts.nnz + result_bytes
    else:
        seconds = 0.3 + _interpolation_seconds(settings.method, pixels_per_spot) * n_pixels * n_genes / _N_CORES
        memory = 3e8 + result_bytes
    return Estimate(
        n_spots=n_spots,
        n_pixels=n_pixels,
        n_genes=n_genes,
        is_counted=is_counted,
        pixels_per_spot=pixels_per_spot,
        pixel_side=side,
        seconds=float(seconds),
        memory_bytes=int(memory),
    )


def _filled_fraction(slide: Slide) -> float:
    """Return the fraction of the slide's counts that are above 0."""
    return float(slide.counts.nnz / max(slide.n_spots * slide.n_genes, 1))


def _pixels_per_spot(slide: Slide, settings: UpsampleSettings) -> tuple[float, float]:
    """Return the mean number of pixels of a spot, and the side of a pixel in units of the coordinate system.

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
    return float(max(1.0, area * pixels_per_pitch**2)), float(lattice.pitch * slide.cs_scale / pixels_per_pitch)


def _coarse_size(slide: Slide) -> tuple[float, float]:
    """Return the number of coarse spots, and the number of variants in which the slide is coarsened."""
    n_coarse = min(slide.n_spots, MAX_HOLDOUT_SPOTS) / _SPOTS_PER_COARSE_SPOT
    return n_coarse, float(np.clip(np.ceil(MIN_HOLDOUT_SPOTS / max(n_coarse, 1)), 1, MAX_HOLDOUT_VARIANTS))


def _fit_seconds(slide: Slide) -> float:
    """Return the seconds of the SASA fit and of the calibration, which run at the same time."""
    panel_seconds = 2.4e-5 * min(slide.n_genes, _SASA.n_panel)  # per epoch

    def sasa_seconds(n_spots: float) -> float:
        return _SASA.epochs * (panel_seconds + 9e-6 * n_spots)

    n_training = min(slide.n_spots, MAX_SASA_TRAINING_SPOTS)
    embedding = 0.5 + sasa_seconds(n_training) + 2.4e-7 * slide.counts.nnz + 1e-4 * slide.n_spots
    n_coarse, n_variants = _coarse_size(slide)
    n_genes = min(slide.n_genes, MAX_CALIBRATION_GENES)
    calibration = n_variants * (0.5 + sasa_seconds(n_coarse) + 5e-5 * n_coarse * n_genes)
    return float(max(embedding, calibration))


def _tile_seconds(
    slide: Slide, n_pixels: int, n_genes: int, n_entries: float, pixels_per_spot: float, settings: UpsampleSettings
) -> float:
    """Return the seconds of scoring the genes and predicting all tiles."""
    cost = _flow_cost(slide, n_genes, pixels_per_spot)
    if n_genes <= PER_GENE_LIMIT or cost <= FLOW_PAIR_BUDGET or settings.mode == "sample":
        scoring = 5e-5 * _coarse_size(slide)[0] * n_genes
        n_calls = 1 + (settings.steps or FLOW_STEPS) * (settings.draws or FLOW_DRAWS) * (settings.mode == "sample")
        return scoring + 1.2e-5 * n_calls * max(n_entries, n_pixels) / _N_CORES
    programs = 1.0 + 1e-6 * slide.counts.nnz + (1.2e-5 * n_pixels * N_PROGRAMS + 6e-8 * n_entries) / _N_CORES
    # The budget is for the whole slide: scoring uses half of it, the tiles of a region only their part of the rest.
    region_fraction = min(1.0, n_pixels / (pixels_per_spot * slide.n_spots))
    return programs + 1.75e-5 * FLOW_PAIR_BUDGET * (1 + region_fraction) / 2


def _flow_cost(slide: Slide, n_genes: int, pixels_per_spot: float) -> float:
    """Return the cost of all genes one by one, in the units of :data:`napari_srast.core.limits.FLOW_PAIR_BUDGET`."""
    filled, pair_cost = _filled_fraction(slide), 1 - EMPTY_PAIR_COST
    n_coarse, n_variants = _coarse_size(slide)
    scoring = n_coarse * n_variants * (EMPTY_PAIR_COST + pair_cost * min(1.0, 3 * filled))
    tiles = slide.n_spots * pixels_per_spot / PIXELS_PER_PAIR * (EMPTY_PAIR_COST + pair_cost * filled)
    return float(n_genes * (tiles + scoring))


def _interpolation_seconds(method: str, pixels_per_spot: float) -> float:
    """Return the seconds of a pixel and gene."""
    n_iterations = float(np.clip(4 * pixels_per_spot, 16, 100)) if method == "pycnophylactic" else 4.0
    return 3e-8 + 1e-8 * n_iterations
