"""A result as the elements of SpatialData: the image, the pixels' circles, and the table.

A result of run RUN is three elements, because SpatialData wants every name but once in a store: the image
``srast_RUN``, the circles ``srast_RUN_pixels`` and, written last as the commit mark, ``srast_RUN_table``.
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
    "DeferredErrors",
    "ProgressHook",
    "ResultNames",
    "as_store",
    "column_reader",
    "image_columns",
    "image_genes",
    "result_names",
    "to_anndata",
    "to_spatialdata",
]

ProgressHook = Callable[[float], None]
Column = Callable[[int], np.ndarray]
"""Gives the counts (Q,) of one of the genes that the image shows."""

MAX_IMAGE_GENES = 64
MAX_IMAGE_BYTES = 1_000_000_000
_COLUMN_ENTRIES = 4_000_000  # of the columns that are made ready at once, if all were above 0


class DeferredErrors:
    """A watcher for threads that write: what it raises, or a thread lacks, is kept until all have come to an end.

    Raised in one thread it would let the caller clean up while the others still write, and make folders anew.
    """

    def __init__(self, watch: ProgressHook | None) -> None:
        self._watch = watch
        self._raised: BaseException | None = None
        self.span = 0.0, 1.0  # from where to where the work that goes on takes the whole

    def goes_on(self, done: float) -> bool:
        """Tell how much of the work that goes on is done; returns whether more is wanted."""
        if self._watch is not None and self._raised is None:
            try:
                self._watch(self.span[0] + done * (self.span[1] - self.span[0]))
            except BaseException as stop:  # noqa: BLE001 - it is raised again by settle
                self._raised = stop
        return self._raised is None

    def keep(self, error: BaseException) -> None:
        """Keep an error of a thread; it ends the writing like one that the watcher raised."""
        self._raised = self._raised or error

    def settle(self) -> None:
        """Raise what was kept."""
        if self._raised is not None:
            raise self._raised


@dataclass(frozen=True)
class ResultNames:
    """Names of a result's elements in a store."""

    image: str
    shapes: str
    table: str


def result_names(result: UpsampleMetadata) -> ResultNames:
    """Return the names that a result's elements get in a store."""
    stem = f"{RESULT_PREFIX}{element_name(result.run)}"
    return ResultNames(image=stem, shapes=f"{stem}_pixels", table=f"{stem}_table")


def image_genes(result: UpsampleMetadata) -> np.ndarray:
    """Return the columns of the genes that get an image channel.

    All of them, as long as they are at most :data:`MAX_IMAGE_GENES` and fit :data:`MAX_IMAGE_BYTES`; else the most
    abundant ones, in the result's order. The table always holds all.
    """
    columns = result.slide.gene_indices([str(gene) for gene in result.genes])
    return image_columns(result.slide, result.raster, columns)


