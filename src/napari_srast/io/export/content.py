"""Select the genes and the matrix of a result that an export contains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_srast.core.gene_list import check_is_list
from napari_srast.core.result import Layer, UpsampleResult
from napari_srast.errors import InputError, SettingsError, invalid_choice
from napari_srast.io.result_images import ColumnReader, column_reader, image_columns

__all__ = ["LAYERS", "ExportContent", "select_content"]

LAYERS: tuple[Layer, ...] = ("counts", "expression", "std", "expression_std")
"""The matrices that can be exported."""


@dataclass(frozen=True, eq=False)
class ExportContent:
    """Genes of a result and their values.

    Parameters
    ----------
    layer
        Name of the matrix.
    genes
        Names of the genes, in the order of the result.
    read
        Returns the values (Q,) of a gene by its index in ``genes``.
    """

    layer: Layer
    genes: tuple[str, ...]
    read: ColumnReader


def select_content(result: UpsampleResult, genes: Sequence[str] | None, layer: Layer) -> ExportContent:
    """Select genes and a matrix.

    Parameters
    ----------
    result
        The result.
    genes
        Names of the genes. None selects those that have an image in the store of a result: all genes if they are at
        most 64, else the most abundant ones.
    layer
        "counts"; "expression"; "std" or "expression_std" for their standard deviations.

    Raises
    ------
    InputError
        The result lacks a gene or the matrix.
    SettingsError
        The layer has another name, or the list of genes is empty.
    """
    if layer not in LAYERS:
        raise invalid_choice("layer", layer, LAYERS)
    check_is_list(genes)
    if genes is not None and not len(genes):
        raise SettingsError("The list of genes is empty; name at least one gene, or leave the list out.")
    if genes is None:
        columns = image_columns(
            result.slide, result.raster, result.slide.gene_indices([str(gene) for gene in result.genes])
        )
        if layer.startswith("expression"):
            columns = np.intersect1d(columns, result.expression_columns)
    else:
        columns = np.unique([result.gene_column(gene) for gene in genes])
    names = tuple(str(gene) for gene in result.genes[columns])
    if not names:
        raise InputError("The result has no expression; run again with expression 'auto', or export its counts.")
    absent = [names[i] for i in np.flatnonzero(~np.isin(columns, result.expression_columns))]
    probe = absent[0] if absent and layer.startswith("expression") else names[0]
    result.gene_image(probe, layer)  # raises if the layer is missing, as a whole or for this gene
    matrix = result.counts if layer == "counts" else result.layers[layer]
    return ExportContent(layer, names, column_reader(matrix, columns))
