"""The values of a gene that the window shows: expression or counts, as they are or as a share of the pixel's total.

Shape letters as elsewhere: Q pixels, N spots, G genes of the run, E genes with expression.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from napari_srast.core.result import UpsampleResult

__all__ = [
    "COUNTS_UNIT",
    "MIN_GENES_OF_TOTALS",
    "SCALE_UNITS",
    "STD_UNIT",
    "GeneValues",
    "Quantity",
    "Scale",
    "ValueView",
    "unit_of",
]

Quantity = Literal["expression", "counts"]
Scale = Literal["as_is", "per_10k", "log"]
MIN_GENES_OF_TOTALS = 10
"""Genes that a run needs for totals of pixels: a share of one or two genes says little."""
_PER = 10_000.0
_SMALL_TOTAL = 0.05  # of the median
COUNTS_UNIT = "counts per pixel"
STD_UNIT = "standard deviation of the counts per pixel"
SCALE_UNITS: dict[Scale, str] = {"as_is": COUNTS_UNIT, "per_10k": "per 10,000", "log": "log1p per 10,000"}


@dataclass(frozen=True)
class ValueView:
    """What the window shows of each gene.

    Parameters
    ----------
    quantity
        "expression", for genes that have it, or "counts".
    scale
        "as_is": in counts per pixel. "per_10k": per 10,000 counts of the pixel in the genes of the run. "log": log1p of
        that.
    smooth
        Whether the values are interpolated between the centers of the pixels.
    """

    quantity: Quantity = "expression"
    scale: Scale = "as_is"
    smooth: bool = False

    @property
    def interpolation(self) -> str:
        """Interpolation of napari's image layers."""
        return "linear" if self.smooth else "nearest"

    def has_values_of(self, other: ValueView) -> bool:
        """Return whether another view shows the same values, perhaps with another interpolation."""
        return (self.quantity, self.scale) == (other.quantity, other.scale)


def unit_of(quantity: Quantity, scale: Scale) -> str:
    """Return the name of values with their unit, such as "expression, counts per pixel"."""
    if scale == "as_is":
        return f"expression, {COUNTS_UNIT}" if quantity == "expression" else COUNTS_UNIT
    return f"{quantity}, {SCALE_UNITS[scale]}"


