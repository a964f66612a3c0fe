"""Expression of genes in the pixels of a result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_srast.core.gene_list import check_is_list
from napari_srast.core.result import UpsampleResult
from napari_srast.errors import InputError

__all__ = ["expression", "new_count_std"]


def expression(result: UpsampleResult, genes: Sequence[str]) -> np.ndarray:
    """Return the expression of genes in every pixel of a result.

    Genes that the run estimated one by one (``result.expression_columns``) have those estimates. All other genes of the
    slide are estimated from the gene programs of the run: such an estimate uses the gene's programs, but not its own
    counts in a spot, and is therefore smoother.

    Parameters
    ----------
    result
        A result with expression, in memory or read with :func:`napari_srast.read_result`.
    genes
        Names of genes of the slide.

    Returns
    -------
    np.ndarray
        Expected counts per pixel, float32, shape (number of pixels, number of genes).

    Raises
    ------
    InputError
        The result has no expression, or none of a gene.
    SettingsError
        ``genes`` is a text instead of a list.

    Examples
    --------
    >>> import napari_srast as srast
    >>> values = srast.expression(srast.read_result("fine.zarr"), ["ERBB2"])  # doctest: +SKIP
    """
    check_is_list(genes)
    names, factors = [str(gene) for gene in genes], result.expression_factors
    if result.expression is None and factors is None:
        raise InputError("The result has no expression; run again with expression 'auto'.")
    estimated = {str(result.genes[column]): int(column) for column in result.expression_columns}
    by_programs = {} if factors is None else {str(gene): column for column, gene in enumerate(factors.genes)}
    missing = [name for name in names if name not in estimated and name not in by_programs]
    if missing:
        raise InputError(
            f"The result has no expression of gene '{missing[0]}'; run again with it in the list of genes."
        )
    values = np.empty((result.n_pixels, len(names)), dtype=np.float32)
    own = np.array([name in estimated for name in names], dtype=bool)
    if own.any():
        assert result.expression is not None
        columns = [estimated[name] for name in names if name in estimated]
        values[:, own] = result.expression[:, columns].toarray()
    if not own.all():
        assert factors is not None
        values[:, ~own] = factors.of_genes(np.array([by_programs[name] for name in names if name not in estimated]))
    return values


def new_count_std(result: UpsampleResult, genes: Sequence[str]) -> np.ndarray:
    """Return the standard deviation of a new count in every pixel around the expression.

    A new count scatters around the rate of its pixel as a Poisson count does, and the rate around the expression
    (``result.expression_std``). The variance is the sum of both, and the counts of a gene at equal expression are about
    negative binomial.

    Parameters
    ----------
    result
        A result of mode "sample" with expression, in memory or read with :func:`napari_srast.read_result`.
    genes
        Names of genes that the run estimated one by one.

    Returns
    -------
    np.ndarray
        Counts, float32, shape (number of pixels, number of genes).

    Raises
    ------
    InputError
        The result has no standard deviation of the expression, as a whole or of a gene.
    SettingsError
        ``genes`` is a text instead of a list.
    """
    check_is_list(genes)
    columns = [result.gene_column(str(gene)) for gene in genes]
    expected, std = result.expression, result.expression_std
    if expected is None or std is None:
        raise InputError("The result has no standard deviation of the expression; run again with mode 'sample'.")
    missing = [
        str(gene) for gene, column in zip(genes, columns, strict=True) if column not in result.expression_columns
    ]
    if missing:
        raise InputError(
            f"The result has no expression of gene '{missing[0]}'; run again with it in the setting expression."
        )
    variance = expected[:, columns].toarray() + std[:, columns].toarray() ** 2
    return np.asarray(np.sqrt(variance), dtype=np.float32)
