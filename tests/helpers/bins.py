"""Small synthetic slides of fine bins, with counts that follow known rates."""

from __future__ import annotations

import anndata
import numpy as np
from scipy import sparse

__all__ = ["bins_table"]


def bins_table(
    n_side: int = 60, side: float = 2.0, n_genes: int = 8, depth: float = 1.0, seed: int = 0
) -> anndata.AnnData:
    """Return ``n_side`` x ``n_side`` square bins with smooth Poisson counts.

    Parameters
    ----------
    n_side
        Number of bins along x and y.
    side
        Side of a bin.
    n_genes
        Number of genes.
    depth
        Mean counts of a gene in a bin, up to its pattern.
    seed
        Seed of the counts.
    """
    rng = np.random.default_rng(seed)
    row, col = (a.ravel() for a in np.mgrid[:n_side, :n_side])
    points = (np.column_stack([col, row]) + 0.5) * side
    phase, scale = np.arange(n_genes), n_side * side / 8
    wave = np.sin(points[:, :1] / scale + phase) * np.cos(points[:, 1:] / (1.3 * scale) + phase)
    counts = rng.poisson(depth * np.exp(1.2 * wave))
    table = anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    table.obs_names = [f"bin{i}" for i in range(len(points))]
    table.var_names = [f"Gene{i}" for i in range(n_genes)]
    table.obsm["spatial"] = points
    return table
