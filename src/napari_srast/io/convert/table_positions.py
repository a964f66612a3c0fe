"""Place the spots of a table: unit, scale, shape and size, from what the table states and from the array geometry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.errors import InputError
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.array_coordinates import (
    DEFAULT_DIAMETER,
    VISIUM_SPOT_UM,
    VISIUM_STEPS_UM,
    array_columns,
    check_no_array_coordinates,
    find_array_coordinates,
    named_positions,
    possible_array_columns,
)
from napari_srast.io.convert.space_ranger.geometry import ArrayGeometry, array_geometry
from napari_srast.io.convert.space_ranger.positions import Positions
from napari_srast.io.spot_shapes import SpotShape, covers_its_cells, square_lattice, stated_shape
from napari_srast.io.spots import is_valid_length
from napari_srast.io.units import micrometers_per_unit, parse_unit

if TYPE_CHECKING:
    import anndata
    import pandas as pd

__all__ = ["Placement", "place_spots"]

_NOMINAL_DIAMETER = 0.5, 0.7  # in pitches: Space Ranger states 55 or 65 um of 100 um
_BARCODE = re.compile(r"[ACGT]{16}(-\d+)?([-_].*)?")
_STEP_NM = 100.0, 2000.0  # of the chips of Stereo-seq: 500 or 715
_MIRRORED = (
    "By array_row and array_col, the positions in obsm['spatial'] are mirrored, as if x and y were swapped; check that "
    "the spots are on the tissue.",
)
_TOUCHING = 0.02  # relative difference up to which a diameter is the pitch


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """Positions, size and shape of the spots of a table.

    Parameters
    ----------
    centers
        Spot centers (x, y) in ``unit``, shape (N, 2).
    unit
        "um", "px", "array units" or "unknown".
    scale
        Length of one unit of the source in ``unit``; None if the spots were placed on their array.
    um_per_px
        Side of a pixel of the full-resolution image in micrometers; None if it is unknown.
    shape, diameter, angle
        Shape of the spots, diameter or side in ``unit``, and direction of a side in radians.
    source_unit
        Name of the unit of the source, if ``scale`` converts it.
    on_array
        Whether the positions are rows and columns of an array, so that they are in pixels of no image.
    notices
        Decisions, one sentence each.
    """

    centers: np.ndarray
    unit: str
    scale: float | None
    um_per_px: float | None
    shape: SpotShape
    diameter: float
    angle: float
    source_unit: str
    on_array: bool
    notices: tuple[str, ...]


def place_spots(
    table: anndata.AnnData,
    points: np.ndarray,
    factors: Mapping[str, float],
    *,
    spot_diameter: float | None,
    spot_shape: str | None,
) -> Placement:
    """Place the spots of a table.

    Parameters
    ----------
    table
        The table.
    points
        Positions (x, y) in ``obsm["spatial"]``, shape (N, 2).
    factors
        Scale factors of the slide in ``uns["spatial"]``; empty if there are none.
    spot_diameter
        Diameter that the user gave, in the unit of ``points``.
    spot_shape
        Shape that the user gave.

    Raises
    ------
    InputError
        A length in the metadata is not a positive number, the positions are array coordinates of unknown orientation,
        or two statements of one length contradict each other.
    """
    meta = table.uns.get("meta", {})
    meta = meta if isinstance(meta, Mapping) else {}
    stated_unit = str(meta.get("coord_unit", "")).strip()
    length = micrometers_per_unit(stated_unit)
    if not stated_unit:
        length, stated_unit = _stereo_seq_step(table, points)
    unit: str = "um" if length is not None else parse_unit(stated_unit) or "unknown"
    notices: list[str] = []
    geometry = None
    array = None if unit == "array units" else find_array_coordinates(points, table.obs)
    if array is not None and array.lattice == "hex":
        if array.indices is None:
            check_no_array_coordinates(points, table.obs, "The positions in obsm['spatial']")
        assert array.indices is not None
        points, unit, scale = array.indices * VISIUM_STEPS_UM, "um", None
        geometry = ArrayGeometry(kind="visium", um_per_px=None)
        notices.append(
            "obsm['spatial'] has rows and columns of the Visium array instead of positions; the spots were placed on "
            "this array, in micrometers, and no image can be aligned with them."
        )
    else:
        if array is not None:  # lengths in pixels do not apply
            factors = {key: value for key, value in factors.items() if key == "bin_size_um"}
        geometry = _geometry(table, points, factors)
        notices += geometry.notices
        scale = 1.0 if length is None else length
        if length is not None:
            notices.append(f"The positions were converted from {stated_unit} to micrometers.")
        if unit in ("unknown", "px") and geometry.um_per_px is not None:
            scale, unit = geometry.um_per_px, "um"
            if abs(scale - 1) > _TOUCHING:
                source = "pixels" if array is None else "rows and columns"
                notices.append(
                    f"The positions were converted from {source} to micrometers, {scale:.4g} um per "
                    f"{'pixel' if array is None else 'step'} by the array."
                )
        elif unit == "unknown" and _are_names(points, table.obs_names):
            unit = "array units"
        elif unit == "unknown" and (array is not None or factors):
            unit = "array units" if array is not None else "px"
        points = points * scale
    shape, reason = _shape(table, points, geometry, meta, spot_shape)
    if reason:
        notices.append(reason)
    option = None if spot_diameter is None else spot_diameter * (scale or 1.0)
    side = geometry.bin_px * (scale or 1.0) if geometry.bin_px is not None and shape == "square" else None
    nominal = factors["spot_diameter_fullres"] * scale if "spot_diameter_fullres" in factors and scale else None
    if geometry.kind == "visium":  # Space Ranger states a larger, nominal diameter
        nominal = VISIUM_SPOT_UM
    known = (option, side, _stated_diameter(meta, unit, length or 1.0) if shape == "circle" else None)
    diameter, guess = _diameter(points, shape, next((length for length in known if length is not None), None), nominal)
    if guess:
        notices.append(guess)
    lattice = square_lattice(points) if shape == "square" and len(points) > 1 else None
    return Placement(
        centers=points,
        unit=unit,
        scale=scale,
        um_per_px=geometry.um_per_px if scale is not None and scale != 1.0 else None,
        shape=shape,
        diameter=diameter,
        angle=geometry.angle if geometry.bin_px else 0.0 if lattice is None else lattice.angle,
        source_unit="pixels" if length is None else stated_unit,
        on_array=array is not None or unit == "array units",
        notices=tuple(notices),
    )


def _stereo_seq_step(table: anndata.AnnData, points: np.ndarray) -> tuple[float | None, str]:
    """Return the length of a step of a Stereo-seq chip in micrometers, and its name, if the table of Stereopy has it.

    Stereopy gives positions in steps of the chip, and the length of a step in nanometers.
    """
    kind = str(table.uns.get("bin_type", ""))
    try:
        step, size = (float(np.asarray(table.uns.get(key, np.nan))) for key in ("resolution", "bin_size"))
    except (TypeError, ValueError):
        return None, ""
    if kind not in ("bins", "cell_bins") or not _within(step, _STEP_NM):
        return None, ""
    lattice = square_lattice(points) if kind == "bins" and len(points) > 1 else None
    if kind == "bins" and (lattice is None or abs(lattice.pitch / size - 1) > _TOUCHING):
        return None, ""
    return step / 1000, f"steps of {step:.4g} nm"


def _are_names(points: np.ndarray, names: pd.Index) -> bool:
    """Return whether the positions are those that the names of the spots state, in steps of the array."""
    named = named_positions([str(name) for name in names])
    return named is not None and np.allclose(points, named)


def _geometry(table: anndata.AnnData, points: np.ndarray, factors: Mapping[str, float]) -> ArrayGeometry:
    """Return the array of the spots and its scale, from array coordinates, else from what agrees with Visium."""
    indices = possible_array_columns(table.obs)
    are_stated = array_columns(table.obs) is not None
    if indices is not None:
        positions = Positions(
            barcodes=table.obs_names.to_numpy(dtype=str),
            in_tissue=np.ones(len(points), dtype=bool),
            array=indices,
            pixels=points,
        )
        found = array_geometry(positions, factors, folder_bin=None, bin_size=None)
        if found.kind == "visium":
            return replace(found, notices=_MIRRORED) if _is_mirrored(indices, points) else found
        are_bins = np.array_equal(indices, np.rint(indices))  # cells made of bins have means of rows and columns
        if found.kind == "bins" and found.um_per_px is not None and are_bins and are_stated:
            return found
        if are_stated:
            return ArrayGeometry(kind="unknown", um_per_px=found.um_per_px)
    stated = factors.get("microns_per_pixel")
    if stated is not None:
        return ArrayGeometry(kind="unknown", um_per_px=stated)
    if "spot_diameter_fullres" in factors and len(points) > 2:
        lattice = detect_lattice(points)
        ratio = factors["spot_diameter_fullres"] / lattice.pitch
        named = all(_BARCODE.fullmatch(str(name)) for name in table.obs_names[:20])
        if lattice.kind == "hex" and np.isfinite(lattice.misfit) and named and _within(ratio, _NOMINAL_DIAMETER):
            return ArrayGeometry(kind="visium", um_per_px=2 * VISIUM_STEPS_UM[0] / lattice.pitch)
    return ArrayGeometry(kind="unknown", um_per_px=None)


def _is_mirrored(indices: np.ndarray, points: np.ndarray) -> bool:
    """Return whether positions (x, y), shape (N, 2), are a mirror image of the columns and rows of their array."""
    steps, *_ = np.linalg.lstsq(indices - indices.mean(axis=0), points - points.mean(axis=0), rcond=None)
    return bool(np.linalg.det(steps) < 0)


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] < value < bounds[1]


def _shape(
    table: anndata.AnnData, points: np.ndarray, geometry: ArrayGeometry, meta: Mapping[str, Any], option: str | None
) -> tuple[SpotShape, str | None]:
    """Return the shape of the spots, and a notice if it is a guess."""
    if option is not None:
        return ("square" if option == "square" else "circle"), None
    if geometry.bin_px is not None:
        return "square", None
    if geometry.kind == "visium":
        return "circle", None
    stated = stated_shape(table.uns, table.obs_names)
    lattice = square_lattice(points)
    if stated is not None and stated.shape == "circle":
        return "circle", None
    if lattice is None or len(points) < 4:
        return "circle", None
    if stated is not None:
        return "square", None
    diameter = next((meta[key] for key in ("spot_diameter", "spot_diameter_um") if meta.get(key) is not None), None)
    if diameter is None and covers_its_cells(points, lattice):
        return "square", (
            "The spots form a square lattice without gaps and nothing states their shape; they were taken for bins "
            "that cover their cells (for round spots, import with --spot-shape circle)."
        )
    return "circle", None


def _stated_diameter(meta: Mapping[str, Any], unit: str, length: float) -> float | None:
    """Return the diameter that the metadata state, in the unit of the centers; ``length`` is one unit of the source."""
    keys = {"spot_diameter": length, "spot_diameter_um": 1.0} if unit == "um" else {"spot_diameter": 1.0}
    stated, factor = next(((meta[key], keys[key]) for key in keys if meta.get(key) is not None), (None, 1.0))
    if stated is None:
        return None
    try:
        diameter = float(stated) * factor
    except (TypeError, ValueError):
        diameter = float("nan")
    if not is_valid_length(diameter):
        raise InputError(
            f"uns['meta'] states a spot diameter of {stated!s}, which is not a length; give it with --spot-diameter."
        )
    return diameter


def _diameter(
    points: np.ndarray, shape: SpotShape, known: float | None, nominal: float | None
) -> tuple[float, str | None]:
    """Return the diameter of circles or the side of squares, and a notice if it is a guess."""
    if known is not None:
        return known, None
    if shape == "square":
        lattice = square_lattice(points)
        if lattice is not None:
            return lattice.pitch, None
    if nominal is not None:
        return nominal, None
    part = 1.0 if shape == "square" else DEFAULT_DIAMETER
    diameter = part * detect_lattice(points).pitch
    is_clear = shape == "square" or square_lattice(points) is None
    bins = "" if is_clear else "; import bins with --spot-shape square"
    return diameter, (
        f"The {'side' if shape == 'square' else 'diameter'} of the spots is not stated; {part:g} of their pitch, "
        f"{diameter:.4g}, was used (set it with --spot-diameter when importing){bins}."
    )
