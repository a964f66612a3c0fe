"""Convert a result to SpatialData elements: an image, circles for the pixels, and a table.

The elements of run RUN are the image ``srast_RUN``, the circles ``srast_RUN_pixels`` and the table ``srast_RUN_table``,
because names must be unique in a SpatialData store. The table is written last and marks a complete result.

Shape legend: Q pixels, G genes.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast.core.mass_balance import gene_totals
from napari_srast.core.result import UpsampleMetadata, UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.io.element_selection import RESULT_KEY, RESULT_PREFIX
from napari_srast.io.provenance import describe_result
from napari_srast.io.store import element_name
from napari_srast.io.transforms import to_affines

if TYPE_CHECKING:
    import anndata
    import spatialdata
    from xarray import DataArray

    from napari_srast.geometry.raster import Raster

__all__ = [
    "MAX_IMAGE_BYTES",
    "MAX_IMAGE_GENES",
    "ColumnReader",
    "DeferredErrors",
    "ProgressHook",
    "ResultNames",
    "build_store_without_counts",
    "column_reader",
    "image_columns",
    "image_genes",
    "result_names",
    "to_anndata",
    "to_spatialdata",
]

ProgressHook = Callable[[float], None]
"""Receives the completed fraction, 0 to 1; an exception that it raises stops the writing."""
ColumnReader = Callable[[int], np.ndarray]
"""Returns the counts (Q,) of a gene, given the index of its image channel."""

MAX_IMAGE_GENES = 64
"""Largest number of channels of the image."""
MAX_IMAGE_BYTES = 1_000_000_000
"""Largest size of the image; it has at least one channel, however large."""
_COLUMN_VALUES = 4_000_000  # values of the columns that are extracted together


class DeferredErrors:
    """Progress hook for threads that write, which stores errors until all threads have ended.

    An error that is raised immediately in one thread would let the caller clean up while the other threads still write
    and create folders again.

    Parameters
    ----------
    on_progress
        Receives the completed fraction, 0 to 1; None for no reports.

    Attributes
    ----------
    span
        Completed fractions at the start and end of the current step; reports are scaled to it.
    """

    def __init__(self, on_progress: ProgressHook | None) -> None:
        self._on_progress = on_progress
        self._error: BaseException | None = None
        self.span = 0.0, 1.0

    def report(self, fraction: float) -> bool:
        """Report the completed fraction of the current step, and return whether to continue."""
        if self._on_progress is not None and self._error is None:
            try:
                self._on_progress(self.span[0] + fraction * (self.span[1] - self.span[0]))
            except BaseException as error:  # noqa: BLE001 - raise_pending raises it
                self._error = error
        return self._error is None

    def record(self, error: BaseException) -> None:
        """Store an error of a thread; it stops the writing like an error of the progress hook."""
        self._error = self._error or error

    def raise_pending(self) -> None:
        """Raise the stored error, if there is one; call it after all threads have ended."""
        if self._error is not None:
            raise self._error


@dataclass(frozen=True)
class ResultNames:
    """Names of a result's elements in a store."""

    image: str
    shapes: str
    table: str


def result_names(result: UpsampleMetadata) -> ResultNames:
    """Return the names of a result's elements in a store."""
    stem = f"{RESULT_PREFIX}{element_name(result.run)}"
    return ResultNames(image=stem, shapes=f"{stem}_pixels", table=f"{stem}_table")


def image_genes(result: UpsampleMetadata) -> np.ndarray:
    """Return the columns of the genes that get an image channel, in the order of the result.

    These are all genes within the limits :data:`MAX_IMAGE_GENES` and :data:`MAX_IMAGE_BYTES`, or else the most abundant
    ones. The table always contains all genes.

    Parameters
    ----------
    result
        The result, with or without its counts.
    """
    columns = result.slide.gene_indices([str(gene) for gene in result.genes])
    return image_columns(result.slide, result.raster, columns)


