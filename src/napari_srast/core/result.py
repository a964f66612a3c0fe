"""Results of a run: upsampled counts and everything needed to check and repeat the run.

Shape legend: Q pixels, G genes.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_srast._utils.text import count
from napari_srast.arrays import GeneColumns, GeneNames, PixelCounts, PixelValues, SkillByGene
from napari_srast.core.expression_factors import ExpressionFactors
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError

if TYPE_CHECKING:
    import anndata
    import spatialdata

    from napari_srast.geometry.raster import Raster

__all__ = ["Layer", "UpsampleMetadata", "UpsampleResult", "no_columns"]

Layer = Literal["counts", "std", "expression", "expression_std"]
"""A matrix of a result."""
_MISSING = {
    "std": "The result has no standard deviation; run again with method 'srast' and mode 'sample'.",
    "expression": "The result has no expression; run again with expression 'auto'.",
    "expression_std": "The result has no standard deviation of the expression; run again with mode 'sample'.",
}


_MAX_NAMES = 5  # genes that are named when a result is printed


def no_columns() -> GeneColumns:
    """Return an empty array of columns."""
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class UpsampleMetadata:
    """Description of a run and its result, without the counts, which may be in a store.

    Parameters
    ----------
    genes
        Gene names, shape (G,).
    skill
        Nats per count that each gene is expected to gain over a uniform split, shape (G,): on held-out data of the
        coarsened slide, or, if ``provenance["skill"]`` is "expected information", as the map itself predicts at its own
        factor. NaN if the slide is too small, or the gene too rare, to estimate it.
    method
        Method of each gene's map, shape (G,).
    raster
        Pixels and their parents; ``raster.parent`` indexes the slide's spots.
    slide
        The slide that was upsampled.
    region
        The region of interest; None for the whole slide.
    settings
        Settings of the run.
    run
        Name of the run: letters, digits and underscores.
    provenance
        Content of ``uns["napari_srast"]``: version, name and SHA-256 of the model, calibration weights, timings and
        more.
    expression_columns
        Genes that have expression, as ascending indices into ``genes``; empty if none has.
    expression_factors
        Factors from which :func:`napari_srast.expression` estimates the other genes of the slide; None if all genes
        have expression, or none.
    """

    genes: GeneNames
    skill: SkillByGene
    method: np.ndarray
    raster: Raster
    slide: Slide
    region: Region | None
    settings: UpsampleSettings
    run: str
    provenance: Mapping[str, Any]
    expression_columns: GeneColumns = field(default_factory=no_columns)
    expression_factors: ExpressionFactors | None = None

    def __repr__(self) -> str:
        names = ", ".join(map(str, self.genes[:_MAX_NAMES])) + (", ..." if len(self.genes) > _MAX_NAMES else "")
        size = count(self.n_pixels, "pixel")
        settings, raster = self.settings, self.raster
        return "\n".join(
            [
                f"{type(self).__name__} '{self.run}': {count(len(self.genes), 'gene')} ({names})",
                f"  {size} of {raster.pixel_size * self.slide.cs_scale:.4g} {self.slide.cs_unit} in "
                f"{count(len(raster.spots), 'spot')}, {'whole slide' if self.region is None else 'a region'}",
                f"  method '{settings.method}', mode '{settings.mode}', footprint '{settings.footprint}', "
                f"seed {settings.seed}",
            ]
        )

    @property
    def n_pixels(self) -> int:
        """Number of pixels that have a parent spot, Q."""
        return self.raster.n_pixels

    def gene_column(self, gene: str) -> int:
        """Return the column of a gene in the result.

        Raises
        ------
        InputError
            The result does not contain the gene.
        """
        try:
            return int(self.genes.tolist().index(gene))  # a NumPy comparison ignores zero characters at the end
        except ValueError:
            raise InputError(f"The result has no gene '{gene}'; run again with it in the list of genes.") from None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class UpsampleResult(UpsampleMetadata):
    """Upsampled counts on the fine raster, with the description of their run.

    Parameters
    ----------
    counts
        Counts of the pixels, float32 CSR, shape (Q, G). The sums over the pixels of a spot are the spot's counts.
    std
        Standard deviations of the true counts around ``counts``, float32 CSR, shape (Q, G); None if not computed.
    expression
        Estimates of the expected counts, given all spots, float32 CSR, shape (Q, G), with entries for the genes of
        ``expression_columns`` only; None if not computed. They are not bound to the counts of the spot.
    expression_std
        Standard deviations of the rates around ``expression``, in the same form; None if not computed. A new count
        scatters more: see :func:`napari_srast.new_count_std`.
    genes, skill, method, raster, slide, region, settings, run, provenance, expression_columns, expression_factors
        See :class:`UpsampleMetadata`.
    """

    counts: PixelCounts
    std: PixelValues | None
    expression: PixelValues | None = None
    expression_std: PixelValues | None = None

    @property
    def layers(self) -> dict[str, PixelValues]:
        """The matrices that the result has besides its counts, by name."""
        matrices = {"std": self.std, "expression": self.expression, "expression_std": self.expression_std}
        return {name: matrix for name, matrix in matrices.items() if matrix is not None}

    def gene_image(self, gene: str, layer: Layer = "counts") -> np.ndarray:
        """Return an image of one gene, float32, shape (rows, columns), NaN where no pixel has a parent.

        Parameters
        ----------
        gene
            Name of the gene.
        layer
            "counts"; "std" for their standard deviations; "expression"; "expression_std" for those of its rates.

        Raises
        ------
        InputError
            The result does not contain the gene, or lacks the layer, as a whole or for this gene.
        """
        column = self.gene_column(gene)
        matrix = self.counts if layer == "counts" else self.layers.get(layer)
        if matrix is None:
            raise InputError(_MISSING[layer])
        if layer.startswith("expression") and column not in self.expression_columns:
            raise InputError(
                f"The result has no expression of gene '{gene}'; run again with expression ['{gene}'], or choose "
                f"one of the {len(self.expression_columns)} genes that have it."
            )
        return self.raster.to_image(matrix[:, [column]].toarray()[:, 0])

    def to_anndata(self) -> anndata.AnnData:
        """Convert the result to a table of pixels and genes."""
        return _writer("to_anndata")(self)

    def to_spatialdata(self) -> spatialdata.SpatialData:
        """Convert the result to SpatialData: an image, the shapes of the pixels, and a table."""
        return _writer("to_spatialdata")(self)

    def write(self, path: str | Path, **options: Any) -> Path:
        """Write the result to a file or a store; see :func:`napari_srast.write_result` for the options."""
        return _writer("write_result")(self, path, **options)


def _writer(name: str) -> Callable[..., Any]:
    """Look up a function of :mod:`napari_srast.io.result_writer` by name, because ``io`` depends on this module."""
    function: Callable[..., Any] = pkgutil.resolve_name(f"napari_srast.io.result_writer:{name}")
    return function
