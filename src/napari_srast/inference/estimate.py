"""What a run will take, before it starts: fits to ``napari-srast bench`` on two CPU cores.

Shape legend: N spots, G genes, Q pixels, E counts above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.geometry.lattice import detect_lattice

__all__ = ["Estimate", "estimate"]

_CORES = 2
_LATTICE_SPOTS = 2000  # from the middle of the slide, from which its lattice is told
_FULL_GENES, _FLOW_PAIRS = 512, 1e6  # beyond these the flow splits no more genes by themselves
_STEPS, _DRAWS = 8, 16  # of the flow in mode 'sample'
_PROGRAMS = 24
_WAITING = 1e9  # bytes of units that wait to be written into a store, and of the genes of its image
_EPOCHS, _PANEL, _LEARNED = 150, 1000, 20_000  # of SASA
_CHECKED, _CHECKED_GENES, _COARSE_SPOTS, _VARIANTS = 6000, 160, 300, 4  # of the calibration


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take, before it starts.

    Parameters
    ----------
    n_spots, n_pixels, n_genes
        Size of the job.
    seconds
        Expected time on two CPU cores.
    memory_bytes
        Expected peak memory beyond the slide itself.
    """

    n_spots: int
    n_pixels: int
    n_genes: int
    seconds: float
    memory_bytes: int


def estimate(
    slide: Slide,
    region: Region | None,
    genes: Sequence[str] | None,
    settings: UpsampleSettings,
    *,
    into_store: bool = False,
) -> Estimate:
    """Predict size, time and memory of a run on a slide that was not worked on before, without starting it.

    The figures are fits to runs on two CPU cores; take them as orders of magnitude. A result that goes into a store as
    it is computed (``into_store``) is never held as a whole.
    """
    n_spots = slide.n_spots if region is None else int(region.spots(slide).sum())
    n_genes = len(slide.gene_indices(genes))
    pixels_per_spot = _pixels_per_spot(slide, settings)
    n_pixels = round(n_spots * pixels_per_spot)
    filled = n_pixels * n_genes * slide.counts.nnz / max(slide.n_spots * slide.n_genes, 1)
    held = min(12 * filled, _WAITING) if into_store else 12 * filled
    if settings.method == "srast":
        seconds = _preparation(slide) + _split(slide, n_pixels, n_genes, filled, pixels_per_spot, settings)
        memory = 6e8 + 4e3 * slide.n_spots + 30.0 * slide.counts.nnz + held
    else:
        seconds = 0.3 + _interpolation(settings.method, pixels_per_spot) * n_pixels * n_genes / _CORES
        memory = 3e8 + held
    return Estimate(
        n_spots=n_spots, n_pixels=n_pixels, n_genes=n_genes, seconds=float(seconds), memory_bytes=int(memory)
    )


def _pixels_per_spot(slide: Slide, settings: UpsampleSettings) -> float:
    """Return the pixels that a spot has on average: fewer on hexagons than on squares, whose cells are larger."""
    middle = np.median(slide.centers, axis=0)
    n_some = min(_LATTICE_SPOTS, slide.n_spots)
    some = np.argpartition(((slide.centers - middle) ** 2).sum(axis=1), n_some - 1)[:n_some]
    lattice = detect_lattice(slide.centers[some], slide.spot_diameter)
    across = settings.factor
    if settings.pixel_size is not None:
        across = lattice.pitch * slide.cs_scale / settings.pixel_size
    share = np.sqrt(0.75) if lattice.kind == "hex" else 1.0  # of a square of the pitch
    if settings.footprint == "spot" and slide.spot_diameter:
        disc = 1.0 if slide.spot_shape == "square" else np.pi / 4
        share = min(share, disc * (slide.spot_diameter / lattice.pitch) ** 2)
    return float(max(1.0, share * across**2))


def _preparation(slide: Slide) -> float:
    """Return the seconds of SASA and calibration, which run side by side."""
    panel = 2.4e-5 * min(slide.n_genes, _PANEL)  # of an epoch

    def learn(n_spots: float) -> float:
        return _EPOCHS * (panel + 9e-6 * n_spots)

    aligned = 0.5 + learn(min(slide.n_spots, _LEARNED)) + 2.4e-7 * slide.counts.nnz + 1e-4 * slide.n_spots
    coarse = min(slide.n_spots, _CHECKED) / 4
    variants = np.clip(np.ceil(_COARSE_SPOTS / max(coarse, 1)), 1, _VARIANTS)
    checked = variants * (0.5 + learn(coarse) + 5e-5 * coarse * min(slide.n_genes, _CHECKED_GENES))
    return float(max(aligned, checked))


def _split(
    slide: Slide, n_pixels: int, n_genes: int, filled: float, pixels_per_spot: float, settings: UpsampleSettings
) -> float:
    """Return the seconds of the flow, with all that comes before it for large panels."""
    price = _flow_price(slide, n_genes, pixels_per_spot)
    if n_genes <= _FULL_GENES or price <= _FLOW_PAIRS or settings.mode == "sample":
        check = 5e-5 * min(slide.n_spots, _CHECKED) / 4 * n_genes
        runs = 1 + (settings.steps or _STEPS) * (settings.draws or _DRAWS) * (settings.mode == "sample")
        return check + 1.2e-5 * runs * max(filled, n_pixels) / _CORES
    shared = 1.0 + 1e-6 * slide.counts.nnz + (1.2e-5 * n_pixels * _PROGRAMS + 6e-8 * filled) / _CORES
    inside = min(1.0, n_pixels / (pixels_per_spot * slide.n_spots))  # the check is of the whole slide, the split is not
    return shared + 1.75e-5 * _FLOW_PAIRS * (1 + inside) / 2


def _flow_price(slide: Slide, n_genes: int, pixels_per_spot: float) -> float:
    """Return what the flow of single genes would cost, as :data:`napari_srast.inference.methods.srast.FLOW_PAIR_BUDGET` counts it."""
    share = slide.counts.nnz / max(slide.n_spots * slide.n_genes, 1)
    coarse = min(slide.n_spots, _CHECKED) / 4
    variants = np.clip(np.ceil(_COARSE_SPOTS / max(coarse, 1)), 1, _VARIANTS)
    of_check = coarse * variants * (0.2 + 0.8 * min(1.0, 3 * share))
    return float(n_genes * (slide.n_spots * pixels_per_spot / 4 * (0.2 + 0.8 * share) + of_check))


def _interpolation(method: str, pixels_per_spot: float) -> float:
    """Return the seconds of a pixel and gene."""
    rounds = float(np.clip(4 * pixels_per_spot, 16, 100)) if method == "pycnophylactic" else 4.0
    return 3e-8 + 1e-8 * rounds
