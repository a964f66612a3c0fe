"""Sample pseudo-slides whose spots measure discs with gaps between them, as most arrays do.

The counts of a spot are those of its disc; the truth is that of its whole cell, also outside the disc. Every count of
the high-resolution slide is assigned at random to the measurement or to the truth: if a spot measures a part of its
cell, counts that are in both would make that part look richer than it is. Only spots whose cell is inside the convex
hull of the observations take part. Beyond it nothing was observed, and a network would learn that counts avoid the
border of a field of view.

Shape legend: N spots, Q pixels, G genes, n cells, beads or bins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.errors import InputError
from napari_srast.geometry.binning import bin_points, coarsen_points
from napari_srast.geometry.disc_support import DiscSupport
from napari_srast.geometry.raster import Raster, make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.training.crops import area_per_point, crop_mask, interior_spots
from napari_srast.training.pseudo_slides import CoarseCounts, PseudoSlide, prepare_pseudo_slide
from napari_srast.training.sources import SamplingContext

__all__ = ["sample_discs"]

_MIN_SPOT_COUNTS = 3
_VISIUM_DIAMETER = 0.55  # pitches: that of half of the pseudo-slides
_HEXAGONAL = 0.75  # of the pseudo-slides
_MOST_VALUES = 400_000  # pixels x single genes of a pseudo-slide


@dataclass(frozen=True, kw_only=True)
class _Array:
    """Array of a pseudo-slide; the diameter is in pitches."""

    lattice: Literal["square", "hex"]
    pitch: float
    diameter: float
    factor: float


def sample_discs(
    points: np.ndarray, counts: sparse.csr_matrix, context: SamplingContext, rng: np.random.Generator, *, crop: bool
) -> PseudoSlide | None:
    """Measure a high-resolution slide by an array of discs.

    Parameters
    ----------
    points
        Positions of cells, beads or bins, shape (n, 2).
    counts
        Their counts, shape (n, G).
    context
        Source slide, ranges and SASA settings.
    rng
        Random generator.
    crop
        Whether spots are missing, and end along a line or a circle.

    Returns
    -------
    PseudoSlide or None
        Not scored; None if too few spots are inside the slide.
    """
    settings = context.settings
    points, counts = _nearest(points, counts, settings.most_observations, rng)
    area = area_per_point(points)
    low, high = settings.disc_cells_per_spot
    high = max(1.0, min(high, len(points) / (1.3 * settings.least_spots)))
    cells = float(np.exp(rng.uniform(np.log(min(low, high)), np.log(high))))
    array = _Array(
        lattice="hex" if rng.random() < _HEXAGONAL else "square",
        pitch=float(np.sqrt(area * cells)),
        diameter=_VISIUM_DIAMETER if rng.random() < 0.5 else float(rng.uniform(*settings.disc_diameters)),
        factor=float(rng.choice(settings.disc_factors)),
    )
    points, counts = _nearest(points, counts, int(settings.disc_pixels / array.factor**2 * cells), rng)
    fraction = float(rng.choice(settings.disc_thinning))
    measured, unseen = _split(counts, fraction, rng)
    try:
        rebinned = coarsen_points(
            points,
            counts,
            pitch=array.pitch,
            lattice=array.lattice,
            factor=array.factor,
            angle=float(rng.uniform(0, np.pi / 2)),
            offset=tuple(rng.uniform(0, array.pitch, 2)),
            min_counts=5,
        )
    except InputError:  # no spot has enough counts
        return None
    centers = rebinned.centers[interior_spots(rebinned.raster, points)]
    if crop:
        centers = centers[crop_mask(centers, settings, rng)]
    while len(centers) >= 0.6 * settings.least_spots:
        raster = make_raster(centers, factor=array.factor, spot_diameter=array.pitch)
        spot_counts = _sum_over_discs(raster, centers, points, measured, array)
        enough = np.asarray(spot_counts.sum(axis=1)).ravel() >= _MIN_SPOT_COUNTS
        if enough.all():
            break
        centers = centers[enough]  # the pixels of the others change
    else:
        return None
    support = DiscSupport(diameter=array.diameter, pixel_size=1 / array.factor)
    coarse = CoarseCounts(
        layout=SpotPixelMap.of_raster(centers, raster),
        counts=spot_counts,
        truth=sparse.csr_matrix(bin_points(raster, points, unseen), dtype=np.float32),
        description=f"discs of {array.diameter:.2f}, {array.lattice} pitch {array.pitch:.4g} factor {array.factor:g} "
        f"depth {fraction:g}",
        scored=False,
        support=support,
    )
    fields = min(settings.fields, max(1, _MOST_VALUES // raster.n_pixels))
    return prepare_pseudo_slide(coarse, replace(context, settings=replace(settings, fields=fields)), rng)


def _nearest(
    points: np.ndarray, counts: sparse.csr_matrix, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Return the observations that are nearest to a random one, at most some number of them."""
    if len(points) <= most:
        return points, counts
    nearest = cKDTree(points).query(points[rng.integers(len(points))], k=most)[1]
    return points[nearest], counts[nearest]


def _split(
    counts: sparse.csr_matrix, fraction: float, rng: np.random.Generator
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Assign a random fraction of all counts to the measurement, and the others to the truth."""
    measured, unseen = counts.copy(), counts.copy()
    whole = np.rint(counts.data).astype(np.int64)
    measured.data = rng.binomial(whole, fraction).astype(np.float32)
    unseen.data = (whole - measured.data).astype(np.float32)
    for one in (measured, unseen):
        one.eliminate_zeros()
    return measured, unseen


def _sum_over_discs(
    raster: Raster, centers: np.ndarray, points: np.ndarray, counts: sparse.csr_matrix, array: _Array
) -> sparse.csr_matrix:
    """Sum counts over the disc of each spot, (N, G); a disc ends where the spot's cell ends."""
    pixel = raster.locate(points)
    found = np.flatnonzero(pixel >= 0)
    parent = raster.parent[pixel[found]]
    in_disc = np.linalg.norm(points[found] - centers[parent], axis=1) <= array.diameter * array.pitch / 2
    shape = (len(centers), len(points))
    discs = sparse.csr_matrix((np.ones(int(in_disc.sum())), (parent[in_disc], found[in_disc])), shape=shape)
    return sparse.csr_matrix(discs @ counts, dtype=np.float32)
