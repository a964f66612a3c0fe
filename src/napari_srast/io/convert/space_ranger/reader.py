"""Read Space Ranger folders (Visium, Visium HD) as slides in micrometers.

The elements have the names that spatialdata-io gives them. Its readers are not used, because they need every file of
the documented layout, also those that a slide does not need.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.errors import InputError, SettingsError
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.array_coordinates import DEFAULT_DIAMETER, VISIUM_SPOT_UM
from napari_srast.io.convert.images import check_spots_on_image, image_channels, orientation_notice, read_image_file
from napari_srast.io.convert.space_ranger.elements import SlideParts, build_slide
from napari_srast.io.convert.space_ranger.geometry import ArrayGeometry, array_geometry
from napari_srast.io.convert.space_ranger.images import place_images, read_factors
from napari_srast.io.convert.space_ranger.layout import SpaceRangerFiles, find_files
from napari_srast.io.convert.space_ranger.libraries import choose_library, of_library
from napari_srast.io.convert.space_ranger.matrix import FeatureCounts, read_counts
from napari_srast.io.convert.space_ranger.positions import Positions, match_barcodes, read_positions
from napari_srast.io.counts import unique_names
from napari_srast.io.store import element_name

if TYPE_CHECKING:
    import spatialdata

__all__ = ["read_space_ranger"]

_GENERIC_NAMES = {"outs", "binned_outputs", "spatial", "filtered_feature_bc_matrix", "raw_feature_bc_matrix"}
_GENERIC_NAMES |= {"global", "table", "element", "slide"}


def read_space_ranger(
    path: Path,
    *,
    image: str | Path | None = None,
    spot_diameter: float | None = None,
    bin_size: float | None = None,
    library: str | None = None,
    monitor: RunMonitor = NO_MONITOR,
) -> spatialdata.SpatialData:
    """Read a Visium or Visium HD slide; the coordinate system "global" is in micrometers.

    Parameters
    ----------
    path
        The run, its folder ``outs``, a folder of bins, a folder with prefixed files, or the ``.h5`` file of the counts.
    image
        The full-resolution image that Space Ranger processed; None reads only the images of the folder.
    spot_diameter
        Diameter of a Visium spot in micrometers; None is 55.
    bin_size
        Bin size of Visium HD in micrometers; None is that of the folder, else 8, else the smallest one.
    library
        Slide of a folder with several ones: the prefix of its files, or its library in an output of ``spaceranger
        aggr``.
    monitor
        Cancels between files.

    Raises
    ------
    InputError
        Counts or positions are missing or do not belong together, several slides match, or the spots are not on
        ``image``.
    SettingsError
        The slide has no such bins.
    """
    files = find_files(path, library=library, bin_size=bin_size)
    found, counts_path, notices = read_counts(files.counts)
    monitor.check_canceled()
    found, files, library_name = choose_library(found, files, library)
    everything, position_notices = _read_positions(files, found.barcodes)
    factors, factor_notices = read_factors(files.factors)
    geometry = array_geometry(everything, factors, folder_bin=files.bin_um, bin_size=bin_size)
    found, spots, spot_notices = _with_positions(found, everything, counts_path)
    diameter, diameter_notices = _diameter(geometry, factors, spot_diameter, everything.pixels)
    monitor.check_canceled()
    pixels, given_notices = (None, ()) if image is None else _full_resolution(Path(image), spots.pixels)
    pictures, image_notices = place_images(
        files.images, factors, None if pixels is None else pixels.shape[1:], spots.pixels
    )
    given = None if image is None else element_name(Path(image).stem)
    genes, gene_notices = unique_names(found.features.index, "gene names")
    parts = SlideParts(
        name=_slide_name(library_name or files.sample, found.libraries, path),
        counts=found,
        genes=genes,
        spots=spots,
        geometry=geometry,
        diameter=diameter,
        pictures=pictures if given is None or pixels is None else {**pictures, given: (pixels, 1.0)},
        given=given,
        channels=() if image is None else image_channels(image),
        source=files.folder.resolve().name,
        notices=(
            *files.notices,
            *notices,
            *position_notices,
            *factor_notices,
            *geometry.notices,
            *diameter_notices,
            *spot_notices,
            *given_notices,
            *image_notices,
            *gene_notices,
        ),
    )
    return build_slide(parts)


def _read_positions(files: SpaceRangerFiles, barcodes: np.ndarray) -> tuple[Positions, tuple[str, ...]]:
    """Read the first positions that can be read, those of the library of the barcodes."""
    failures: list[InputError] = []
    for path in files.positions:
        try:
            positions = read_positions(path)
        except InputError as error:
            failures.append(error)
            continue
        notices = tuple(f"{str(error).partition(';')[0]}; another file was used." for error in failures)
        return of_library(positions, barcodes), notices
    if failures:
        raise failures[0]
    raise InputError(
        f"'{files.folder}' has no positions of the spots outside of its folders for each library; put the "
        "tissue_positions.csv of the slide into 'spatial'."
    )


def _with_positions(
    found: FeatureCounts, everything: Positions, path: Path
) -> tuple[FeatureCounts, Positions, tuple[str, ...]]:
    """Return counts and positions of the spots under the tissue, in the order of the counts."""
    index = match_barcodes(found.barcodes, everything)
    if (index < 0).all():
        raise InputError(
            f"No barcode of the counts '{path}' (such as {found.barcodes[:1].tolist()}) has a position (such as "
            f"{everything.barcodes[:1].tolist()}); put together the files of one slide."
        )
    placed = (index >= 0) & np.isfinite(everything.pixels[index]).all(axis=1)
    if not placed.any():
        raise InputError(
            f"No spot of the counts '{path}' has a position on the image that is a number; restore the positions from "
            "a copy."
        )
    inside = placed & everything.in_tissue[index]
    notices = []
    if not placed.all():
        notices.append(f"{(~placed).sum()} spots of '{path.name}' have no position and were left out.")
    if not inside.any():
        notices.append("The positions mark no spot as under the tissue, so all spots were used.")
        inside = placed
    elif (placed & ~inside).any():
        notices.append(
            f"{(placed & ~inside).sum()} spots of '{path.name}' are outside the tissue (in_tissue is 0) and were left "
            "out."
        )
    rows = np.flatnonzero(inside)
    kept = dataclasses.replace(found, counts=found.counts[rows], barcodes=found.barcodes[rows])
    return kept, everything.take(index[rows]), tuple(notices)


def _diameter(
    geometry: ArrayGeometry, factors: Mapping[str, float], option: float | None, pixels: np.ndarray
) -> tuple[float, tuple[str, ...]]:
    """Return the diameter of a spot or the side of a bin, in the unit of the slide, and a notice if it is a guess."""
    scale = geometry.um_per_px or 1.0
    if geometry.bin_px is not None:
        if option is not None:
            raise SettingsError("The slide has square bins; choose their size with --bin-size, not a spot diameter.")
        return geometry.bin_px * scale, ()
    if option is not None:
        return option, ()
    if geometry.kind == "visium":
        return VISIUM_SPOT_UM, ()
    if "spot_diameter_fullres" in factors:
        return factors["spot_diameter_fullres"] * scale, ()
    diameter = DEFAULT_DIAMETER * detect_lattice(pixels[np.isfinite(pixels).all(axis=1)]).pitch * scale
    return diameter, (
        f"The diameter of the spots is not stated; {DEFAULT_DIAMETER} of their pitch, {diameter:.4g}, was used (set "
        "it with --spot-diameter when importing).",
    )


def _full_resolution(image: Path, points: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read the full-resolution image, check that the spots (x, y) are on it, and return it with notices."""
    pixels = read_image_file(image)
    check_spots_on_image(
        points,
        pixels.shape[1:],
        image,
        "give the full-resolution image that Space Ranger processed; the smaller ones are read from the folder",
    )
    return pixels, orientation_notice(image)


def _slide_name(sample: str, libraries: tuple[str, ...], path: Path) -> str:
    """Return the name of the slide: of its files or its library, else of the first folder with a name of its own."""
    stated = [sample, libraries[0] if len(libraries) == 1 else ""]
    folders = [path.resolve().name.removesuffix(".h5"), *(parent.name for parent in path.resolve().parents)]
    for name in map(element_name, filter(None, [*stated, *folders])):
        if name.casefold() not in _GENERIC_NAMES and not name.startswith("square_"):
            return name
    return "slide"
