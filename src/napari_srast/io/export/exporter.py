"""Export results to files of other programs, atomically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_srast.core.progress import CancelCheck, ProgressCallback, RunMonitor
from napari_srast.core.result import Layer, UpsampleResult
from napari_srast.errors import OutputError, SettingsError, invalid_choice, translate_memory_errors
from napari_srast.io.atomic import atomic_output, refuse_inside
from napari_srast.io.export.content import select_content
from napari_srast.io.export.ome_tiff import write_ome_tiff
from napari_srast.io.export.qupath import OBJECTS, Objects, write_qupath

__all__ = ["EXPORT_SUFFIXES", "export"]

_IMAGE_SUFFIXES = (".ome.tif", ".ome.tiff")
_RESULT_SUFFIXES = (".zarr", ".h5ad", ".csv", ".csv.gz")
EXPORT_SUFFIXES = (*_IMAGE_SUFFIXES, ".geojson", *_RESULT_SUFFIXES)
"""Endings of the files that :func:`export` writes."""


@translate_memory_errors("while exporting the result", "export fewer genes")
def export(
    result: UpsampleResult | str | Path,
    out: str | Path,
    *,
    genes: Sequence[str] | None = None,
    layer: Layer = "counts",
    objects: Objects = "pixels",
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> Path:
    """Write a result in the format of another program, which the ending of the output selects.

    ``.ome.tif``: a float32 image with one channel per gene, a pyramid and the size of a pixel in micrometers, 0 outside
    the pixels. ``.geojson``: objects for QuPath, with the genes as measurements. ``.zarr``, ``.h5ad``, ``.csv`` and
    ``.csv.gz``: the result itself, as :func:`napari_srast.write_result` writes it.

    Parameters
    ----------
    result
        The result, or the path of one.
    out
        The file to write; it must not exist.
    genes
        Names of the genes. None selects those that have an image in the store of a result: all genes if they are at
        most 64, else the most abundant ones.
    layer
        "counts"; "expression"; "std" or "expression_std" for their standard deviations.
    objects
        For ``.geojson``: "pixels" writes one detection per pixel, "region" one annotation for the region of the run.
    progress
        Called before each image, block of pixels or step of :func:`napari_srast.write_result`; an exception that it
        raises stops the writing.
    should_stop
        Returns True once the export should end.

    Returns
    -------
    Path
        The output.

    Raises
    ------
    InputError
        The result cannot be read, or lacks what was asked for.
    SettingsError
        An option has an invalid value, or does not apply to the format.
    OutputError
        The output exists, has an unknown ending, is inside the store of the slide, or cannot be written. Nothing is
        left behind.
    Cancelled
        ``should_stop`` returned True; likewise.

    Examples
    --------
    >>> import napari_srast as srast
    >>> srast.export("fine.zarr", "fine.ome.tif", genes=["ERBB2"])  # doctest: +SKIP
    """
    path = Path(out)
    name = path.name.casefold()
    if not name.endswith(EXPORT_SUFFIXES):
        raise OutputError(f"'{path}' has no known ending; name it {', '.join(EXPORT_SUFFIXES)}.")
    if objects not in OBJECTS:
        raise invalid_choice("objects", objects, OBJECTS)
    if objects != "pixels" and not name.endswith(".geojson"):
        raise SettingsError("Only a .geojson file has objects; leave the objects out, or name the output .geojson.")
    if name.endswith(_RESULT_SUFFIXES) and (genes is not None or layer != "counts"):
        raise SettingsError(
            f"'{path.name}' holds all genes and layers of the result; leave genes and layer out, or name it .ome.tif."
        )
    if isinstance(result, str | Path):
        from napari_srast.io.result_reader import read_result

        if Path(result).is_dir():
            refuse_inside(path, Path(result))
        result = read_result(result)
    if name.endswith(_RESULT_SUFFIXES):
        from napari_srast.io.result_writer import write_result

        return write_result(result, path, progress=progress, should_stop=should_stop)
    if result.slide.source.path is not None:
        refuse_inside(path, Path(result.slide.source.path))
    content = select_content(result, genes, layer)
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    with atomic_output(path) as partial:
        if name.endswith(".geojson"):
            write_qupath(result, content, partial, objects, monitor)
        else:
            write_ome_tiff(result, content, partial, monitor)
    return path
