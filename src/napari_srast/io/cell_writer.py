"""Write the counts of cells: into the store of their result, or to new stores, ``.h5ad`` and ``.csv`` files.

In a store of run RUN, the elements NAME are the cells ``srast_RUN_NAME`` (shapes or labels), the table
``srast_RUN_NAME_table`` that annotates them, and the table ``srast_RUN_NAME_outside`` with a row per spot for what is
outside every cell.
"""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast.core.cells import CellCounts, CellLabels, CellPolygons
from napari_srast.errors import InputError, OutputError, translate_memory_errors
from napari_srast.io.atomic import atomic_output, refuse_inside
from napari_srast.io.element_selection import RESULT_PREFIX
from napari_srast.io.h5ad_writer import write_h5ad
from napari_srast.io.result_reader import list_runs
from napari_srast.io.store import element_name, write_store
from napari_srast.io.store_merge import merge_into
from napari_srast.io.transforms import to_affines

if TYPE_CHECKING:
    import anndata
    import spatialdata

__all__ = ["CELLS_KEY", "to_anndata", "write_cells"]

CELLS_KEY = "cells"
"""Entry of ``uns`` with the settings."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_CSV_ROWS = 1000
_LABEL_CHUNK = 2048


@translate_memory_errors("while writing the cells", "take fewer of them")
def write_cells(found: CellCounts, path: Path, name: str) -> Path:
    """Write the counts of cells; see :meth:`napari_srast.core.cells.CellCounts.write`."""
    if not _NAME.fullmatch(name):
        raise OutputError(f"'{name}' is not a name; use a letter, followed by letters, digits and underscores.")
    if path.is_dir():
        _write_into(found, path, name)
        return path
    ending = path.name.casefold()
    if not ending.endswith((".zarr", ".h5ad", ".csv", ".csv.gz")):
        raise OutputError(f"'{path}' has no known ending; name it .zarr, .h5ad, .csv or .csv.gz.")
    if found.result.slide.source.path is not None:
        refuse_inside(path, Path(found.result.slide.source.path))
    with atomic_output(path) as partial:
        if ending.endswith(".zarr"):
            write_store(_elements(found, name), partial)
        elif ending.endswith(".h5ad"):
            write_h5ad(to_anndata(found), partial)
        else:
            _write_csv(found, partial, compress=ending.endswith(".gz"))
    return path


def to_anndata(found: CellCounts) -> anndata.AnnData:
    """Convert to one table; see :meth:`napari_srast.core.cells.CellCounts.to_anndata`."""
    import anndata

    spots = found.result.raster.spots
    spot_ids = found.result.slide.spot_ids[spots].astype(str)
    n_cells = len(found.obs)
    obs = found.obs.reindex([*found.obs.index, *(f"{found.result.run}_outside_{one}" for one in spot_ids)])
    kinds: Any = pd.Categorical(["cell"] * n_cells + ["outside"] * len(spots), ["cell", "outside"])
    obs.insert(0, "kind", kinds)  # the stubs accept no categories here
    obs.insert(1, "id", [*found.cells.ids.astype(str), *spot_ids])
    empty = sparse.csr_matrix((len(spots), found.counts.shape[1]), dtype=np.float32)
    layers = {
        key: sparse.csr_matrix(sparse.vstack([matrix, empty], format="csr"))
        for key, matrix in (("std", found.std), ("expression", found.expression))
        if matrix is not None
    }
    return anndata.AnnData(
        sparse.csr_matrix(sparse.vstack([found.counts, found.outside], format="csr")),
        obs=obs,
        var=_var(found),
        obsm={"spatial": np.concatenate([found.centroids, found.result.slide.centers[spots]])},
        layers=layers,
        uns={CELLS_KEY: found.settings()},
    )


def _var(found: CellCounts) -> pd.DataFrame:
    result = found.result
    skill = np.asarray(result.skill, dtype=float)
    return pd.DataFrame(
        {"skill": skill, "method": pd.Categorical(result.method.astype(str))}, index=result.genes.astype(str)
    )


def _names(found: CellCounts, name: str) -> tuple[str, str, str]:
    stem = f"{RESULT_PREFIX}{element_name(found.result.run)}_{name}"
    return stem, f"{stem}_table", f"{stem}_outside"


def _write_into(found: CellCounts, path: Path, name: str) -> None:
    """Add the elements to the store of the result, all of them or none."""
    if found.result.run not in list_runs(path):
        raise InputError(
            f"'{path}' holds no run '{found.result.run}'; write the result to it first, or name a new store."
        )
    cells, table, outside = _names(found, name)
    kind = "labels" if isinstance(found.cells, CellLabels) else "shapes"
    merge_into(
        path,
        {kind: [cells], "tables": [table, outside]},
        lambda staging: write_store(_elements(found, name), staging),
    )


def _elements(found: CellCounts, name: str) -> spatialdata.SpatialData:
    import anndata
    import spatialdata
    from spatialdata.models import TableModel

    cells, table_name, outside_name = _names(found, name)
    whole = to_anndata(found)
    n_cells = len(found.obs)
    table = whole[:n_cells].copy()
    table.obs = table.obs.drop(columns=["kind", "id"])
    table.obs["n_pixels"], table.obs["n_spots"], table.obs["n_sharing"] = (
        found.obs[column].to_numpy() for column in ("n_pixels", "n_spots", "n_sharing")
    )
    region: Any = pd.Categorical([cells] * n_cells, [cells])
    table.obs.insert(0, "region", region)
    ids = found.cells.ids
    table.obs.insert(1, "instance_id", ids if ids.dtype.kind in "iu" else ids.astype(str))
    parsed = TableModel.parse(table, region=cells, region_key="region", instance_key="instance_id")
    spots = found.result.raster.spots
    outside = TableModel.parse(
        anndata.AnnData(
            found.outside,
            obs=pd.DataFrame({"spot": found.result.slide.spot_ids[spots].astype(str)}, index=whole.obs_names[n_cells:]),
            var=_var(found),
            obsm={"spatial": found.result.slide.centers[spots]},
            uns={CELLS_KEY: found.settings()},
        )
    )
    element = _element(found)
    return spatialdata.SpatialData(
        **{("labels" if isinstance(found.cells, CellLabels) else "shapes"): {cells: element}},
        tables={table_name: parsed, outside_name: outside},
    )


def _element(found: CellCounts) -> Any:
    """Return the cells as labels or as shapes, with transformations to every coordinate system of the spots."""
    from spatialdata.models import Labels2DModel, ShapesModel

    cells, transforms = found.cells, found.result.slide.transforms
    if isinstance(cells, CellPolygons):
        import geopandas

        ids = cells.ids if cells.ids.dtype.kind in "iu" else cells.ids.astype(str)
        frame = geopandas.GeoDataFrame(geometry=list(cells.polygons), index=pd.Index(ids))
        return ShapesModel.parse(frame, transformations=to_affines(transforms))
    return Labels2DModel.parse(
        _label_image(cells), dims=("y", "x"), transformations=to_affines(transforms, first=cells.to_intrinsic)
    )


def _label_image(cells: CellLabels) -> Any:
    """Return the label image as a dask array, of which only some rows are in memory at a time."""
    import dask.array as da

    dtype = np.int32 if cells.ids.max() < 2**31 else np.int64

    def rows(block_info: Any) -> np.ndarray:
        (first, stop), _ = block_info[None]["array-location"]
        image = np.zeros((stop - first, cells.shape[1]), dtype=dtype)
        for run in np.flatnonzero((cells.row >= first) & (cells.row < stop)):
            image[cells.row[run] - first, cells.start[run] : cells.stop[run]] = cells.ids[cells.owner[run]]
        return image

    chunks = da.core.normalize_chunks((_LABEL_CHUNK, -1), cells.shape, dtype=dtype)
    image = da.map_blocks(rows, chunks=chunks, dtype=dtype, meta=np.empty((0, 0), dtype=dtype))
    return image.rechunk((_LABEL_CHUNK, _LABEL_CHUNK))


def _write_csv(found: CellCounts, path: Path, *, compress: bool) -> None:
    table = to_anndata(found)
    counts: Any = table.X
    obs = table.obs.assign(x=table.obsm["spatial"][:, 0], y=table.obsm["spatial"][:, 1]).reset_index(drop=True)
    with io.TextIOWrapper(gzip.GzipFile(path, "wb", mtime=0) if compress else path.open("wb"), newline="") as file:
        for start in range(0, table.n_obs, _CSV_ROWS):
            block = slice(start, start + _CSV_ROWS)
            values = pd.DataFrame(counts[block].toarray(), columns=table.var_names, index=obs.index[block])
            # Nine digits identify every float32.
            pd.concat([obs[block], values], axis=1).to_csv(file, index=False, header=start == 0, float_format="%.9g")
