"""Convert a result to SpatialData elements: images, circles for the pixels, and a table.

The elements of run RUN are the images ``srast_RUN`` and ``srast_RUN_expression``, the circles ``srast_RUN_pixels``
and the table ``srast_RUN_table``, because names must be unique in a SpatialData store. The table is written last and
marks a complete result.

Shape legend: Q pixels, G genes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast.core.result import UpsampleMetadata, UpsampleResult
from napari_srast.io.element_selection import RESULT_KEY, RESULT_PREFIX
from napari_srast.io.provenance import describe_result
from napari_srast.io.result_images import (
    ColumnReader,
    DeferredErrors,
    ImageSource,
    build_images,
    column_reader,
    image_genes,
)
from napari_srast.io.store import element_name
from napari_srast.io.transforms import to_affines

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = [
    "ResultNames",
    "build_store_without_counts",
    "image_sources",
    "matrix_image_sources",
    "result_names",
    "to_anndata",
    "to_spatialdata",
]


@dataclass(frozen=True)
class ResultNames:
    """Names of a result's elements in a store."""

    image: str
    expression_image: str
    shapes: str
    table: str


def result_names(result: UpsampleMetadata) -> ResultNames:
    """Return the names of a result's elements in a store."""
    stem = f"{RESULT_PREFIX}{element_name(result.run)}"
    return ResultNames(
        image=stem, expression_image=f"{stem}_expression", shapes=f"{stem}_pixels", table=f"{stem}_table"
    )


def to_anndata(result: UpsampleResult) -> anndata.AnnData:
    """Convert a result to a table.

    Parameters
    ----------
    result
        The result.

    Returns
    -------
    anndata.AnnData
        X: upsampled counts, float32 CSR, shape (Q, G). obs: ``spot`` (id of the parent spot in the slide), ``region``,
        ``instance_id``, ``row``, ``col``. var: ``skill``, ``method``, ``expression`` (whether the gene has expression).
        obsm["spatial"]: pixel centers (x, y) in the spots' intrinsic coordinates. layers["std"], layers["expression"]
        and layers["expression_std"], if the result has them. uns["napari_srast"]: provenance.
    """
    layers = {name: matrix.astype(np.float32, copy=False) for name, matrix in result.layers.items()}
    return _table(result, result.counts.astype(np.float32, copy=False), layers)


def _table(
    metadata: UpsampleMetadata, counts: sparse.csr_matrix, layers: Mapping[str, sparse.csr_matrix]
) -> anndata.AnnData:
    import anndata

    names, raster = result_names(metadata), metadata.raster
    index = np.arange(metadata.n_pixels)
    spots, codes = np.unique(raster.parent, return_inverse=True)
    obs = pd.DataFrame(
        {
            "spot": pd.Categorical.from_codes(codes, metadata.slide.spot_ids[spots].astype(str)),
            "region": pd.Categorical(np.full(len(index), names.shapes), categories=[names.shapes]),
            "instance_id": index,
            "row": raster.row,
            "col": raster.col,
        },
        index=index.astype(str),
    )
    var = pd.DataFrame(
        {
            "skill": np.asarray(metadata.skill, dtype=float),
            "method": pd.Categorical(metadata.method.astype(str)),
            "expression": np.isin(np.arange(len(metadata.genes)), metadata.expression_columns),
        },
        index=metadata.genes.astype(str),
    )
    channels = {key: metadata.genes[columns].astype(str).tolist() for key, columns in image_genes(metadata).items()}
    return anndata.AnnData(
        counts,
        obs=obs,
        var=var,
        obsm={"spatial": raster.centers},
        layers=dict(layers),
        uns={
            RESULT_KEY: describe_result(
                metadata,
                {
                    "image": names.image,
                    "shapes": names.shapes,
                    "image_genes": channels["counts"],
                    "expression_image": names.expression_image if "expression" in channels else None,
                    "expression_image_genes": channels.get("expression"),
                },
            )
        },
    )


def to_spatialdata(result: UpsampleResult, include_image: bool = True) -> spatialdata.SpatialData:
    """Convert a result to SpatialData: images, one circle per pixel, and the table of :func:`to_anndata`.

    The images are lazy, float32, shape (c, y, x), with one chunk per gene and NaN outside the pixels;
    :func:`~napari_srast.io.result_images.image_genes` selects their genes. Every element has a transformation to every
    coordinate system of the spots.

    Parameters
    ----------
    result
        The result.
    include_image
        Whether to include the images.
    """
    return _elements(result, to_anndata(result), matrix_image_sources(result) if include_image else (), None)


def build_store_without_counts(
    metadata: UpsampleMetadata,
    *,
    layers: Collection[str],
    images: Sequence[ImageSource],
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
    progress
        Receives a report before each channel of an image.
    """
    empty = sparse.csr_matrix((metadata.n_pixels, len(metadata.genes)), dtype=np.float32)
    return _elements(metadata, _table(metadata, empty, dict.fromkeys(layers, empty)), images, progress)


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
    progress: DeferredErrors | None,
) -> spatialdata.SpatialData:
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    names = result_names(metadata)
    pixels = ShapesModel.parse(
        metadata.raster.centers,
        geometry=0,
        radius=metadata.raster.pixel_size / 2,
        transformations=to_affines(metadata.slide.transforms),
    )
    table = TableModel.parse(table, region=names.shapes, region_key="region", instance_key="instance_id")
    return spatialdata.SpatialData(
        images=build_images(metadata, images, progress),
        shapes={names.shapes: pixels},
        tables={names.table: table},
    )
