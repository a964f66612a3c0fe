"""Convert the array of spots or bins to micrometers: from array coordinates, whose steps are known for each platform.

Neighboring positions of a Visium array are 100 um apart: a step of two columns. Rows are 100 um x sqrt(3) / 2 apart,
and only every second combination of row and column exists. Visium HD bins form a square lattice without gaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_srast.errors import InputError, SettingsError
from napari_srast.io.array_coordinates import BIN_NAME, VISIUM_STEPS_UM
from napari_srast.io.convert.space_ranger.positions import Positions
from napari_srast.io.spots import is_valid_length

__all__ = ["ArrayGeometry", "array_geometry"]

_MAX_MISFIT = 0.25  # root mean square distance of the pixels from the fitted array, in steps of a column
_MAX_DISAGREEMENT = 0.05  # of two statements of one length, relative
_N_NAMES = 10  # barcodes that are looked at
_N_SAMPLED = 200_000  # positions that determine the fit


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayGeometry:
    """Lattice and scale of an array.

    Parameters
    ----------
    kind
        "visium" (circles on a hexagonal lattice), "bins" (squares without gaps) or "unknown".
    um_per_px
        Side of a pixel of the full-resolution image in micrometers; None if nothing determines it.
    bin_px
        Side of a bin in pixels; None if the array has no bins.
    angle
        Direction of the array's columns on the image, in radians.
    notices
        What could not be determined, one sentence each.
    """

    kind: Literal["visium", "bins", "unknown"]
    um_per_px: float | None
    bin_px: float | None = None
    angle: float = 0.0
    notices: tuple[str, ...] = ()


def array_geometry(
    positions: Positions, factors: Mapping[str, float], *, folder_bin: int | None, bin_size: float | None
) -> ArrayGeometry:
    """Determine the platform of an array, and the size of a pixel.

    Parameters
    ----------
    positions
        All positions of the array, also those without counts.
    factors
        Scale factors of Space Ranger; any may be missing.
    folder_bin
        Bin size in the name of the folder, in micrometers; None if it has none.
    bin_size
        Bin size that the user gave, in micrometers.

    Raises
    ------
    InputError
        Two statements of the bin size or of the size of a pixel contradict each other.
    SettingsError
        A bin size was given that the slide does not have.
    """
    sizes = _bin_sizes(positions, factors, folder_bin)
    if bin_size is not None and any(size != bin_size for size in sizes.values()):
        raise SettingsError(
            f"The bins measure {next(iter(sizes.values())):g} um, not {bin_size:g}; leave --bin-size out."
        )
    if len(set(sizes.values())) > 1:
        stated = ", ".join(f"{size:g} um by {source}" for source, size in sizes.items())
        raise InputError(f"The size of the bins is {stated}, so the files are of different bins; put together one set.")
    bin_um = bin_size if bin_size is not None else next(iter(sizes.values()), None)
    stated_um = factors.get("microns_per_pixel")
    lattice, steps = _fit(positions)
    if lattice == "hex" and bin_um is not None:
        if not sizes:
            raise SettingsError("The spots form the array of Visium, which has no bins; leave --bin-size out.")
        raise InputError(
            f"{next(iter(sizes)).capitalize()} states bins of {bin_um:g} um, but the positions form the array of "
            "Visium; put together the files of one slide."
        )
    if bin_um is not None or (lattice == "square" and _fill_their_cells(factors, steps)):
        return _bins(lattice, steps, bin_um, stated_um)
    if lattice == "hex":
        from_array = float(np.sqrt(np.prod(VISIUM_STEPS_UM) / abs(np.linalg.det(steps))))
        return ArrayGeometry(
            kind="visium", um_per_px=_agreed(from_array, stated_um, "the array of Visium"), angle=_angle(steps)
        )
    notice = (
        "The array coordinates do not form the array of Visium or of Visium HD, so the platform is unknown and lengths "
        "are in pixels of the full-resolution image."
    )
    return ArrayGeometry(kind="unknown", um_per_px=stated_um, notices=() if stated_um else (notice,))


def _fill_their_cells(factors: Mapping[str, float], steps: np.ndarray) -> bool:
    """Return whether spots on a square lattice touch each other as bins do; True if their diameter is not stated."""
    diameter = factors.get("spot_diameter_fullres")
    return diameter is None or abs(diameter / np.sqrt(abs(np.linalg.det(steps))) - 1) < 2 * _MAX_DISAGREEMENT


def _bins(lattice: str | None, steps: np.ndarray, bin_um: float | None, stated_um: float | None) -> ArrayGeometry:
    side_px = float(np.sqrt(abs(np.linalg.det(steps)))) if lattice == "square" else None
    from_array = bin_um / side_px if bin_um and side_px else None
    if from_array is not None:
        um_per_px: float | None = _agreed(from_array, stated_um, f"bins of {bin_um:g} um")
    else:
        um_per_px = stated_um
    if side_px is None:
        if bin_um is None or um_per_px is None:
            raise InputError(
                "The array coordinates of the bins do not form a square lattice, and the scale factors do not state "
                "microns_per_pixel, so the size of the bins on the image is unknown; restore scalefactors_json.json."
            )
        side_px = bin_um / um_per_px
    elif bin_um is not None and um_per_px is not None:
        side_px = bin_um / um_per_px
    notices: tuple[str, ...] = ()
    if um_per_px is None:
        notices = (
            "The spots form a square lattice of unknown bin size, so lengths are in pixels of the full-resolution "
            "image; give the size with --bin-size.",
        )
    return ArrayGeometry(kind="bins", um_per_px=um_per_px, bin_px=side_px, angle=_angle(steps), notices=notices)


def _agreed(from_array: float, stated: float | None, array: str) -> float:
    """Return the size of a pixel, after a comparison of the two sources."""
    if stated is None:
        return from_array
    if abs(stated / from_array - 1) > _MAX_DISAGREEMENT:
        raise InputError(
            f"The scale factors state {stated:.4g} um per pixel, but the positions and {array} give {from_array:.4g}, "
            "so they are of different images or bins; put together the files of one slide."
        )
    return stated


def _bin_sizes(positions: Positions, factors: Mapping[str, float], folder_bin: int | None) -> dict[str, float]:
    """Return the bin sizes that are stated, in micrometers, by their source."""
    sizes: dict[str, float] = {}
    if "bin_size_um" in factors:
        sizes["the file of scale factors"] = factors["bin_size_um"]
    sampled = positions.barcodes[:: max(1, len(positions.barcodes) // _N_NAMES)]
    names = (BIN_NAME.fullmatch(str(barcode)) for barcode in sampled)
    found = sorted({int(name[1]) for name in names if name})
    if len(found) > 1:
        raise InputError(
            f"The barcodes are of bins of {' and '.join(map(str, found))} um; give the files of one bin size."
        )
    if found:
        sizes["the names of the barcodes"] = float(found[0])
    if folder_bin is not None:
        sizes["the name of the folder"] = float(folder_bin)
    return {source: size for source, size in sizes.items() if is_valid_length(size)}


def _fit(positions: Positions) -> tuple[Literal["hex", "square"] | None, np.ndarray]:
    """Fit the pixels (x, y) of a step of one column and of one row, as rows of a matrix, and name the lattice."""
    known = np.isfinite(positions.array).all(axis=1) & np.isfinite(positions.pixels).all(axis=1)
    every = max(1, int(known.sum()) // _N_SAMPLED)
    array, pixels = positions.array[known][::every], positions.pixels[known][::every]
    nothing = np.full((2, 2), np.nan)
    if len(array) < 3 or np.linalg.matrix_rank(array - array.mean(axis=0)) < 2:
        return None, nothing
    steps, *_ = np.linalg.lstsq(array - array.mean(axis=0), pixels - pixels.mean(axis=0), rcond=None)
    column, row = np.hypot(*steps.T)
    residual = pixels - pixels.mean(axis=0) - (array - array.mean(axis=0)) @ steps
    if not (is_valid_length(column) and is_valid_length(row)):
        return None, nothing
    misfit = np.sqrt(np.mean(np.sum(residual**2, axis=1))) / column
    skew = abs(steps[0] @ steps[1]) / (column * row)
    if not (misfit < _MAX_MISFIT and skew < _MAX_DISAGREEMENT):
        return None, nothing
    even = np.ptp(array.sum(axis=1) % 2) == 0
    if even and abs(row / column / np.sqrt(3) - 1) < _MAX_DISAGREEMENT:
        return "hex", steps
    return ("square", steps) if abs(row / column - 1) < _MAX_DISAGREEMENT else (None, nothing)


def _angle(steps: np.ndarray) -> float:
    return float(np.arctan2(steps[0, 1], steps[0, 0])) if np.isfinite(steps).all() else 0.0
