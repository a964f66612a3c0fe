"""Convert a result to SpatialData elements: images, circles for the pixels, and a table.

The elements of run RUN are the images ``srast_RUN`` and ``srast_RUN_expression``, the labels ``srast_RUN_labels``, the
circles ``srast_RUN_pixels`` and the table ``srast_RUN_table``, because names must be unique in a SpatialData store. The
table is written last and marks a complete result. It annotates the circles; the same ids are the values of the labels.

Shape legend: Q pixels, G genes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast.core.result import UpsampleMetadata, UpsampleResult
from napari_srast.io.element_selection import RESULT_KEY, RESULT_PREFIX
from napari_srast.io.histology_copy import histology_element, histology_name
from napari_srast.io.provenance import describe_result
from napari_srast.io.result_images import (
    ColumnReader,
    DeferredErrors,
    ImageSource,
    build_images,
    build_labels,
    column_reader,
    image_genes,
    instance_ids,
)
from napari_srast.io.store import element_name
from napari_srast.io.transforms import to_affines

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = [
    "FACTORS_KEY",
    "PROGRAMS_KEY",
    "ResultNames",
    "StoreContent",
    "build_store_without_counts",
    "image_sources",
    "matrix_image_sources",
    "result_names",
    "to_anndata",
    "to_spatialdata",
]


FACTORS_KEY = "expression_factors"
"""Entry of ``uns["napari_srast"]`` with genes and loadings of the expression factors."""
PROGRAMS_KEY = "expression_programs"
"""Entry of ``obsm`` with their activities."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoreContent:
    """Optional content of the store of a result.

    Parameters
    ----------
    include_image
        Whether the store contains images of the genes.
    include_histology
        Whether the store contains the histology of the slide.
    spot_columns
        Columns of the spots, one row per spot of the slide, that ``obs`` repeats for the pixels; None for none.
    """

    include_image: bool = True
    include_histology: bool = False
    spot_columns: pd.DataFrame | None = None


@dataclass(frozen=True)
class ResultNames:
    """Names of a result's elements in a store."""

    image: str
    expression_image: str
    labels: str
    shapes: str
    table: str


def result_names(result: UpsampleMetadata) -> ResultNames:
    """Return the names of a result's elements in a store."""
    stem = f"{RESULT_PREFIX}{element_name(result.run)}"
    return ResultNames(
        image=stem,
        expression_image=f"{stem}_expression",
        labels=f"{stem}_labels",
        shapes=f"{stem}_pixels",
        table=f"{stem}_table",
    )


def to_anndata(result: UpsampleResult, spot_columns: pd.DataFrame | None = None) -> anndata.AnnData:
    """Convert a result to a table.

    Parameters
    ----------
    result
        The result.
    spot_columns
        Columns of the spots, one row per spot of the slide, that ``obs`` repeats for the pixels; None for none. A
        column whose name is taken gets the prefix "spot_".

    Returns
    -------
    anndata.AnnData
        X: upsampled counts, float32 CSR, shape (Q, G). obs: ``spot`` (id of the parent spot in the slide), ``region``,
        ``instance_id``, ``row``, ``col``; its names start with that of the run. var: ``skill``, ``method``,
        ``expression`` (whether the gene has expression), ``gene_ids`` if the slide has them.
        obsm["spatial"]: pixel centers (x, y) in the spots' intrinsic coordinates. layers["std"] and
        layers["expression"], if the result has them. obsm["expression_programs"], if it has factors of the other genes.
        uns["napari_srast"]: provenance, and these factors.
    """
    layers = {name: matrix.astype(np.float32, copy=False) for name, matrix in result.layers.items()}
    content = StoreContent(spot_columns=spot_columns)
    return _table(result, result.counts.astype(np.float32, copy=False), layers, content)


