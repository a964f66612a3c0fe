"""Summarize fields over a whole slide, so that any tile of it gets the same inputs as the whole slide would.

Shape legend: N spots, F fields, C features of the denoiser, L spots of a local level.
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

_N_LEVEL_NEIGHBORS = 7
_EXTRA_NEIGHBORS = 4  # candidates beyond the neighbors in use: ties at the last rank are broken among them
_BLOCK_VALUES = 2_000_000  # spots x fields per block, which bounds the memory


@dataclass(frozen=True, kw_only=True, eq=False)
class FieldStatistics:
    """Hold what a tile needs of its fields from the whole slide.

    Parameters
    ----------
    denoiser
        Denoiser of the fields.
    raw, denoised
        Gaussian processes of the observed and of the denoised fields.
    totals
        Gaussian process of the total counts per spot (one field).
    descriptors
        Smoothness, correlation with the totals and log mean of each field, shape (F, 3).
    """

    denoiser: RidgeDenoiser
    raw: FittedProcess
    denoised: FittedProcess
    totals: FittedProcess
    descriptors: np.ndarray

    def __getitem__(self, fields: slice) -> FieldStatistics:
        """Return the statistics of some fields."""
        return FieldStatistics(
            denoiser=self.denoiser[fields],
            raw=self.raw[fields],
            denoised=self.denoised[fields],
            totals=self.totals,
            descriptors=self.descriptors[fields],
        )


def summarize_fields(layout: SpotPixelMap, embedding: SlideEmbedding, counts: sparse.csr_matrix) -> FieldStatistics:
    """Fit denoiser, Gaussian processes and descriptors of fields over all spots of a slide.

    Parameters
    ----------
    layout
        All spots of the slide.
    embedding
        Embedding of the slide.
    counts
        Counts of the fields, shape (N, F).
    """
    grid = GaussianProcessGrid(layout.spots, layout.pitch)
    level = level_neighbors(layout, np.log1p(embedding.totals))
    columns = sparse.csc_matrix(counts)
    size = int(np.clip(_BLOCK_VALUES // max(layout.n_spots, 1), 1, 256))
    raw, denoised, denoisers, descriptors = [], [], [], []
    for start in range(0, counts.shape[1], size):
        block = sparse.csr_matrix(columns[:, start : start + size])
        dense = block.toarray().astype(np.float64)
        denoisers.append(embedding.fit_denoiser(block))
        raw.append(grid.fit(dense))
        denoised.append(grid.fit(denoisers[-1].denoise(embedding.neighborhood_mean, embedding.size_factor)))
        descriptors.append(describe_fields(dense, dense[level].mean(axis=1), level.shape[1], embedding.totals))
    return FieldStatistics(
        denoiser=RidgeDenoiser.join(denoisers),
        raw=FittedProcess.join(raw),
        denoised=FittedProcess.join(denoised),
        totals=grid.fit(embedding.totals[:, None]),
        descriptors=np.concatenate(descriptors),
    )


def describe_fields(raw: np.ndarray, level: np.ndarray, n_level: int, totals: np.ndarray) -> np.ndarray:
    """Compute smoothness, correlation with the totals and log mean of each field.

    Smoothness is the correlation over spots of ``log(1 + n)`` with that of the mean over the other spots of the local
    level.

    Parameters
    ----------
    raw
        Counts of all spots, shape (N, F).
    level
        Mean counts over each spot and its neighbors, shape (N, F).
    n_level
        Number of spots in such a mean, L.
    totals
        Total counts of the spots, shape (N,).

    Returns
    -------
    np.ndarray
        Shape (F, 3).
    """
    neighbor_mean = (level * n_level - raw) / max(n_level - 1, 1)
    return np.column_stack(
        [
            _correlation(np.log1p(raw), np.log1p(neighbor_mean)),
            _correlation(np.log1p(raw), np.log1p(totals)[:, None]),
            np.log(raw.mean(axis=0) + 0.01),
        ]
    )


def level_neighbors(layout: SpotPixelMap, log_total: np.ndarray) -> np.ndarray:
    """Return the indices of the nearest spots of each spot, itself first; log totals break ties.

    Parameters
    ----------
    layout
        Spots.
    log_total
        Log total counts of the spots, shape (N,).

    Returns
    -------
    np.ndarray
        Shape (N, L) with L = 7, or fewer if the slide has fewer spots.
    """
    n_near = min(_N_LEVEL_NEIGHBORS + _EXTRA_NEIGHBORS, layout.n_spots)
    distance, index = cKDTree(layout.spots).query(layout.spots, k=n_near)
    distance, index = distance.reshape(layout.n_spots, n_near), index.reshape(layout.n_spots, n_near)
    order = np.lexsort((log_total[index], np.rint(distance / layout.pitch * 1e4)), axis=1)
    return np.take_along_axis(index, order[:, :_N_LEVEL_NEIGHBORS], 1)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the correlation over spots of paired columns; 0 where one of them is constant."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(scale > 0, (a * b).sum(axis=0) / np.where(scale > 0, scale, 1), 0.0)