def image_columns(slide: Slide, raster: Raster, columns: np.ndarray) -> np.ndarray:
    """Return which of some genes of a slide, shape (G,), get an image channel, before there is a result.

    The counts of the spots tell which are the most abundant, as the pixels will hold as many.
    """
    rows, cols = raster.shape
    most = max(1, min(MAX_IMAGE_GENES, MAX_IMAGE_BYTES // (4 * rows * cols)))
    if len(columns) <= most:
        return np.arange(len(columns))
    counts = slide.counts if len(raster.spots) == slide.n_spots else slide.counts[raster.spots]
    totals = gene_totals(counts)[columns]
    return np.sort(np.argsort(-totals, kind="stable")[:most])


def to_anndata(result: UpsampleResult) -> anndata.AnnData:
    """Return a result as a table.

    Returns
    -------
    anndata.AnnData
        X: upsampled counts, float32 CSR, shape (Q, G). obs: ``spot`` (id of the parent in the input table), ``region``,
        ``instance_id``, ``row``, ``col``. var: ``skill``, ``method``. obsm["spatial"]: pixel centers in the spots' own
        frame. layers["std"]: standard deviation over draws, where it was asked for. uns["napari_srast"]: provenance.
    """
    return _table(result, result.counts.astype(np.float32, copy=False), result.std)


def _table(record: UpsampleMetadata, counts: sparse.csr_matrix, std: sparse.csr_matrix | None) -> anndata.AnnData:
    import anndata

    names, raster = result_names(record), record.raster
    index = np.arange(record.n_pixels)
    spots, codes = np.unique(raster.parent, return_inverse=True)
    obs = pd.DataFrame(
        {
            "spot": pd.Categorical.from_codes(codes, record.slide.spot_ids[spots].astype(str)),
            "region": pd.Categorical(np.full(len(index), names.shapes), categories=[names.shapes]),
            "instance_id": index,
            "row": raster.row,
            "col": raster.col,
        },
        index=index.astype(str),
    )
    var = pd.DataFrame(
        {"skill": np.asarray(record.skill, dtype=float), "method": pd.Categorical(record.method.astype(str))},
        index=record.genes.astype(str),
    )
    shown = record.genes[image_genes(record)].astype(str).tolist()
    return anndata.AnnData(
        counts,
        obs=obs,
        var=var,
        obsm={"spatial": raster.centers},
        layers={} if std is None else {"std": std.astype(np.float32)},
        uns={RESULT_KEY: describe_result(record, image=names.image, shapes=names.shapes, image_genes=shown)},
    )


def to_spatialdata(result: UpsampleResult, include_image: bool = True) -> spatialdata.SpatialData:
    """Return the result as SpatialData: image, one circle per pixel, and the table of :func:`to_anndata`.

    The image is float32 (c, y, x), lazy, one chunk for each gene, NaN where no pixel has a parent; see
    :func:`image_genes` for which genes it shows. Every element leads to every coordinate system of the spots.
    """
    column = column_reader(result.counts, image_genes(result)) if include_image else None
    return _elements(result, to_anndata(result), column, None)


def as_store(
    record: UpsampleMetadata, *, with_std: bool, column: Column | None, watch: DeferredErrors | None
) -> spatialdata.SpatialData:
    """Return what :func:`to_spatialdata` does but for the table's counts, which are all 0: they lie elsewhere.

    Parameters
    ----------
    record
        The run.
    with_std
        Whether the table has the layer ``std``, all 0 as well.
    column
        Gives the genes of the image, in the order of :func:`image_genes`; None leaves the image out.
    watch
        Asked before each gene of the image.
    """
    empty = sparse.csr_matrix((record.n_pixels, len(record.genes)), dtype=np.float32)
    return _elements(record, _table(record, empty, empty if with_std else None), column, watch)


def _elements(
    record: UpsampleMetadata, table: anndata.AnnData, column: Column | None, watch: DeferredErrors | None
) -> spatialdata.SpatialData:
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    names = result_names(record)
    pixels = ShapesModel.parse(
        record.raster.centers,
        geometry=0,
        radius=record.raster.pixel_size / 2,
        transformations=to_affines(record.slide.transforms),
    )
    table = TableModel.parse(table, region=names.shapes, region_key="region", instance_key="instance_id")
    return spatialdata.SpatialData(
        images={} if column is None else {names.image: _image(record, column, watch)},
        shapes={names.shapes: pixels},
        tables={names.table: table},
    )


def _image(record: UpsampleMetadata, column: Column, watch: DeferredErrors | None) -> DataArray:
    import dask.array as da
    from spatialdata.models import Image2DModel

    columns = image_genes(record)
    rows, cols = record.raster.shape
    done = itertools.count()  # threads compute the genes in any order

    def paint(block_info: Any = None) -> np.ndarray:
        gene = block_info[None]["chunk-location"][0]
        if watch is None or watch.goes_on(min(next(done) / len(columns), 1.0)):
            try:
                return record.raster.paint(column(gene))[None]
            except MemoryError as error:
                if watch is None:
                    raise
                watch.keep(error)
        return np.broadcast_to(np.float32(np.nan), (1, rows, cols))  # what was written is thrown away

    image = da.map_blocks(
        paint,
        chunks=((1,) * len(columns), (rows,), (cols,)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), dtype=np.float32),
    )
    return Image2DModel.parse(
        image,
        dims=("c", "y", "x"),
        c_coords=record.genes[columns].astype(str).tolist(),
        transformations=to_affines(record.slide.transforms, first=record.raster.affine),
    )


def column_reader(counts: sparse.csr_matrix, columns: np.ndarray) -> Column:
    """Return what gives one of some columns, dense; a few neighbors are made ready at once, never a copy of all."""
    at_once = max(1, _COLUMN_ENTRIES // max(counts.shape[0], 1))
    one_by_one = threading.Lock()  # threads that ask for the same few wait for the first to make them

    @functools.lru_cache(maxsize=1)
    def group(index: int) -> sparse.csc_matrix:
        return sparse.csc_matrix(counts[:, columns[index * at_once : (index + 1) * at_once]])

    def column(place: int) -> np.ndarray:
        with one_by_one:
            those = group(place // at_once)
        return those[:, [place % at_once]].toarray()[:, 0]

    return column