def _table(
    metadata: UpsampleMetadata,
    counts: sparse.csr_matrix,
    layers: Mapping[str, sparse.csr_matrix],
    content: StoreContent,
) -> anndata.AnnData:
    import anndata

    names, raster = result_names(metadata), metadata.raster
    ids = instance_ids(raster)
    spots, codes = np.unique(raster.parent, return_inverse=True)
    obs = pd.DataFrame(
        {
            "spot": pd.Categorical.from_codes(codes, metadata.slide.spot_ids[spots].astype(str)),
            "region": pd.Categorical(np.full(len(ids), names.shapes), categories=[names.shapes]),
            "instance_id": ids,
            "row": raster.row,
            "col": raster.col,
        },
        index=[f"{metadata.run}_{i}" for i in ids],
    )
    if content.spot_columns is not None:
        for name, values in content.spot_columns.items():
            obs[f"spot_{name}" if name in obs else str(name)] = values.iloc[raster.parent].to_numpy()
    var = pd.DataFrame(
        {
            "skill": np.asarray(metadata.skill, dtype=float),
            "method": pd.Categorical(metadata.method.astype(str)),
            "expression": np.isin(np.arange(len(metadata.genes)), metadata.expression_columns),
        },
        index=metadata.genes.astype(str),
    )
    if metadata.slide.gene_ids is not None:
        columns = metadata.slide.gene_indices([str(gene) for gene in metadata.genes])
        var["gene_ids"] = metadata.slide.gene_ids[columns].astype(str)
    channels = {key: metadata.genes[columns].astype(str).tolist() for key, columns in image_genes(metadata).items()}
    factors = metadata.expression_factors
    table = anndata.AnnData(
        counts,
        obs=obs,
        var=var,
        obsm={"spatial": raster.centers} | ({} if factors is None else {PROGRAMS_KEY: factors.activities}),
        layers=dict(layers),
        uns={
            RESULT_KEY: describe_result(
                metadata,
                {
                    "image": names.image,
                    "labels": names.labels,
                    "shapes": names.shapes,
                    "image_genes": channels["counts"],
                    "histology": histology_name(metadata.slide) if content.include_histology else None,
                    "expression_image": names.expression_image if "expression" in channels else None,
                    "expression_image_genes": channels.get("expression"),
                },
            )
        },
    )
    if factors is not None:
        table.uns[RESULT_KEY][FACTORS_KEY] = {"genes": factors.genes.astype(str), "loadings": factors.loadings}
    return table


def to_spatialdata(
    result: UpsampleResult, include_image: bool = True, include_histology: bool = False
) -> spatialdata.SpatialData:
    """Convert a result to SpatialData: images, labels, one circle per pixel, and the table of :func:`to_anndata`.

    The images are lazy, float32, shape (c, y, x), with one chunk per gene and 0 outside the pixels;
    :func:`~napari_srast.io.result_images.image_genes` selects their genes. Every element has a transformation to every
    coordinate system of the spots.

    Parameters
    ----------
    result
        The result.
    include_image
        Whether to include the images.
    include_histology
        Whether to include the histology of the slide.
    """
    content = StoreContent(include_image=include_image, include_histology=include_histology)
    layers = {name: matrix.astype(np.float32, copy=False) for name, matrix in result.layers.items()}
    table = _table(result, result.counts.astype(np.float32, copy=False), layers, content)
    return _elements(result, table, matrix_image_sources(result) if include_image else (), content, None)


def build_store_without_counts(
    metadata: UpsampleMetadata,
    *,
    layers: Collection[str],
    images: Sequence[ImageSource],
    content: StoreContent,
    progress: DeferredErrors | None,
) -> spatialdata.SpatialData:
    """Build what :func:`to_spatialdata` returns, with empty matrices that the caller replaces on disk.

    Parameters
    ----------
    metadata
        The result without its counts.
    layers
        Names of the layers of the table.
    images
        Content of the images.
    content
        Optional content of the store.
    progress
        Receives a report before each channel of an image.
    """
    empty = sparse.csr_matrix((metadata.n_pixels, len(metadata.genes)), dtype=np.float32)
    table = _table(metadata, empty, dict.fromkeys(layers, empty), content)
    return _elements(metadata, table, images, content, progress)


def image_sources(metadata: UpsampleMetadata, read: Callable[[str, np.ndarray], ColumnReader]) -> list[ImageSource]:
    """Return the content of a result's images.

    Parameters
    ----------
    metadata
        The result, with or without its matrices.
    read
        Returns a reader, given "counts" or "expression" and the genes of the channels.
    """
    names = result_names(metadata)
    by_layer = {"counts": names.image, "expression": names.expression_image}
    return [
        ImageSource(name=by_layer[layer], columns=columns, read=read(layer, columns))
        for layer, columns in image_genes(metadata).items()
    ]


def matrix_image_sources(result: UpsampleResult) -> list[ImageSource]:
    """Return the content of the images of a result whose matrices are in memory."""
    matrices = {"counts": result.counts, **result.layers}
    return image_sources(result, lambda layer, columns: column_reader(matrices[layer], columns))


def _elements(
    metadata: UpsampleMetadata,
    table: anndata.AnnData,
    images: Sequence[ImageSource],
    content: StoreContent,
    progress: DeferredErrors | None,
) -> spatialdata.SpatialData:
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    names = result_names(metadata)
    pixels = ShapesModel.parse(
        metadata.raster.centers,
        index=pd.Index(instance_ids(metadata.raster)),
        geometry=0,
        radius=metadata.raster.pixel_size / 2,
        transformations=to_affines(metadata.slide.transforms),
    )
    table = TableModel.parse(table, region=names.shapes, region_key="region", instance_key="instance_id")
    histology: dict[str, Any] = {}
    name = histology_name(metadata.slide)
    if content.include_histology and name is not None:
        histology[name] = histology_element(metadata.slide, progress)
    return spatialdata.SpatialData(
        images={**build_images(metadata, images, progress), **histology},
        labels={names.labels: build_labels(metadata)},
        shapes={names.shapes: pixels},
        tables={names.table: table},
    )
