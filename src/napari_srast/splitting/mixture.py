"""All genes of a large panel as mixtures of programs, sparse in and sparse out.

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

from napari_srast.geometry.layout import Layout

__all__ = ["Mixture"]

_BATCH = 1 << 15  # pairs of a spot and a gene, padded


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """The split of programs over some pixels, ready to split genes.

    Parameters
    ----------
    layout
        Spots and pixels.
    ratios
        Share of each pixel in its spot by program, shape (Q, P).
    activity
        Activity of the programs in the spots that own pixels, shape (T, P).
    loading
        Loadings of the genes, float32, shape (G, P).
    trust
        How much of its mixture each gene gets against the even split, shape (G,).
    """

    layout: Layout
    ratios: np.ndarray
    activity: np.ndarray
    loading: np.ndarray
    trust: np.ndarray

    def split(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Split counts (T, G) of the spots that own pixels; returns float32 CSR (Q, G)."""
        n_genes = np.diff(counts.indptr)
        owner = self._owner
        pointer = np.concatenate([[0], np.cumsum(n_genes[owner])])
        data = np.empty(pointer[-1], dtype=np.float32)
        columns = np.empty(pointer[-1], dtype=np.int32)
        for spots, column, held, n in self._batches(counts):
            pixel, owned = self._pixels[spots], self._mask[spots]  # (B, K)
            share = self._shares(spots, column)  # (B, K, M)
            share *= (n / share.sum(axis=1, dtype=np.float64))[:, None, :]
            to = pointer[pixel][:, :, None] + np.arange(column.shape[1])
            chosen = owned[:, :, None] & held[:, None, :]
            to = to[chosen]
            data[to] = share[chosen]
            columns[to] = np.broadcast_to(column[:, None, :], chosen.shape)[chosen]
        split = sparse.csr_matrix((data, columns, pointer), shape=(len(owner), counts.shape[1]))
        if not data.all():
            split.eliminate_zeros()
        return split

    def _shares(self, spots: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return r_ig = sum_p a_igp r_ip softened by the trust, (B, K, M); above 0 on the spots' pixels only."""
        owned = self._mask[spots]
        even = (owned / owned.sum(axis=1, keepdims=True)).astype(np.float32)[:, :, None]
        weighted = self._weighted[self._pixels[spots]] * owned[:, :, None]
        mixed = weighted @ self.loading[column].transpose(0, 2, 1)
        total = mixed.sum(axis=1, keepdims=True)
        known = total > 0
        mixed /= np.where(known, total, 1)
        trust = self.trust.astype(np.float32)[column][:, None, :]
        return np.where(known, trust * mixed + (1 - trust) * even, even)

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
        return (self.ratios * self.activity[self._owner]).astype(np.float32)

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
