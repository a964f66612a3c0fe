"""Write results atomically as SpatialData stores, ``.h5ad`` and ``.csv`` files."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pandas as pd

from napari_srast.core.progress import CancelCheck, ProgressCallback, RunMonitor
from napari_srast.core.result import UpsampleResult
from napari_srast.errors import OutputError, translate_memory_errors
from napari_srast.io.atomic import atomic_output, refuse_inside
from napari_srast.io.h5ad_writer import write_h5ad
from napari_srast.io.result_elements import StoreContent, matrix_image_sources, result_names, to_anndata
from napari_srast.io.spot_columns import SpotColumns, read_spot_columns
from napari_srast.io.store_merge import merge_into
from napari_srast.io.streaming_writer import MEMORY_ERROR_TEXTS, write_result_store

__all__ = ["write_result"]

_CSV_ROWS = 5_000  # pixels that are formatted together
_SUFFIXES = (".zarr", ".h5ad", ".csv", ".csv.gz")


@translate_memory_errors(*MEMORY_ERROR_TEXTS)
def write_result(
    result: UpsampleResult,
    path: str | Path,
    *,
    into_slide: bool = False,
    include_image: bool = True,
    include_histology: bool = True,
    keep_obs: SpotColumns = (),
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> Path:
    """Write a result.

    Parameters
    ----------
    result
        The result.
    path
        Path of the output. Its suffix is the format: ``.zarr`` for a SpatialData store; ``.h5ad`` for the table;
        ``.csv`` or ``.csv.gz`` for one line per pixel with ``x``, ``y`` (in the spots' intrinsic coordinates),
        ``spot``, one column of counts per gene, and one column ``expression:GENE`` per gene with expression.
    into_slide
        Whether to add the result to the existing store at ``path``, such as that of the slide.
    include_image
        Whether a store contains images of the genes; it always contains labels, circles and table.
    include_histology
        Whether a new store contains the histology of the slide, so that the result can be shown without the slide.
    keep_obs
        Columns of the spots, in the table of the slide, that the result repeats for the pixels; "all" for all.
    progress
        Called before each gene of the image, each portion of counts and each block of lines, from any thread; an
        exception that it raises stops the writing.
    should_stop
        Returns True once the writing should end.

    Returns
    -------
    Path
        The output.

    Raises
    ------
    OutputError
        The output exists already (or, for ``into_slide``, is not a store), is inside the store of the slide, or cannot
        be written. Nothing is left behind, and existing files are unchanged.
    Cancelled
        ``should_stop`` returned True; likewise.

    Examples
    --------
    >>> import napari_srast as srast
    >>> srast.write_result(result, "fine.zarr")  # doctest: +SKIP
    """
    path, monitor = Path(path), RunMonitor(on_progress=progress, should_stop=should_stop)
    content = StoreContent(
        include_image=include_image,
        include_histology=include_histology and not into_slide,
        spot_columns=read_spot_columns(result.slide, keep_obs),
    )
    if into_slide:
        _write_into(result, path, content, monitor)
        return path
    name = path.name.casefold()
    if not name.endswith(_SUFFIXES):
        raise OutputError(f"'{path}' has no known ending; name it .zarr, .h5ad, .csv or .csv.gz.")
    if result.slide.source.path is not None:
        refuse_inside(path, Path(result.slide.source.path))
    with atomic_output(path) as partial:
        if name.endswith(".zarr"):
            write_result_store(result, partial, content, monitor)
        elif name.endswith(".h5ad"):
            monitor.check_canceled()
            write_h5ad(to_anndata(result, content.spot_columns), partial)
        else:
            _write_csv(result, partial, compress=name.endswith(".gz"), monitor=monitor)
    return path


def _write_csv(result: UpsampleResult, path: Path, compress: bool, monitor: RunMonitor) -> None:
    spots, centers = result.slide.spot_ids[result.raster.parent], result.raster.centers
    columns = result.expression_columns
    names = [f"expression:{gene}" for gene in result.genes[columns]]
    with io.TextIOWrapper(gzip.GzipFile(path, "wb", mtime=0) if compress else path.open("wb"), newline="") as file:
        for start in range(0, max(result.n_pixels, 1), _CSV_ROWS):
            monitor.check_canceled()
            monitor.report_fraction("saving", start / max(result.n_pixels, 1))
            block = slice(start, start + _CSV_ROWS)
            counts = pd.DataFrame(result.counts[block].toarray(), columns=result.genes.astype(str))
            expression = (
                [pd.DataFrame(result.expression[block][:, columns].toarray(), columns=names)]
                if result.expression is not None
                else []
            )
            pixels = pd.DataFrame({"x": centers[block, 0], "y": centers[block, 1], "spot": spots[block]})
            # Nine digits identify every float32.
            pd.concat([pixels, counts, *expression], axis=1).to_csv(
                file, index=False, header=start == 0, float_format="%.9g"
            )


def _write_into(result: UpsampleResult, path: Path, content: StoreContent, monitor: RunMonitor) -> None:
    """Add the elements of a result to an existing store, all of them or none."""
    if (path / ".zgroup").exists():
        raise OutputError(f"'{path}' is a store of the old Zarr format 2; write the result to a new store instead.")
    if not (path / "zarr.json").exists():
        raise OutputError(f"'{path}' is not a SpatialData store; name the store of the slide, or write to a new one.")
    names = result_names(result)
    images = [source.name for source in matrix_image_sources(result)] if content.include_image else []
    merge_into(
        path,
        {"images": images, "labels": [names.labels], "shapes": [names.shapes], "tables": [names.table]},
        lambda staging: write_result_store(result, staging, content, monitor),
    )
