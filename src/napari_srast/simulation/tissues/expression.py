"""Draw the expected counts of cells: cell types, families of types, spatial programs, and noise shared by genes.

The expected counts of a cell are ``size x abundance x exp(pattern)``, where the pattern of a gene is the sum of the
effects of the cell's type, the family of this type, and the cell's programs. The mean of a gene over the cells is its
abundance for any pattern, so that the depth of a panel is determined before counts are sampled.

Shape legend: n cells, G genes, T types, P programs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_srast.simulation.tissues.cells import Cells
from napari_srast.simulation.tissues.fields import SmoothFields, log_uniform
from napari_srast.simulation.tissues.settings import TissueSettings

__all__ = ["Expression", "draw_expression"]

_MAX_LOG_FOLD = 5.5  # between the types with the highest and lowest expression: no gene is completely silent


@dataclass(frozen=True, kw_only=True, eq=False)
class Expression:
    """Expected counts in factorized form, because the (n, G) array may exceed the memory.

    Parameters
    ----------
    types
        Type of each cell, (n,).
    signature
        Log expression of each gene in each type, (T, G).
    activity
        Activity of each program in each cell, (n, P).
    loading
        Log response of each gene to each program, (P, G).
    size
        Relative size of each cell, mean 1, (n,).
    abundance
        Mean expected counts of each gene in a cell, (G,).
    dispersion
        Size parameter of each gene's negative binomial, (G,).
    """

    types: np.ndarray
    signature: np.ndarray
    activity: np.ndarray
    loading: np.ndarray
    size: np.ndarray
    abundance: np.ndarray
    dispersion: np.ndarray

    def rates(self, genes: slice) -> np.ndarray:
        """Return the expected counts of some genes in all cells, float32 (n, genes)."""
        pattern = self.activity @ self.loading[:, genes] + self.signature[self.types, genes]
        rate = self.size[:, None] * np.exp(np.clip(pattern, -6, 6))
        return rate * (self.abundance[genes] / rate.mean(axis=0))


def draw_expression(
    rng: np.random.Generator, cells: Cells, n_types: int, n_genes: int, total: float, settings: TissueSettings
) -> Expression:
    """Draw signatures, programs, sizes and abundances.

    Parameters
    ----------
    rng
        Random generator.
    cells
        The cells.
    n_types, n_genes
        Number of cell types and genes.
    total
        Mean total counts of a cell.
    settings
        Ranges of the random parameters.
    """
    abundance = rng.lognormal(0, rng.uniform(0.5, 1.7), n_genes)
    fields = SmoothFields(
        rng, np.maximum(cells.span_um * np.exp(rng.uniform(np.log(0.03), np.log(0.7), 10)), 2 * cells.spacing_um)
    )
    activity, loading = _programs(rng, cells, fields(cells.positions), n_types, n_genes)
    size = np.exp(rng.normal(0, rng.uniform(0.1, 0.9), n_types))[cells.types]
    size = size * rng.lognormal(0, rng.uniform(0.2, 0.6), len(size))
    typical = log_uniform(rng, *settings.dispersion)
    return Expression(
        types=cells.types,
        signature=_signatures(rng, n_types, n_genes, settings).astype(np.float32),
        activity=activity.astype(np.float32),
        loading=loading.astype(np.float32),
        size=(size / size.mean()).astype(np.float32),
        abundance=(abundance * (total / abundance.sum())).astype(np.float32),
        dispersion=typical * rng.lognormal(0, 0.5, n_genes),
    )


def _signatures(rng: np.random.Generator, n_types: int, n_genes: int, settings: TissueSettings) -> np.ndarray:
    """Return log expression (T, G): sparse markers of types, shared markers of families, small changes of all genes.

    Genes that are no markers are housekeeping genes; small panels are chosen from markers, so they have few of them.
    """
    families = rng.integers(0, rng.integers(2, min(6, n_types) + 1), n_types)
    marker_fraction = rng.uniform(0.7, 1.0) if n_genes < 200 else rng.uniform(0.3, 0.9)
    fold = np.log(log_uniform(rng, *settings.fold))
    log_fold = np.zeros((n_types, n_genes))
    markers = np.flatnonzero(rng.random(n_genes) < marker_fraction)
    type_of_marker = rng.integers(0, n_types, len(markers))
    strength = fold * rng.gamma(4, 0.25, len(markers))
    log_fold[type_of_marker, markers] = strength
    # Most markers are shared, in part, with some types of the same family, and a few with other types.
    relatives = families[:, None] == families[type_of_marker]
    shared = rng.random((n_types, len(markers))) < np.where(relatives, rng.uniform(0.2, 0.8), rng.uniform(0, 0.1))
    partial = strength * rng.uniform(0.2, 1.0, (n_types, len(markers)))
    log_fold[:, markers] = np.maximum(log_fold[:, markers], shared * partial)
    log_fold += rng.normal(0, rng.uniform(0.05, 0.35), (n_types, n_genes))
    return np.minimum(log_fold, log_fold.min(axis=0) + _MAX_LOG_FOLD)


def _programs(
    rng: np.random.Generator, cells: Cells, fields: np.ndarray, n_types: int, n_genes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return activities (n, P) and sparse loadings (P, G) of spatial gradients and of states without pattern."""
    spatial = np.hstack([fields, cells.coordinates])
    n_spatial, n_states = int(rng.integers(2, 10)), int(rng.integers(1, 5))
    activity = spatial[:, rng.integers(0, spatial.shape[1], n_spatial)]
    for program in range(n_spatial):  # half of the gradients are limited to some types
        if rng.random() < 0.5:
            has_program = rng.random(n_types) < rng.uniform(0.1, 0.6)
            activity[:, program] *= has_program[cells.types]
    activity = np.hstack([activity, rng.standard_normal((len(cells.positions), n_states))])
    strength = np.concatenate([np.full(n_spatial, rng.uniform(0.1, 1.0)), np.full(n_states, rng.uniform(0, 0.6))])
    loading = rng.gamma(2, 0.5, (len(strength), n_genes)) * rng.choice([-1, 1], (len(strength), n_genes), p=[0.3, 0.7])
    sparse_share = rng.uniform(0.03, 0.4, (len(strength), 1))
    return activity, loading * strength[:, None] * (rng.random(loading.shape) < sparse_share)
