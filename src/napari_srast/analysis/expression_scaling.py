"""Select the expression of a result and normalize it per pixel.

Shape legend: Q pixels, G genes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_srast.core.gene_list import check_is_list
from napari_srast.core.result import UpsampleResult
from napari_srast.errors import InputError, SettingsError

__all__ = ["PER_PIXEL", "expression_of", "log_normalize"]

PER_PIXEL = 10_000.0
"""Total to which the values of a pixel are scaled before the logarithm."""


def expression_of(result: UpsampleResult, genes: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-normalized expression of a result, over all its genes with expression.

    Parameters
    ----------
    result
        The result.
    genes
        Genes to return; None for all that have expression. The values are per 10,000 of all of them in any case.

    Returns
    -------
    names, values
        Gene names, shape (G,), and log(1 + expression per 10,000 of the pixel), float32, shape (Q, G).

    Raises
    ------
    InputError
        The result has no expression, as a whole or of a gene.
    SettingsError
        ``genes`` is empty, or a text instead of a list.
    """
    if result.expression is None or len(result.expression_columns) == 0:
        raise InputError("The result has no expression; run again with expression 'auto'.")
    check_is_list(genes)
    if genes is not None and len(genes) == 0:
        raise SettingsError("The list of genes is empty; name at least one gene, or leave the list out.")
    columns = np.asarray(result.expression_columns)
    chosen = columns
    if genes is not None:
        chosen = np.unique([result.gene_column(str(gene)) for gene in genes])
        for column in chosen[~np.isin(chosen, columns)]:
            result.gene_image(str(result.genes[column]), "expression")  # raises with the advice for this gene
    values = log_normalize(result.expression[:, columns].toarray())
    return result.genes[chosen].astype(str), values[:, np.searchsorted(columns, chosen)]


def log_normalize(values: np.ndarray) -> np.ndarray:
    """Return log(1 + value per 10,000 of its row), float32; rows without values stay 0.

    Parameters
    ----------
    values
        Non-negative values, shape (Q, G).
    """
    totals = values.sum(axis=1, dtype=np.float64, keepdims=True)
    scale = np.divide(PER_PIXEL, totals, out=np.zeros_like(totals), where=totals > 0)
    return np.log1p(values * scale).astype(np.float32)
