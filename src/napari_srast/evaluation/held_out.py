"""Score maps by where the counts of a held-out half are: inside the cells of spots, and on the whole slide.

All functions take a block of genes, so that no map needs to be in memory as a whole. Shape legend: N spots, Q pixels,
F genes of a block, K pixels of a spot.

=======================  =========================================================================================
cell nats                ``sum_kg y log(K r) / sum y``: gain per held-out count y over a uniform split of each spot's
                         cell, with ratios r that sum to 1 over the K pixels of a spot.
totals                   ``sum_k T log(K t) / sum T`` with ``T_k = sum_g y_kg`` and ``t_k = sum_g s_ig r_kg``, where
                         s_ig is the gene's share of the spot's measured counts.
composition              Cell nats minus totals: what each gene's map adds to the pixels' totals.
genes below uniform      Fraction of the genes with at least 100 held-out counts whose cell nats are negative.
slide nats               ``sum_kg y log(Q q) / sum y`` for ``q = ((1 - e) m + e mean(m)) / sum(m)``: gain over a flat
                         map of the whole slide. Every map is mixed with a flat one in the proportion e of
                         :data:`PROPORTIONS` that suits it best, so that its zeros have no infinite penalty.
=======================  =========================================================================================
"""

from __future__ import annotations

import numpy as np

__all__ = ["MIN_GENE_COUNTS", "PROPORTIONS", "cell_gain", "fraction_below", "slide_gain", "split", "totals_nats"]

MIN_GENE_COUNTS = 100
"""Held-out counts from which on a gene counts as measured well enough to be called worse than the uniform split."""

PROPORTIONS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5)
"""Proportions of a flat map that slide nats choose from."""

_SMALLEST = 1e-3  # of a ratio relative to the uniform split


def split(values: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Return the ratios of non-negative (Q, F) values within each spot; a spot of zeros gets a uniform split.

    Parameters
    ----------
    values
        Counts or intensities of the pixels, shape (Q, F).
    parent
        Spot of each pixel, shape (Q,).
    """
    n_pixels = np.bincount(parent)
    total = np.zeros((len(n_pixels), values.shape[1]))
    np.add.at(total, parent, values)
    of_pixel = total[parent]
    return np.where(of_pixel > 0, values / np.maximum(of_pixel, 1e-12), 1.0 / n_pixels[parent][:, None])


def cell_gain(ratios: np.ndarray, truth: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Return the nats that each gene gains over the uniform split, summed over its held-out counts, shape (F,).

    Parameters
    ----------
    ratios
        Ratios of the pixels within their spots, shape (Q, F).
    truth
        Held-out counts, shape (Q, F).
    parent
        Spot of each pixel, shape (Q,).
    """
    n_pixels = np.bincount(parent)[parent][:, None]
    return (truth * np.log(np.maximum(ratios * n_pixels, _SMALLEST))).sum(axis=0)


def totals_nats(ratio_of_totals: np.ndarray, pixel_counts: np.ndarray, parent: np.ndarray) -> float:
    """Return the nats per count of the pixels' totals; NaN without counts.

    Parameters
    ----------
    ratio_of_totals
        Ratios of all counts, ``t`` of the module's table, shape (Q,).
    pixel_counts
        Held-out counts of all genes, shape (Q,).
    parent
        Spot of each pixel, shape (Q,).
    """
    gain = cell_gain(ratio_of_totals[:, None], pixel_counts[:, None], parent)[0]
    total = float(pixel_counts.sum())
    return float(gain) / total if total > 0 else np.nan


def fraction_below(gene_gain: np.ndarray, gene_counts: np.ndarray) -> float:
    """Return the fraction of genes below the uniform split, among those with enough held-out counts; NaN if none."""
    enough = gene_counts >= MIN_GENE_COUNTS
    return float((gene_gain[enough] < 0).mean()) if enough.any() else np.nan


def slide_gain(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the nats gained over a flat map, summed over genes and counts, for each of :data:`PROPORTIONS`.

    The slide nats of a map are the largest of these sums over all genes, divided by the number of held-out counts.

    Parameters
    ----------
    values
        Map of each gene on the whole slide, in any unit, shape (Q, F).
    truth
        Held-out counts, shape (Q, F).
    """
    density = np.maximum(values, 0.0)
    density = density / np.maximum(density.sum(axis=0), 1e-12) * len(density)
    return np.array([(truth * np.log((1 - e) * density + e)).sum() for e in PROPORTIONS])
