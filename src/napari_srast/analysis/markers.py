"""Rank the genes of each domain.

Shape legend: Q pixels, G genes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from napari_srast.core.progress import NO_MONITOR, RunMonitor

__all__ = ["MARKER_NOTE", "find_markers"]

MARKER_NOTE = (
    "Domains and markers come from the same counts, so markers describe the domains and do not test them; pixels are "
    "no replicates, so there are no p-values."
)
_GENES_AT_ONCE = 32


def find_markers(
    values: np.ndarray,
    genes: Sequence[str] | np.ndarray,
    labels: pd.Categorical,
    monitor: RunMonitor = NO_MONITOR,
) -> pd.DataFrame:
    """Compare the pixels of each domain with all other pixels.

    Parameters
    ----------
    values
        Log-normalized expression, shape (Q, G).
    genes
        Gene names, shape (G,).
    labels
        Domain of each pixel, shape (Q,).
    monitor
        Asked for cancellation.

    Returns
    -------
    pandas.DataFrame
        A row per domain and gene, the best markers of each domain first: ``domain``; ``gene``; ``log2_fold_change``, of
        the mean expression per 10,000 plus 1 inside over that outside; ``auroc``, the probability that a pixel inside
        has a higher value than one outside; ``mean_inside`` and ``mean_outside``, per 10,000. The last four are NaN
        where there is no pixel on one of the sides. ``attrs["note"]`` states what the figures do not show.
    """
    codes, n_domains, n_genes = labels.codes, len(labels.categories), values.shape[1]
    inside = np.eye(n_domains)[codes]
    sizes = inside.sum(axis=0)[:, None]
    others = len(codes) - sizes
    sums, ranks = np.zeros((n_domains, n_genes)), np.zeros((n_domains, n_genes))
    for start in range(0, n_genes, _GENES_AT_ONCE):
        monitor.check_canceled()
        block = slice(start, start + _GENES_AT_ONCE)
        sums[:, block] = inside.T @ np.expm1(values[:, block].astype(np.float64))
        ranks[:, block] = inside.T @ rankdata(values[:, block], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_inside, mean_outside = sums / sizes, (sums.sum(axis=0) - sums) / others
        auroc = (ranks - sizes * (sizes + 1) / 2) / (sizes * others)
    change = np.log2((mean_inside + 1) / (mean_outside + 1))
    table = pd.DataFrame(
        {
            "domain": np.repeat(labels.categories.to_numpy(), n_genes),
            "gene": np.tile(np.asarray(genes, dtype=str), n_domains),
            "log2_fold_change": change.ravel(),
            "auroc": auroc.ravel(),
            "mean_inside": mean_inside.ravel(),
            "mean_outside": mean_outside.ravel(),
        }
    )
    order = np.lexsort((-table["log2_fold_change"], -table["auroc"], np.repeat(np.arange(n_domains), n_genes)))
    table = table.iloc[order].reset_index(drop=True)
    table.attrs["note"] = MARKER_NOTE
    return table
