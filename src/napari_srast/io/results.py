"""Results out and in again: SpatialData, ``.h5ad`` and ``.csv``, written so that nothing half-done is ever seen.

A result of run RUN is three elements, because SpatialData wants every name but once in a store: the image
``srast_RUN``, the pixels' circles ``srast_RUN_pixels`` and, written last as the commit mark, ``srast_RUN_table``.
"""

from __future__ import annotations

import functools
import gzip
import io
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast.errors import OutputError, telling_lack_of_memory
from napari_srast.io.atomic import atomic_output, refuse_inside
from napari_srast.io.choices import RESULT_KEY, RESULT_PREFIX
from napari_srast.io.merging import merge_into
from napari_srast.io.provenance import describe_result
from napari_srast.io.reopen import read_result
from napari_srast.io.store import element_name, quiet_writing, write_store
from napari_srast.io.transforms import to_affines
from napari_srast.slide import UpsampleResult
from napari_srast.summary import gene_totals

if TYPE_CHECKING:
    import anndata
    import spatialdata
    from xarray import DataArray

__all__ = [
    "MAX_IMAGE_BYTES",
    "MAX_IMAGE_GENES",
    "ResultNames",
    "image_genes",
    "read_result",
    "result_names",
    "to_anndata",
    "to_spatialdata",
    "write_result",
]

Watch = Callable[[float], None]


class _Deferred:
    """A watcher for threads that write: what it raises, or a thread lacks, is kept until all have come to an end.

    Raised in one thread it would let the caller clean up while the others still write, and make folders anew.
    """

    def __init__(self, watch: Watch | None) -> None:
        self._watch = watch
        self._raised: BaseException | None = None

    def goes_on(self, done: float) -> bool:
        """Tell how much is done; returns whether more is wanted."""
        if self._watch is not None and self._raised is None:
            try:
                self._watch(done)
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


MAX_IMAGE_GENES = 64
MAX_IMAGE_BYTES = 1_000_000_000
_CSV_ROWS = 5_000
_COLUMN_ENTRIES = 4_000_000  # of the columns that are made ready at once, if all were above 0


@dataclass(frozen=True)
class ResultNames:
    """Names of a result's elements in a store."""

    image: str
    shapes: str
    table: str


def result_names(result: UpsampleResult) -> ResultNames:
    """Return the names that a result's elements get in a store."""
    stem = f"{RESULT_PREFIX}{element_name(result.run)}"
    return ResultNames(image=stem, shapes=f"{stem}_pixels", table=f"{stem}_table")