@dataclass(frozen=True, eq=False)
class GeneValues:
    """Quick access to the values of one gene in all pixels or spots.

    Parameters
    ----------
    result
        The result.
    columns
        Its counts in compressed columns, shape (Q, G).
    expression
        Its expression, for the genes that have it, shape (Q, E); None if it has none.
    totals, expression_totals
        Sums of counts and of expression over the genes, shape (Q,).
    measured
        The measured counts of the genes of the run in compressed columns, shape (N, G); without those of spots without
        pixels.
    """

    result: UpsampleResult
    columns: sparse.csc_matrix
    expression: np.ndarray | None
    totals: np.ndarray
    expression_totals: np.ndarray | None
    measured: sparse.csc_matrix

    @classmethod
    def of(cls, result: UpsampleResult) -> GeneValues:
        """Prepare the matrices of a result; this takes seconds for large results."""
        expression = _dense_expression(result)
        totals = np.asarray(result.counts.sum(axis=1)).ravel()
        expression_totals = None if expression is None else expression.sum(1)
        return cls(result, result.counts.tocsc(), expression, totals, expression_totals, _measured(result))

    def slide_column(self, gene: str) -> int:
        """Return the column of a gene of the result in the counts of the slide."""
        return int(self._slide_columns[self.result.gene_column(gene)])

    def quantity(self, gene: str, view: ValueView) -> Quantity:
        """Return which values of a gene a view shows: counts if it has no expression."""
        return "counts" if view.quantity == "counts" or self._expression_column(gene) is None else "expression"

    @property
    def has_totals(self) -> bool:
        """Whether the run has enough genes for totals of pixels."""
        return len(self.result.genes) >= MIN_GENES_OF_TOTALS

    def allowed(self, view: ValueView) -> ValueView:
        """Return a view, as it is in a run without totals of pixels."""
        return view if self.has_totals else dataclasses.replace(view, scale="as_is")

    def of_pixels(self, gene: str, view: ValueView) -> np.ndarray:
        """Return the values of a gene in all pixels, shape (Q,)."""
        column = self._expression_column(gene) if view.quantity == "expression" else None
        if column is None or self.expression is None:
            values = self.columns[:, [self.result.gene_column(gene)]].toarray()[:, 0]
        else:
            values = self.expression[:, column]
        if view.scale == "as_is":
            return values
        totals = self._pixel_totals if column is None else self._expression_totals
        return _scaled(values, totals, view.scale)

    def of_areas(self, weights: sparse.csr_matrix, gene: str, view: ValueView) -> np.ndarray:
        """Return the mean values of a gene in some areas, such as cells, shape (C,).

        Parameters
        ----------
        weights
            Share of each pixel in each area, shape (C, Q); no row is empty.
        gene
            Name of the gene.
        view
            Which values, and their scale: per 10,000 are those of the area's total.
        """
        of_expression = self.quantity(gene, view) == "expression"
        size = np.asarray(weights.sum(axis=1)).ravel()
        means: np.ndarray = weights @ self.of_pixels(gene, dataclasses.replace(view, scale="as_is")) / size
        totals = self.expression_totals if of_expression else self.totals
        if view.scale == "as_is" or totals is None:
            return means
        return _scaled(means, _at_least_small(weights @ totals / size), view.scale)

    def of_pixel(self, pixel: int, gene: str, view: ValueView) -> float:
        """Return the value of a gene in one pixel."""
        column = self._expression_column(gene) if view.quantity == "expression" else None
        if column is None or self.expression is None:
            value = self.result.counts[pixel, self.result.gene_column(gene)]
        else:
            value = self.expression[pixel, column]
        if view.scale == "as_is":
            return float(value)
        totals = self._pixel_totals if column is None else self._expression_totals
        return float(_scaled(value, totals[pixel], view.scale))

    def of_spots(self, gene: str, view: ValueView) -> np.ndarray:
        """Return the measured counts of a gene on the scale of a view, shape (N,), 0 for spots without pixels.

        As they are, they are divided evenly among the pixels of the spot. Per 10,000, the total of the spot is over the
        same genes as that of the pixels, so that measured and upsampled values can be compared.
        """
        result = self.result
        per_spot = result.raster.n_pixels_per_spot
        counts = self.measured[:, [result.gene_column(gene)]].toarray()[:, 0].astype(float)
        if view.scale == "as_is":
            return counts / np.maximum(per_spot, 1)
        of_expression = self.quantity(gene, view) == "expression"
        totals = self._spot_totals_of_expression if of_expression else self._spot_totals
        return _scaled(counts, totals, view.scale)

    def unit(self, genes: Sequence[str], view: ValueView) -> str:
        """Describe the values of some genes, and name the genes that show counts because they have no expression."""
        if view.quantity == "counts":
            return unit_of("counts", view.scale)
        without = [gene for gene in genes if self.quantity(gene, view) == "counts"]
        if genes and len(without) == len(genes):
            return f"{unit_of('counts', view.scale)} (no expression computed)"
        text = unit_of("expression", view.scale)
        return f"{text}; {', '.join(without)}: counts (no expression computed)" if without else text

    def _expression_column(self, gene: str) -> int | None:
        """Return the column of a gene in ``expression``, or None."""
        if self.expression is None:
            return None
        hits = np.flatnonzero(self.result.expression_columns == self.result.gene_column(gene))
        return int(hits[0]) if len(hits) else None

    @functools.cached_property
    def _slide_columns(self) -> np.ndarray:
        return self.result.slide.gene_indices([str(gene) for gene in self.result.genes])

    @functools.cached_property
    def _pixel_totals(self) -> np.ndarray:
        return _at_least_small(self.totals)

    @functools.cached_property
    def _expression_totals(self) -> np.ndarray:
        assert self.expression_totals is not None
        return _at_least_small(self.expression_totals)

    @functools.cached_property
    def _spot_totals(self) -> np.ndarray:
        return self._measured_totals(np.arange(len(self.result.genes)))

    @functools.cached_property
    def _spot_totals_of_expression(self) -> np.ndarray:
        return self._measured_totals(self.result.expression_columns)

    def _measured_totals(self, columns: np.ndarray) -> np.ndarray:
        """Return the measured counts of some genes of the run in all spots, shape (N,)."""
        return _at_least_small(np.asarray(self.measured[:, columns].sum(axis=1)).ravel())


def _at_least_small(totals: np.ndarray) -> np.ndarray:
    """Return totals, none of them below a share of their median: on bare glass, shares of a total would be noise."""
    positive = totals[totals > 0]
    return np.maximum(totals, _SMALL_TOTAL * float(np.median(positive)) if positive.size else 1.0)


def _scaled(values: np.ndarray, totals: np.ndarray, scale: Scale) -> np.ndarray:
    """Return values per 10,000 of their totals, or log1p of that."""
    shares = _PER * values / totals
    return np.log1p(shares) if scale == "log" else shares


def _measured(result: UpsampleResult) -> sparse.csc_matrix:
    """Return the measured counts of a run in compressed columns, shape (N, G)."""
    slide = result.slide
    rows = np.flatnonzero(result.raster.n_pixels_per_spot > 0)
    columns = slide.gene_indices([str(gene) for gene in result.genes])
    some = slide.select_counts(columns)[rows].tocsc()  # often those of a region, so few
    return sparse.csc_matrix((some.data, rows[some.indices], some.indptr), shape=(slide.n_spots, len(columns)))


def _dense_expression(result: UpsampleResult) -> np.ndarray | None:
    """Return the expression without its empty columns, shape (Q, E); a view of its data if every entry is stored."""
    matrix, columns = result.expression, result.expression_columns
    if matrix is None or not len(columns):
        return None
    shape = (result.n_pixels, len(columns))
    is_full = matrix.nnz == shape[0] * shape[1] and bool((matrix.indices.reshape(shape) == columns).all())
    values: np.ndarray = matrix.data.reshape(shape) if is_full else matrix[:, columns].toarray()
    return values
