"""What is known of fields over the whole slide: fitted once, then enough to split any part of the slide as the whole.

Shape legend: N spots, F fields, C features of the denoiser, L spots of a neighborhood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation.gaussian_process import FittedProcess, GaussianProcessGrid
from napari_srast.models.sasa.embedding import RidgeDenoiser, SlideEmbedding

__all__ = ["FieldStatistics", "describe_fields", "level_neighbors", "summarize_fields"]

_LEVEL_NEIGHBOURS = 7
_SPARE = 4  # more are looked up than kept, so that ties at the last place can be broken
_BLOCK_VALUES = 2_000_000  # spots x fields in work at once


@dataclass(frozen=True, kw_only=True, eq=False)
class FieldStatistics:
    """What the parts of a slide must know of the fields over all its spots.

    Parameters
    ----------
    denoising
        Denoises the fields anywhere on the slide.
    raw, denoised
        Gaussian processes of the fields as counted and as denoised.
    totals
        Gaussian process of the spots' totals (one field).
    description
        Per field: smoothness, dependence on the totals, log mean; shape (F, 3).
    """

    denoising: RidgeDenoiser
    raw: FittedProcess
    denoised: FittedProcess
    totals: FittedProcess
    description: np.ndarray

    def __getitem__(self, fields: slice) -> FieldStatistics:
        """Return what is known of some fields."""
        return FieldStatistics(
            denoising=self.denoising[fields],
            raw=self.raw[fields],
            denoised=self.denoised[fields],
            totals=self.totals,
            description=self.description[fields],
        )


def summarize_fields(layout: SpotPixelMap, pool: SlideEmbedding, counts: sparse.csr_matrix) -> FieldStatistics:
    """Summarize fields over all spots of a slide.

    Parameters
    ----------
    layout
        The slide's spots.
    pool
        Their features.
    counts
        The fields, shape (N, F).
    """
    grid = GaussianProcessGrid(layout.spots, layout.pitch)
    near = level_neighbors(layout, np.log1p(pool.totals))
    columns = sparse.csc_matrix(counts)
    size = int(np.clip(_BLOCK_VALUES // max(layout.n_spots, 1), 1, 256))
    raw, denoised, denoising, description = [], [], [], []
    for start in range(0, counts.shape[1], size):
        block = sparse.csr_matrix(columns[:, start : start + size])
        dense = block.toarray().astype(np.float64)
        denoising.append(pool.fit_denoising(block))
        raw.append(grid.fit(dense))
        denoised.append(grid.fit(denoising[-1].at(pool.surroundings, pool.depth)))
        description.append(describe_fields(dense, dense[near].mean(axis=1), near.shape[1], pool.totals))
    return FieldStatistics(
        denoising=RidgeDenoiser.join(denoising),
        raw=FittedProcess.join(raw),
        denoised=FittedProcess.join(denoised),
        totals=grid.fit(pool.totals[:, None]),
        description=np.concatenate(description),
    )


def describe_fields(raw: np.ndarray, level: np.ndarray, n_level: int, totals: np.ndarray) -> np.ndarray:
    """Return smoothness, dependence on the totals and log mean of each field, shape (F, 3).

    Parameters
    ----------
    raw, level
        Counts of all spots, and their mean over each spot and its neighbors, shape (N, F).
    n_level
        Spots that such a mean is over.
    totals
        Total counts of the spots, shape (N,).
    """
    around = (level * n_level - raw) / max(n_level - 1, 1)
    return np.column_stack(
        [
            _correlation(np.log1p(raw), np.log1p(around)),
            _correlation(np.log1p(raw), np.log1p(totals)[:, None]),
            np.log(raw.mean(axis=0) + 0.01),
        ]
    )


def level_neighbors(layout: SpotPixelMap, log_total: np.ndarray) -> np.ndarray:
    """Return the nearest spots of each spot (N, L), itself first; what they hold breaks ties."""
    n_near = min(_LEVEL_NEIGHBOURS + _SPARE, layout.n_spots)
    distance, index = cKDTree(layout.spots).query(layout.spots, k=n_near)
    distance, index = distance.reshape(layout.n_spots, n_near), index.reshape(layout.n_spots, n_near)
    order = np.lexsort((log_total[index], np.rint(distance / layout.pitch * 1e4)), axis=1)
    return np.take_along_axis(index, order[:, :_LEVEL_NEIGHBOURS], 1)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the correlation over spots of paired columns; 0 where one of them is constant."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(scale > 0, (a * b).sum(axis=0) / np.where(scale > 0, scale, 1), 0.0)
