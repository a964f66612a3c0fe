"""Measure how much of the detail inside spots is a gene's own.

Shape legend: Q pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_srast.core.result import UpsampleResult
from napari_srast.gui.state.gene_values import GeneValues

__all__ = ["own_detail"]


def own_detail(values: GeneValues, genes: Sequence[str]) -> dict[str, float]:
    """Return which share of the detail inside spots is the gene's own, and not the pattern of all other counts.

    The detail of a gene is the difference of its counts from an even split of each spot. Its own part is what that
    of all other genes of the result does not explain: 1 minus their squared correlation.

    Parameters
    ----------
    values
        Values of the result.
    genes
        Names of genes of the result.

    Returns
    -------
    dict
        A share from 0 to 1 for each gene with detail; empty if the result has a single gene.
    """
    result = values.result
    if len(result.genes) < 2:
        return {}
    totals = values.totals.astype(np.float64)
    shares = {}
    for gene in genes:
        counts = values.columns[:, [result.gene_column(gene)]].toarray().ravel().astype(np.float64)
        own, common = (_detail(result, some) for some in (counts, totals - counts))
        power = float(own @ own) * float(common @ common)
        if power > 0 and own @ own > 1e-9 * (counts @ counts):
            shares[gene] = 1.0 - min(float(own @ common) ** 2 / power, 1.0)
    return shares


def _detail(result: UpsampleResult, values: np.ndarray) -> np.ndarray:
    """Return the difference of pixel values (Q,) from an even split of each spot."""
    raster = result.raster
    mean = np.bincount(raster.parent, weights=values, minlength=raster.n_spots) / np.maximum(
        raster.n_pixels_per_spot, 1
    )
    return values - mean[raster.parent]
