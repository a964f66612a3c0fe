"""Simulate slides of any size for benchmarks."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_srast.core.slide import Slide

__all__ = ["simulate_slide"]

_PITCH_UM = 100.0
_MEAN_GENE_COUNTS = 5.0  # per spot, as in a panel of a few hundred genes
_MAX_SPOT_COUNTS = 5000.0  # as on Visium; larger panels are sparser
_BLOCK_SPOTS = 500


def simulate_slide(n_spots: int, n_genes: int, seed: int = 0) -> Slide:
    """Simulate a slide of hexagonal spots with Poisson counts around smooth random waves.

    Each gene has its own wave. Genes have 5 counts per spot on average. Panels above 1,000 genes have 5,000 counts per
    spot instead, as on Visium, and the mean counts of their genes vary as widely as those of real genes.

    Parameters
    ----------
    n_spots, n_genes
        Size of the slide.
    seed
        Random seed.
    """
    rng = np.random.default_rng(seed)
    n_columns = int(np.ceil(np.sqrt(n_spots)))
    row, column = np.divmod(np.arange(n_spots), n_columns)
    centers = _PITCH_UM * np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(0.75)])
    waves = rng.normal(scale=2 * np.pi / (8 * _PITCH_UM), size=(2, n_genes))
    phase = rng.uniform(0, 2 * np.pi, n_genes)
    mean_counts = np.full(n_genes, _MEAN_GENE_COUNTS)
    if n_genes * _MEAN_GENE_COUNTS > _MAX_SPOT_COUNTS:
        mean_counts = rng.lognormal(sigma=2.0, size=n_genes)
        mean_counts *= _MAX_SPOT_COUNTS / mean_counts.sum()
    parts = []
    for start in range(0, n_spots, _BLOCK_SPOTS):
        rate = mean_counts * (1 + np.sin(centers[start : start + _BLOCK_SPOTS] @ waves + phase))
        parts.append(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)))
    return Slide(
        counts=sparse.vstack(parts, format="csr"),
        genes=np.array([f"Gene{index:05d}" for index in range(n_genes)], dtype=object),
        spot_ids=np.array([f"spot{index}" for index in range(n_spots)], dtype=object),
        centers=centers,
        spot_diameter=0.55 * _PITCH_UM,
        unit="um",
    )
