"""Import slides of other programs as SpatialData stores that :func:`napari_srast.read_slide` opens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_srast.core.progress import CancelCheck, Progress, ProgressCallback, RunMonitor
from napari_srast.errors import ChoiceError, InputError, SettingsError, translate_memory_errors
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.atomic import atomic_output
from napari_srast.io.convert.h5ad import read_h5ad
from napari_srast.io.convert.space_ranger.layout import find_files, is_space_ranger
from napari_srast.io.convert.space_ranger.reader import read_space_ranger
from napari_srast.io.file_kinds import file_kind, has_suffix, is_anndata_store, store_part_problem
from napari_srast.io.foreign_files import explain_file, explain_folder, hdf5_problem
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.spots import is_valid_length
from napari_srast.io.store import write_store

__all__ = ["import_slide"]

_SHARES = {"reading": (0.0, 0.3), "converting counts": (0.3, 0.2), "writing": (0.5, 0.45)}
"""Where each stage of an import begins, and its share of the whole, on progress bars."""
_MIN_STEP = 0.005  # of the whole; smaller ones are not reported


@translate_memory_errors("while importing the slide", "import a smaller table or image")
def import_slide(
    src: str | Path,
    out: str | Path,
    *,
    image: str | Path | None = None,
    spot_diameter: float | None = None,
    pixel_size: float | None = None,
    bin_size: float | None = None,
    library: str | None = None,
    spot_shape: str | None = None,
    counts: str | None = None,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> Path:
    """Convert a slide to a SpatialData store.

    Parameters
    ----------
    src
        An ``.h5ad`` file, or a Zarr store of AnnData, with raw counts in X (or ``layers["counts"]``) and spot centers
        in ``obsm["spatial"]``; or a Space Ranger folder (Visium, Visium HD): the run, its ``outs``, a folder of bins, a
        folder of files with a common prefix, or the ``.h5`` file of the counts next to ``spatial``.
    out
        The store to create; it must not exist.
    image
        Histology image, ``.jpg``, ``.png`` or ``.tif``. For ``.h5ad`` its position is the affine fit from
        ``obsm["spatial_px"]`` (the spots in pixels of the stored image, with (0, 0) at the upper left corner) to
        ``obsm["spatial"]``. For Space Ranger it is the full-resolution image that Space Ranger processed.
    spot_diameter
        For ``.h5ad`` the diameter of a spot in the unit of ``obsm["spatial"]``; None reads it from ``uns["meta"]``, or
        else assumes 0.55 pitches. For Visium the diameter in micrometers; None is 55.
    pixel_size
        Side of an image pixel in the unit of ``obsm["spatial"]``, for ``.h5ad`` files without ``obsm["spatial_px"]``;
        the upper left corner of the image is then at (0, 0).
    bin_size
        Bin size of Visium HD in micrometers; None is that of the folder, else 8, else the smallest one.
    library
        Slide or section to import from a source with several ones; for ``.h5ad``, "all" imports overlapping sections as
        one slide.
    spot_shape
        For ``.h5ad``: "circle", or "square" for bins that cover their cells; None decides by what the table states.
    counts
        For ``.h5ad``: matrix of the raw counts, "X", "raw" or the name of a layer; None finds it.
    progress
        Receives the progress; its fraction is that of the whole import.
    should_stop
        Returns True once the import should end; then nothing is left behind.

    Returns
    -------
    Path
        The store, with spots, table and the coordinate system "global" in the unit of the spots.

    Raises
    ------
    InputError
        The source or the image cannot be used.
    SettingsError
        A length is not positive, or an option does not apply to the source.
    OutputError
        The output exists or cannot be written; nothing is left behind.
    Cancelled
        ``should_stop`` returned True.
    """
    monitor = RunMonitor(on_progress=None if progress is None else _of_whole(progress), should_stop=should_stop)
    src, out = Path(src), Path(out)
    for name, value in (("spot diameter", spot_diameter), ("pixel size", pixel_size), ("bin size", bin_size)):
        if value is not None and not is_valid_length(value):
            raise SettingsError(f"{name} is {value:g}, but must be a length above 0; leave it out if it is unknown.")
    if not src.exists():
        raise InputError(f"There is nothing at '{src}'; check the path.")
    problem = store_part_problem(src)
    if problem is not None:
        raise InputError(problem)
    with atomic_output(out) as partial:
        monitor.report_fraction("reading", 0.0)
        is_counts = has_suffix(src, ".h5") and src.is_file()
        problem = hdf5_problem(src) if is_counts else None
        if problem is not None:
            raise InputError(problem)
        if is_counts or is_space_ranger(src):
            if spot_shape is not None or counts is not None:
                raise SettingsError("Space Ranger folders state shape and counts; leave both options out.")
            if pixel_size is not None:
                raise SettingsError("Space Ranger folders state the size of an image pixel; leave the pixel size out.")
            store = read_space_ranger(
                src,
                image=image,
                spot_diameter=spot_diameter,
                bin_size=bin_size,
                library=library,
                monitor=monitor,
            )
        elif (has_suffix(src, ".h5ad") and src.is_file()) or is_anndata_store(src):
            if bin_size is not None:
                raise SettingsError("Only Visium HD folders have several bin sizes; leave the bin size out.")
            store = read_h5ad(
                src,
                image=image,
                spot_diameter=spot_diameter,
                pixel_size=pixel_size,
                library=library,
                spot_shape=spot_shape,
                counts=counts,
                monitor=monitor,
            )
        else:
            raise InputError(_explain(src))
        # A store that read_slide would refuse must not be written.
        try:
            slide = read_slide(store)
        except ChoiceError as error:
            if error.option != "image":
                raise
            slide = read_slide(store, image=None)
        detect_lattice(slide.centers, slide.spot_diameter)
        monitor.check_canceled()
        monitor.report_fraction("writing", 0.0)
        write_store(store, partial, monitor=monitor)
        monitor.check_canceled()
    if progress is not None:
        progress(Progress("writing", 0, 1, 1.0))
    return out


def _of_whole(progress: ProgressCallback) -> ProgressCallback:
    """Return a callback that turns fractions of a stage into those of the import, and passes on those that differ."""
    before = -1.0

    def report(step: Progress) -> None:
        nonlocal before
        start, share = _SHARES.get(step.stage, (before, 0.0))
        fraction = start + share * step.fraction
        if fraction >= before + _MIN_STEP or before < 0:
            before = fraction
            progress(replace(step, fraction=fraction))

    return report


def _explain(src: Path) -> str:
    """Return why a source cannot be imported, and the next step."""
    if file_kind(src) == "store":
        return (
            f"'{src}' is a SpatialData store already, and needs no import; look into it with: napari-srast info '{src}'"
        )
    is_store = any((src / name).exists() for name in ("zarr.json", ".zgroup"))
    explanation = explain_file(src) if src.is_file() else None if is_store else explain_folder(src)
    if explanation is not None:
        return explanation
    if src.is_dir() and not is_store:
        try:
            find_files(src)
        except InputError as error:
            return str(error)
    return f"'{src}' is neither a table of AnnData (.h5ad or .zarr) nor a Space Ranger folder; give one of these."
