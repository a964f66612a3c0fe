"""Results out and in again: SpatialData, ``.h5ad`` and ``.csv``, written so that nothing half-done is ever seen."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pandas as pd

from napari_srast.core.result import UpsampleResult
from napari_srast.errors import OutputError, translate_memory_errors
from napari_srast.io.atomic import atomic_output, refuse_inside
from napari_srast.io.result_elements import (
    MAX_IMAGE_BYTES,
    MAX_IMAGE_GENES,
    ProgressHook,
    ResultNames,
    image_genes,
    result_names,
    to_anndata,
    to_spatialdata,
)
from napari_srast.io.result_reader import read_result
from napari_srast.io.store import quiet_writing
from napari_srast.io.store_merge import merge_into
from napari_srast.io.streaming_writer import LACKING, write_whole

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

_CSV_ROWS = 5_000


@translate_memory_errors(*LACKING)
def write_result(
    result: UpsampleResult,
    path: str | Path,
    *,
    into_slide: bool = False,
    include_image: bool = True,
    watch: ProgressHook | None = None,
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
            write_whole(result, partial, include_image, watch)
        elif name.endswith(".h5ad"):
            _write_h5ad(result, partial)
        else:
            _write_csv(result, partial, packed=name.endswith(".gz"), watch=watch)
    return path


def _write_h5ad(result: UpsampleResult, path: Path) -> None:
    """Write the table by way of memory: where a disk fills up under HDF5 itself, the whole process crashes."""
    import h5py
    from anndata.io import write_elem

    image = io.BytesIO()
    with quiet_writing(), h5py.File(image, "w") as file:
        write_elem(file, "/", to_anndata(result), dataset_kwargs={"compression": "gzip"})
    with path.open("wb") as target:
        target.write(image.getbuffer())


def _write_csv(result: UpsampleResult, path: Path, packed: bool, watch: ProgressHook | None) -> None:
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


def _write_into(result: UpsampleResult, path: Path, include_image: bool, watch: ProgressHook | None) -> None:
    """Add the elements to a store, all of them or none."""
    if (path / ".zgroup").exists():
        raise OutputError(f"'{path}' is a store of the old Zarr format 2; write the result to a new store instead.")
    if not (path / "zarr.json").exists():
        raise OutputError(f"'{path}' is not a SpatialData store; name the slide's own, or write to a new one.")
    names = result_names(result)
    merge_into(
        path,
        {**({"images": names.image} if include_image else {}), "shapes": names.shapes, "tables": names.table},
        lambda staging: write_whole(result, staging, include_image, watch),
    )
