"""Sample pseudo-slides: low-resolution slides whose fine truth is available.

A high-resolution slide (cells, beads or fine bins) is re-binned on a random lattice: hexagonal or square, with any
rotation, offset, pitch, factor and depth. A low-resolution slide is coarsened, so that its own spots are the truth.
Spots cover their cells; :mod:`napari_srast.training.disc_sampling` samples those that measure discs.

Shape legend: N spots, Q pixels, G genes, n cells, beads or bins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.geometry.binning import bin_points, coarsen_points
from napari_srast.geometry.coarsening import coarsen_slide
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.training.crops import area_per_point, crop_mask, interior_spots
from napari_srast.training.disc_sampling import sample_discs
from napari_srast.training.pseudo_slides import CoarseCounts, PseudoSlide, prepare_pseudo_slide
from napari_srast.training.sources import PseudoSlideSettings, SamplingContext, SourceSlide, read_source

__all__ = ["make_pseudo_slides"]

_MIN_COARSE_SPOTS = 12
_N_COARSENINGS = 4  # ways to group the spots of a lattice


def make_pseudo_slides(
    source: SourceSlide, settings: PseudoSlideSettings, sasa: SasaConfig, seed: int
) -> Iterator[PseudoSlide]:
    """Yield the pseudo-slides of one source; samples that are too small are skipped.

    Parameters
    ----------
    source
        Slide or procedural tissue to sample from.
    settings
        Ranges of the pseudo-slides.
    sasa
        How SASA is fitted to each pseudo-slide.
    seed
        Random seed; it is combined with the source's name.
    """
    points, counts = read_source(source)
    sample = _coarsen if source.resolution == "low" else _rebin
    context = SamplingContext(source=source, settings=settings, sasa=sasa)
    rng = np.random.default_rng([seed, *source.name.encode()])
    for _ in range(source.cases):
        pseudo_slide = sample(points, counts, context, rng, crop=source.is_procedural)
        if pseudo_slide is not None:
            yield pseudo_slide
    rng = np.random.default_rng([seed, 1, *source.name.encode()])
    for _ in range(0 if source.is_procedural else settings.windows):
        pseudo_slide = sample(points, counts, context, rng, crop=True)
        if pseudo_slide is not None:
            yield pseudo_slide
    rng = np.random.default_rng([seed, 2, *source.name.encode()])
    n_discs = {"low": 0, "procedural": min(settings.discs, 1)}.get(source.resolution, settings.discs)
    for i in range(n_discs):
        crop = source.is_procedural or i % 2 == 1
        pseudo_slide = sample_discs(points, counts, context, rng, crop=crop)
        if pseudo_slide is not None:
            yield pseudo_slide


def _rebin(
    points: np.ndarray, counts: sparse.csr_matrix, context: SamplingContext, rng: np.random.Generator, *, crop: bool
) -> PseudoSlide | None:
    """Re-bin a high-resolution slide on a random lattice."""
    settings = context.settings
    if len(points) > settings.most_observations:
        nearest = cKDTree(points).query(points[rng.integers(len(points))], k=settings.most_observations)[1]
        points, counts = points[nearest], counts[nearest]
    area = area_per_point(points)
    low, high = settings.cells_per_spot
    high = max(low, min(high, len(points) / (1.3 * settings.least_spots)))
    pitch = float(np.sqrt(area * np.exp(rng.uniform(np.log(min(low, high)), np.log(high)))))
    lattice: Literal["square", "hex"] = "square" if rng.random() < 0.5 else "hex"
    factor = float(rng.choice(settings.factors))
    fraction = float(rng.choice(settings.thinning))
    counts = _thin(counts, fraction, rng)
    rebinned = coarsen_points(
        points,
        counts,
        pitch=pitch,
        lattice=lattice,
        factor=factor,
        angle=float(rng.uniform(0, np.pi / 2)),
        offset=tuple(rng.uniform(0, pitch, 2)),
        min_counts=5,
    )
    if len(rebinned.centers) < settings.least_spots * 0.6:
        return None
    description = f"{lattice} pitch {pitch:.4g} factor {factor:g} depth {fraction:g}"
    if not crop:
        coarse = CoarseCounts(
            layout=rebinned.layout,
            counts=rebinned.counts,
            truth=rebinned.truth,
            description=description,
            interior=interior_spots(rebinned.raster, points),
        )
        return prepare_pseudo_slide(coarse, context, rng)
    centers = rebinned.centers[crop_mask(rebinned.centers, settings, rng)]
    raster = make_raster(centers, factor=factor, spot_diameter=pitch)
    layout, truth = SpotPixelMap.of_raster(centers, raster), bin_points(raster, points, counts)
    if context.source.is_procedural:
        truth = _apply_capture_noise(truth, layout, settings.capture_noise, rng)
    spot_counts = sparse.csr_matrix(layout.membership @ truth, dtype=np.float32)
    coarse = CoarseCounts(
        layout=layout, counts=spot_counts, truth=truth, description=f"crop of {description}", scored=False
    )
    return prepare_pseudo_slide(coarse, context, rng)


def _coarsen(
    points: np.ndarray, counts: sparse.csr_matrix, context: SamplingContext, rng: np.random.Generator, *, crop: bool
) -> PseudoSlide | None:
    """Coarsen a low-resolution slide; its own spots are the truth."""
    fraction = float(rng.choice(context.settings.thinning))
    counts = _thin(counts, fraction, rng)
    description, variant = f"coarsened once, depth {fraction:g}", 0
    if crop:
        description, variant = f"crop of {description}", int(rng.integers(_N_COARSENINGS))
        mask = crop_mask(points, context.settings, rng)
        points, counts = points[mask], counts[mask]
    coarse = coarsen_slide(points, counts, detect_lattice(points), seed=int(rng.integers(2**31)), variant=variant)
    if coarse is None or coarse.layout.n_spots < _MIN_COARSE_SPOTS:
        return None
    coarse_counts = CoarseCounts(
        layout=coarse.layout, counts=coarse.counts, truth=coarse.truth, description=description, scored=not crop
    )
    return prepare_pseudo_slide(coarse_counts, context, rng)


def _apply_capture_noise(
    truth: sparse.csr_matrix, layout: SpotPixelMap, noise: tuple[float, ...], rng: np.random.Generator
) -> sparse.csr_matrix:
    """Thin each spot, each pixel and each gene of a pixel by a log-normal efficiency of at most 1."""
    spot_noise, pixel_noise, entry_noise = rng.choice(noise, 3)
    log_efficiency = spot_noise * (rng.normal(size=layout.n_spots)[layout.parent] - 1.5)
    log_efficiency += pixel_noise * (rng.normal(size=layout.n_pixels) - 1.5)
    log_fraction = np.repeat(log_efficiency, np.diff(truth.indptr)) + entry_noise * (rng.normal(size=truth.nnz) - 1.5)
    truth = truth.copy()
    captured = rng.binomial(np.rint(truth.data).astype(np.int64), np.exp(np.minimum(log_fraction, 0.0)))
    truth.data = captured.astype(np.float32)
    truth.eliminate_zeros()
    return truth


def _thin(counts: sparse.csr_matrix, fraction: float, rng: np.random.Generator) -> sparse.csr_matrix:
    """Keep each count with a probability of ``fraction``, as if the tissue were sequenced less deeply."""
    if fraction >= 1:
        return counts
    counts = counts.copy()
    counts.data = rng.binomial(np.rint(counts.data).astype(np.int64), fraction).astype(np.float32)
    counts.eliminate_zeros()
    return counts
