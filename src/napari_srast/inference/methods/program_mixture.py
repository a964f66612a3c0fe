"""Genes of a large panel by the maps that they share, a mixture of programs and the totals, sparse in and sparse out.

Only pairs of a spot and a gene that hold counts are ever looked at, in batches of spots with about as many genes each:
one small matrix product for each spot. Shape legend: T spots that own pixels, Q pixels, K pixels of a spot (padded),
G genes, P programs, B spots of a batch, M genes of a spot (padded).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from napari_srast.calibration.likelihood import scaled_log_count
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.models.programs.program_fields import LEAST_SHARE

__all__ = ["ProgramMixture"]

_BATCH = 1 << 15  # pairs of a spot and a gene, padded


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramMixture:
    """The maps of programs and totals over some pixels, ready to split genes.

    Parameters
    ----------
    layout
        Spots and pixels.
    log_ratio
        Log share of each pixel in its spot by program, and last that by all counts, shape (Q, P + 1).
    activity
        Activity of the programs in the spots that own pixels, shape (T, P).
    loading
        Loadings of the genes, float32, shape (G, P).
    weights
        Of the gene's mixture of programs and of the totals in the pool, at no counts and the change up to 100 counts,
        shape (2, 2); see :class:`napari_srast.calibration.weights.PoolWeights`.
    trust
        By how much each gene's pool is believed, 0 for the even split, shape (G,).
    """

    layout: SpotPixelMap
    log_ratio: np.ndarray
    activity: np.ndarray
    loading: np.ndarray
    weights: np.ndarray
    trust: np.ndarray

    def split(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Split counts (T, G) of the spots that own pixels; returns float32 CSR (Q, G)."""
        return self._spread(counts, shares_only=False)

    def shares(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return the shares r by which counts (T, G) are split, where there are counts; float32 CSR (Q, G)."""
        return self._spread(counts, shares_only=True)

    def _spread(self, counts: sparse.csr_matrix, *, shares_only: bool) -> sparse.csr_matrix:
        n_genes = np.diff(counts.indptr)
        owner = self._owner
        pointer = np.concatenate([[0], np.cumsum(n_genes[owner])])
        data = np.empty(pointer[-1], dtype=np.float32)
        columns = np.empty(pointer[-1], dtype=np.int32)
        for spots, column, held, n in self._batches(counts):
            pixel, owned = self._pixels[spots], self._mask[spots]  # (B, K)
            share = self._shares(spots, column, n)  # (B, K, M)
            total = share.sum(axis=1, dtype=np.float64)
            share *= ((1.0 if shares_only else n) / total)[:, None, :]
            to = pointer[pixel][:, :, None] + np.arange(column.shape[1])
            chosen = owned[:, :, None] & held[:, None, :]
            to = to[chosen]
            data[to] = share[chosen]
            columns[to] = np.broadcast_to(column[:, None, :], chosen.shape)[chosen]
        split = sparse.csr_matrix((data, columns, pointer), shape=(len(owner), counts.shape[1]))
        if not shares_only and not data.all():
            split.eliminate_zeros()
        return split

    def _shares(self, spots: np.ndarray, column: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Return what the pool says of genes (B, M) with counts n, up to a factor, (B, K, M); 0 off the spots' pixels.

        The programs' part is r_ig = sum_p a_igp r_ip, even where the gene has none of them.
        """
        owned = self._mask[spots]
        even = (1 / owned.sum(axis=1)).astype(np.float32)[:, None, None]
        weighted = self._weighted[self._pixels[spots]] * owned[:, :, None]
        mixed = weighted @ self.loading[column].transpose(0, 2, 1)
        total = mixed.sum(axis=1, keepdims=True)
        known = total > 0
        mixed /= np.where(known, total, 1)
        score = np.log(np.maximum(np.where(known, mixed, even), np.float32(LEAST_SHARE)))
        depth = scaled_log_count(n).astype(np.float32)  # (B, M)
        base, slope = self.weights.astype(np.float32)
        trust = self.trust.astype(np.float32)[column]
        score *= (trust * (base[0] + slope[0] * depth))[:, None, :]
        of_totals = trust * (base[1] + slope[1] * depth)
        score += self._log_totals[self._pixels[spots]][:, :, None] * of_totals[:, None, :]
        score[~(owned & self._on_tissue[self._pixels[spots]])] = -np.inf
        score -= score.max(axis=1, keepdims=True)
        return np.asarray(np.exp(score, out=score))

    def _batches(self, counts: sparse.csr_matrix) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield spots (B,), their genes (B, M), which of these are real, and their counts (1 where there is none)."""
        n_genes = np.diff(counts.indptr)
        order = np.argsort(n_genes, kind="stable")
        order = order[n_genes[order] > 0]
        stop = len(order)
        while stop > 0:
            widest = int(n_genes[order[stop - 1]])
            start = max(0, stop - max(1, _BATCH // widest))
            spots = order[start:stop]
            held = np.arange(widest) < n_genes[spots][:, None]
            entry = np.where(held, counts.indptr[spots][:, None] + np.arange(widest), 0)
            yield spots, np.where(held, counts.indices[entry], 0), held, np.where(held, counts.data[entry], 1.0)
            stop = start

    @cached_property
    def _owner(self) -> np.ndarray:
        """Row of each pixel's spot among those that own pixels, shape (Q,)."""
        return np.searchsorted(np.flatnonzero(self.layout.n_pixels_of_spot), self.layout.parent)

    @cached_property
    def _weighted(self) -> np.ndarray:
        return (np.exp(self.log_ratio[:, :-1]) * self.activity[self._owner]).astype(np.float32)

    @cached_property
    def _log_totals(self) -> np.ndarray:
        return np.maximum(self.log_ratio[:, -1], np.log(LEAST_SHARE)).astype(np.float32)

    @cached_property
    def _on_tissue(self) -> np.ndarray:
        """Which pixels may hold counts at all, shape (Q,): a histology rules bare glass out."""
        tissue = np.isfinite(self.log_ratio[:, -1])
        return np.asarray(tissue | (np.bincount(self._owner, tissue)[self._owner] == 0))

    @cached_property
    def _mask(self) -> np.ndarray:
        """Which of the padded pixels of a spot are real, shape (T, K)."""
        n_pixels = self.layout.n_pixels_of_spot
        n_pixels = n_pixels[n_pixels > 0]
        return np.arange(n_pixels.max()) < n_pixels[:, None]

    @cached_property
    def _pixels(self) -> np.ndarray:
        """Pixels of each spot, padded with its first one's, shape (T, K)."""
        by_spot = np.argsort(self._owner, kind="stable")
        n_pixels = self._mask.sum(axis=1)
        first = np.cumsum(n_pixels) - n_pixels
        return by_spot[np.where(self._mask, first[:, None] + np.arange(self._mask.shape[1]), first[:, None])]