def image_columns(slide: Slide, raster: Raster, columns: np.ndarray) -> np.ndarray:
    """Return the genes that get an image channel before the result is computed, as indices into ``columns``.

    The total counts of the spots rank the genes, because the pixels have the same totals.

    Parameters
    ----------
    slide
        The slide.
    raster
        The pixels of the result.
    columns
        The genes of the result, as columns of the slide's counts, shape (G,).
    """
    rows, cols = raster.shape
    n_channels = max(1, min(MAX_IMAGE_GENES, MAX_IMAGE_BYTES // (4 * rows * cols)))
    if len(columns) <= n_channels:
        return np.arange(len(columns))
    counts = slide.counts if len(raster.spots) == slide.n_spots else slide.counts[raster.spots]
    totals = gene_totals(counts)[columns]
    return np.sort(np.argsort(-totals, kind="stable")[:n_channels])


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
        ``instance_id``, ``row``, ``col``. var: ``skill``, ``method``. obsm["spatial"]: pixel centers (x, y) in the
        spots' intrinsic coordinates. layers["std"]: standard deviations, if the result has them.
        uns["napari_srast"]: provenance.
    """
    return _table(result, result.counts.astype(np.float32, copy=False), result.std)


def _table(metadata: UpsampleMetadata, counts: sparse.csr_matrix, std: sparse.csr_matrix | None) -> anndata.AnnData:
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
        {"skill": np.asarray(metadata.skill, dtype=float), "method": pd.Categorical(metadata.method.astype(str))},
        index=metadata.genes.astype(str),
    )
    shown = metadata.genes[image_genes(metadata)].astype(str).tolist()
    return anndata.AnnData(
        counts,
        obs=obs,
        var=var,
        obsm={"spatial": raster.centers},
        layers={} if std is None else {"std": std.astype(np.float32)},
        uns={RESULT_KEY: describe_result(metadata, image=names.image, shapes=names.shapes, image_genes=shown)},
    )


def to_spatialdata(result: UpsampleResult, include_image: bool = True) -> spatialdata.SpatialData:
    """Convert a result to SpatialData: an image, one circle per pixel, and the table of :func:`to_anndata`.

    The image is lazy, float32, shape (c, y, x), with one chunk per gene and NaN outside the pixels; :func:`image_genes`
    selects its genes. Every element has a transformation to every coordinate system of the spots.

    Parameters
    ----------
    result
        The result.
    include_image
        Whether to include the image.
    """
    column = column_reader(result.counts, image_genes(result)) if include_image else None
    return _elements(result, to_anndata(result), column, None)


def build_store_without_counts(
    metadata: UpsampleMetadata, *, with_std: bool, column: ColumnReader | None, progress: DeferredErrors | None
) -> spatialdata.SpatialData:
    """Build what :func:`to_spatialdata` returns, with empty matrices that the caller replaces on disk.

    Parameters
    ----------
    metadata
        The result without its counts.
    with_std
        Whether the table has the layer ``std``.
    column
        Returns the genes of the image, in the order of :func:`image_genes`; None omits the image.
    progress
        Receives a report before each gene of the image.
    """
    empty = sparse.csr_matrix((metadata.n_pixels, len(metadata.genes)), dtype=np.float32)
    return _elements(metadata, _table(metadata, empty, empty if with_std else None), column, progress)


def _elements(
    metadata: UpsampleMetadata, table: anndata.AnnData, column: ColumnReader | None, progress: DeferredErrors | None
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
        images={} if column is None else {names.image: _image(metadata, column, progress)},
        shapes={names.shapes: pixels},
        tables={names.table: table},
    )


def _image(metadata: UpsampleMetadata, column: ColumnReader, progress: DeferredErrors | None) -> DataArray:
    import dask.array as da
    from spatialdata.models import Image2DModel

    columns = image_genes(metadata)
    rows, cols = metadata.raster.shape
    n_done = itertools.count()  # threads compute the genes in any order

    def channel(block_info: Any = None) -> np.ndarray:
        gene = block_info[None]["chunk-location"][0]
        if progress is None or progress.report(min(next(n_done) / len(columns), 1.0)):
            try:
                return metadata.raster.to_image(column(gene))[None]
            except MemoryError as error:
                if progress is None:
                    raise
                progress.record(error)
        return np.broadcast_to(np.float32(np.nan), (1, rows, cols))  # the store is discarded

    image = da.map_blocks(
        channel,
        chunks=((1,) * len(columns), (rows,), (cols,)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), dtype=np.float32),
    )
    return Image2DModel.parse(
        image,
        dims=("c", "y", "x"),
        c_coords=metadata.genes[columns].astype(str).tolist(),
        transformations=to_affines(metadata.slide.transforms, first=metadata.raster.affine),
    )


def column_reader(counts: sparse.csr_matrix, columns: np.ndarray) -> ColumnReader:
    """Return a function that extracts one column of a matrix.

    It extracts a few neighboring columns together, and never copies the whole matrix.

    Parameters
    ----------
    counts
        The matrix, CSR (Q, G).
    columns
        The columns, by index of their image channel.
    """
    group_size = max(1, _COLUMN_VALUES // max(counts.shape[0], 1))
    lock = threading.Lock()  # threads that need the same group wait for the first one to extract it

    @functools.lru_cache(maxsize=1)
    def extract(group: int) -> sparse.csc_matrix:
        return sparse.csc_matrix(counts[:, columns[group * group_size : (group + 1) * group_size]])

    def column(channel: int) -> np.ndarray:
        with lock:
            group = extract(channel // group_size)
        return group[:, [channel % group_size]].toarray()[:, 0]

    return column