def image_genes(result: UpsampleResult) -> np.ndarray:
    """Return the columns of the genes that get an image channel.

    All of them, as long as they are at most :data:`MAX_IMAGE_GENES` and fit :data:`MAX_IMAGE_BYTES`; else the most
    abundant ones, in the result's order. The table always holds all.
    """
    rows, columns = result.raster.shape
    most = max(1, min(MAX_IMAGE_GENES, MAX_IMAGE_BYTES // (4 * rows * columns)))
    if len(result.genes) <= most:
        return np.arange(len(result.genes))
    totals = gene_totals(result.counts)
    return np.sort(np.argsort(-totals, kind="stable")[:most])


def to_anndata(result: UpsampleResult) -> anndata.AnnData:
    """Return a result as a table.

    Returns
    -------
    anndata.AnnData
        X: upsampled counts, float32 CSR, shape (Q, G). obs: ``spot`` (id of the parent in the input table), ``region``,
        ``instance_id``, ``row``, ``col``. var: ``skill``, ``method``. obsm["spatial"]: pixel centres in the spots' own
        frame. layers["std"]: standard deviation over draws, where it was asked for. uns["napari_srast"]: provenance.
    """
    import anndata

    names, raster = result_names(result), result.raster
    index = np.arange(result.n_pixels)
    spots, codes = np.unique(raster.parent, return_inverse=True)
    obs = pd.DataFrame(
        {
            "spot": pd.Categorical.from_codes(codes, result.slide.spot_ids[spots].astype(str)),
            "region": pd.Categorical(np.full(len(index), names.shapes), categories=[names.shapes]),
            "instance_id": index,
            "row": raster.row,
            "col": raster.col,
        },
        index=index.astype(str),
    )
    var = pd.DataFrame(
        {"skill": np.asarray(result.skill, dtype=float), "method": pd.Categorical(result.method.astype(str))},
        index=result.genes.astype(str),
    )
    shown = result.genes[image_genes(result)].astype(str).tolist()
    return anndata.AnnData(
        result.counts.astype(np.float32, copy=False),
        obs=obs,
        var=var,
        obsm={"spatial": raster.centers},
        layers={} if result.std is None else {"std": result.std.astype(np.float32)},
        uns={RESULT_KEY: describe_result(result, image=names.image, shapes=names.shapes, image_genes=shown)},
    )


def to_spatialdata(result: UpsampleResult, include_image: bool = True) -> spatialdata.SpatialData:
    """Return a result as SpatialData: image, one circle per pixel, and the table of :func:`to_anndata`.

    The image is float32 (c, y, x), lazy, one chunk for each gene, NaN where no pixel has a parent; see
    :func:`image_genes` for which genes it shows. Every element leads to every coordinate system of the spots.
    """
    return _as_store(result, include_image, None)


def _as_store(result: UpsampleResult, include_image: bool, watch: _Deferred | None) -> spatialdata.SpatialData:
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    names, slide = result_names(result), result.slide
    pixels = ShapesModel.parse(
        result.raster.centers,
        geometry=0,
        radius=result.raster.pixel_size / 2,
        transformations=to_affines(slide.transforms),
    )
    table = TableModel.parse(to_anndata(result), region=names.shapes, region_key="region", instance_key="instance_id")
    return spatialdata.SpatialData(
        images={names.image: _image(result, watch)} if include_image else {},
        shapes={names.shapes: pixels},
        tables={names.table: table},
    )


def _image(result: UpsampleResult, watch: _Deferred | None) -> DataArray:
    import dask.array as da
    from spatialdata.models import Image2DModel

    columns = image_genes(result)
    column = _columns(result.counts, columns)
    rows, cols = result.raster.shape
    done = itertools.count()  # threads compute the genes in any order

    def paint(block_info: Any = None) -> np.ndarray:
        gene = block_info[None]["chunk-location"][0]
        if watch is None or watch.goes_on(min(next(done) / len(columns), 1.0)):
            try:
                return result.raster.paint(column(gene))[None]
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
        c_coords=result.genes[columns].astype(str).tolist(),
        transformations=to_affines(result.slide.transforms, first=result.raster.affine),
    )


def _columns(counts: sparse.csr_matrix, columns: np.ndarray) -> Callable[[int], np.ndarray]:
    """Return what gives one of some columns, dense; a few neighbours are made ready at once, never a copy of all."""
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


@telling_lack_of_memory(
    "while writing the result, and nothing was left behind", "write .csv, fewer genes or a smaller region"
)
def write_result(
    result: UpsampleResult,
    path: str | Path,
    *,
    into_slide: bool = False,
    include_image: bool = True,
    watch: Watch | None = None,
) -> Path:
    """Write a result.

    Parameters
    ----------
    result
        What to write.
    path
        ``.zarr``: a SpatialData store; ``.h5ad``: the table; ``.csv`` or ``.csv.gz``: one line for each pixel with
        ``x``, ``y`` (in the spots' own frame), ``spot`` and one column for each gene.
    into_slide
        Add the result to the existing store at ``path`` (the slide's own), beside what is there.
    include_image
        Whether a store gets the image beside circles and table.
    watch
        Called with the share that is done, 0 to 1, before each gene's image or block of lines, from any thread; what
        it raises stops the writing.

    Raises
    ------
    OutputError
        The output exists already (or, for ``into_slide``, is no store), lies inside the slide's own store, or cannot
        be written. Nothing is left behind, and nothing that was there is changed.
    """
    path = Path(path)
    if into_slide:
        _write_into(result, path, include_image, watch)
        return path
    name = path.name.casefold()
    if not name.endswith((".zarr", ".h5ad", ".csv", ".csv.gz")):
        raise OutputError(f"'{path}' has no known ending; name it .zarr, .h5ad, .csv or .csv.gz.")
    if result.slide.source.path is not None:
        refuse_inside(path, Path(result.slide.source.path))
    with atomic_output(path) as partial:
        if name.endswith(".zarr"):
            _write_store(result, partial, include_image, watch)
        elif name.endswith(".h5ad"):
            _write_h5ad(result, partial)
        else:
            _write_csv(result, partial, packed=name.endswith(".gz"), watch=watch)
    return path


def _write_store(result: UpsampleResult, path: Path, include_image: bool, watch: Watch | None) -> None:
    """Write a new store; a watcher that raises is heard once nothing writes any more."""
    deferred = _Deferred(watch)
    write_store(_as_store(result, include_image, deferred), path)
    deferred.settle()


def _write_h5ad(result: UpsampleResult, path: Path) -> None:
    """Write the table by way of memory: where a disk fills up under HDF5 itself, the whole process crashes."""
    import h5py
    from anndata.io import write_elem

    image = io.BytesIO()
    with quiet_writing(), h5py.File(image, "w") as file:
        write_elem(file, "/", to_anndata(result), dataset_kwargs={"compression": "gzip"})
    with path.open("wb") as target:
        target.write(image.getbuffer())


def _write_csv(result: UpsampleResult, path: Path, packed: bool, watch: Watch | None) -> None:
    spots, centers = result.slide.spot_ids[result.raster.parent], result.raster.centers
    with io.TextIOWrapper(gzip.GzipFile(path, "wb", mtime=0) if packed else path.open("wb"), newline="") as file:
        for start in range(0, max(result.n_pixels, 1), _CSV_ROWS):
            if watch is not None:
                watch(start / max(result.n_pixels, 1))
            part = slice(start, start + _CSV_ROWS)
            frame = pd.DataFrame(result.counts[part].toarray(), columns=result.genes.astype(str))
            place = pd.DataFrame({"x": centers[part, 0], "y": centers[part, 1], "spot": spots[part]})
            # Nine digits give every float32 back exactly.
            pd.concat([place, frame], axis=1).to_csv(file, index=False, header=start == 0, float_format="%.9g")


def _write_into(result: UpsampleResult, path: Path, include_image: bool, watch: Watch | None) -> None:
    """Add the elements to a store, all of them or none."""
    if (path / ".zgroup").exists():
        raise OutputError(f"'{path}' is a store of the old Zarr format 2; write the result to a new store instead.")
    if not (path / "zarr.json").exists():
        raise OutputError(f"'{path}' is not a SpatialData store; name the slide's own, or write to a new one.")
    names = result_names(result)
    merge_into(
        path,
        {**({"images": names.image} if include_image else {}), "shapes": names.shapes, "tables": names.table},
        lambda staging: _write_store(result, staging, include_image, watch),
    )
