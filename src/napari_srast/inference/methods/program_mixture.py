"""Predict the genes of a large panel from shared maps: a mixture of program maps, pooled with the map of the totals.

Input and output are sparse: only spot-gene pairs with counts are computed, in batches of spots with about as many genes
each, by one small matrix product per spot.

Shape legend: T spots that own pixels, Q pixels, K pixels per spot (padded), G genes, P programs, B spots of a batch, M
genes per spot (padded).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from napari_srast.calibration.likelihood import scaled_log_count
from napari_srast.geometry.spot_pixel_map import PaddedPixels, SpotPixelMap
from napari_srast.models.programs.program_fields import MIN_RATIO

__all__ = ["ProgramMixture"]

_PAIRS_PER_BATCH = 1 << 15  # spot-gene pairs, including padding


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramMixture:
    """Maps of programs and totals over some pixels, ready to predict genes.

    Parameters
    ----------
    layout
        Spots and pixels.
    log_ratio
        Log ratios of each program, and of the total counts in the last column, shape (Q, P + 1).
    activity
        Activity of the programs in the spots that own pixels, shape (T, P).
    loading
        Loadings of the genes, float32, shape (G, P).
    weights
        Weights of the mixture of programs and of the totals in the pool, at no counts and their change up to 100
        counts, shape (2, 2); see :class:`napari_srast.calibration.pooling.PoolWeights`.
    gate
        Factor of both weights for each gene: 1 for the pool, 0 for the uniform split, shape (G,).
    """

    layout: SpotPixelMap
    log_ratio: np.ndarray
    activity: np.ndarray
    loading: np.ndarray
    weights: np.ndarray
    gate: np.ndarray

    def allocate(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Allocate counts of the spots that own pixels, shape (T, G), to the pixels; returns float32 CSR (Q, G)."""
        allocated = self._spread(counts, shares_only=False)
        if not allocated.data.all():
            allocated.eliminate_zeros()
        return allocated

    def shares(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return the share of each pixel where counts (T, G) are not 0; float32 CSR (Q, G)."""
        return self._spread(counts, shares_only=True)

    def _spread(self, counts: sparse.csr_matrix, *, shares_only: bool) -> sparse.csr_matrix:
        """Compute an entry for each pixel and gene of each spot-gene pair with counts."""
        n_genes = np.diff(counts.indptr)
        owner = self._owner
        pointer = np.concatenate([[0], np.cumsum(n_genes[owner])])
        data = np.empty(pointer[-1], dtype=np.float32)
        columns = np.empty(pointer[-1], dtype=np.int32)
        for spots, column, is_pair, n in self._batches(counts):
            pixel, is_pixel = self._pixels.pixel_index[spots], self._pixels.mask[spots]  # (B, K)
            share = self._predict_shares(spots, column, n)  # (B, K, M)
            total = share.sum(axis=1, dtype=np.float64)
            share *= ((1.0 if shares_only else n) / total)[:, None, :]
            entry = pointer[pixel][:, :, None] + np.arange(column.shape[1])
            is_entry = is_pixel[:, :, None] & is_pair[:, None, :]
            entry = entry[is_entry]
            data[entry] = share[is_entry]
            columns[entry] = np.broadcast_to(column[:, None, :], is_entry.shape)[is_entry]
        return sparse.csr_matrix((data, columns, pointer), shape=(len(owner), counts.shape[1]))

    def _predict_shares(self, spots: np.ndarray, column: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Return the pooled ratios of genes (B, M) with counts n, up to a factor, (B, K, M); 0 for padding.

        The mixture of programs is r_ig = sum_p a_igp r_ip; a gene without any of the spot's programs gets the uniform
        split.
        """
        pixel, is_pixel = self._pixels.pixel_index[spots], self._pixels.mask[spots]
        uniform = (1 / is_pixel.sum(axis=1)).astype(np.float32)[:, None, None]
        weighted = self._weighted[pixel] * is_pixel[:, :, None]
        mixed = weighted @ self.loading[column].transpose(0, 2, 1)
        total = mixed.sum(axis=1, keepdims=True)
        has_program = total > 0
        mixed /= np.where(has_program, total, 1)
        score = np.log(np.maximum(np.where(has_program, mixed, uniform), np.float32(MIN_RATIO)))
        scaled_n = scaled_log_count(n).astype(np.float32)  # (B, M)
        base, slope = self.weights.astype(np.float32)
        gate = self.gate.astype(np.float32)[column]
        score *= (gate * (base[0] + slope[0] * scaled_n))[:, None, :]
        totals_weight = gate * (base[1] + slope[1] * scaled_n)
        score += self._log_totals[pixel][:, :, None] * totals_weight[:, None, :]
        score[~(is_pixel & self._on_tissue[pixel])] = -np.inf
        score -= score.max(axis=1, keepdims=True)
        return np.asarray(np.exp(score, out=score))

    def _batches(self, counts: sparse.csr_matrix) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield spots (B,), their genes (B, M), which of these are not padding, and their counts (1 for padding)."""
        n_genes = np.diff(counts.indptr)
        order = np.argsort(n_genes, kind="stable")
        order = order[n_genes[order] > 0]
        stop = len(order)
        while stop > 0:
            max_genes = int(n_genes[order[stop - 1]])
            start = max(0, stop - max(1, _PAIRS_PER_BATCH // max_genes))
            spots = order[start:stop]
            is_pair = np.arange(max_genes) < n_genes[spots][:, None]
            entry = np.where(is_pair, counts.indptr[spots][:, None] + np.arange(max_genes), 0)
            yield (
                spots,
                np.where(is_pair, counts.indices[entry], 0),
                is_pair,
                np.where(is_pair, counts.data[entry], 1.0),
            )
            stop = start

    @cached_property
    def _owner(self) -> np.ndarray:
        """Row of each pixel's spot among those that own pixels, shape (Q,)."""
        return np.searchsorted(np.flatnonzero(self.layout.n_pixels_per_spot), self.layout.parent)

    @cached_property
    def _weighted(self) -> np.ndarray:
        """Ratios of the programs times their activity in the spot, float32, shape (Q, P)."""
        return (np.exp(self.log_ratio[:, :-1]) * self.activity[self._owner]).astype(np.float32)

    @cached_property
    def _log_totals(self) -> np.ndarray:
        """Log ratios of the total counts, float32, shape (Q,)."""
        return np.maximum(self.log_ratio[:, -1], np.log(MIN_RATIO)).astype(np.float32)

    @cached_property
    def _on_tissue(self) -> np.ndarray:
        """Which pixels may have counts, (Q,): the histology excludes bare glass, unless a spot has nothing else."""
        on_tissue = np.isfinite(self.log_ratio[:, -1])
        return np.asarray(on_tissue | (np.bincount(self._owner, on_tissue)[self._owner] == 0))

    @cached_property
    def _pixels(self) -> PaddedPixels:
        """Pixels of each spot that owns any, shape (T, K)."""
        pixels, owners = self.layout.padded_pixels(), np.flatnonzero(self.layout.n_pixels_per_spot)
        return PaddedPixels(pixels.pixel_index[owners], pixels.mask[owners])
