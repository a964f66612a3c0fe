"""Factors of a result from which the expression of any gene of the slide is estimated.

A run estimates the expression of some genes. For all other genes of the slide it stores how active each gene program
is in each pixel, and how much each gene contributes to each program; their product is an estimate that needs no slide.

Shape legend: Q pixels, P programs, G genes of the slide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_srast.arrays import GeneColumns, GeneNames

__all__ = ["ExpressionFactors"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpressionFactors:
    """Activities of gene programs in pixels, and loadings of genes.

    Parameters
    ----------
    genes
        Names of the genes, shape (G,).
    loadings
        Counts of each gene per count of each program, float32, shape (P, G).
    activities
        Expected counts of each program in each pixel, float32, shape (Q, P).
    """

    genes: GeneNames
    loadings: np.ndarray
    activities: np.ndarray

    def of_genes(self, columns: GeneColumns) -> np.ndarray:
        """Return the expression of some genes, given as columns; float32, shape (Q, number of columns)."""
        return np.asarray(self.activities @ self.loadings[:, columns], dtype=np.float32)
