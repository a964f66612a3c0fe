"""Decide from what a table states, and from their lattice, whether its spots are circles or square bins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from napari_srast.errors import InputError, SettingsError
from napari_srast.geometry.lattice import Lattice, detect_lattice
from napari_srast.geometry.lattice_frame import lattice_frame
from napari_srast.io.array_coordinates import BIN_NAME, named_positions
from napari_srast.io.spots import Spots

__all__ = [
    "ShapeChoice",
    "SpotShape",
    "StatedShape",
    "check_spot_shape",
    "covers_its_cells",
    "resolve_shape",
    "square_lattice",
    "stated_shape",
]

SpotShape = Literal["circle", "square"]

_BIN_KEYS = ("bin_size", "bin_size_um", "binsize", "bin_um")
_N_NAMES = 20  # names that are looked at
_MAX_JITTER = 0.02  # distance of bins from their lattice, in pitches
_MIN_FILLED = 0.95  # of the places between the first and the last bin of a row


@dataclass(frozen=True)
class StatedShape:
    """Shape of the spots that a table states.

    Parameters
    ----------
    shape
        "circle" or "square".
    reason
        What states it.
    """

    shape: SpotShape
    reason: str


@dataclass(frozen=True)
class ShapeChoice:
    """Shape and size of the spots of a slide.

    Parameters
    ----------
    shape
        "circle" or "square".
    diameter
        Diameter or side, in the unit of the spots; None if unknown.
    notices
        What was changed, one sentence each.
    """

    shape: SpotShape
    diameter: float | None
    notices: tuple[str, ...] = ()


def resolve_shape(
    spots: Spots, centers: np.ndarray, uns: Mapping[str, Any], names: Any, option: str | None
) -> ShapeChoice:
    """Decide the shape of the spots of an element: bins are squares that cover their cells, also if stored as circles.

    Parameters
    ----------
    spots
        Spots of the element.
    centers
        Centers of the spots that are used, shape (N, 2).
    uns
        Metadata of the table.
    names
        Names of the spots.
    option
        Shape that the user gave.
    """
    stored = ShapeChoice(spots.shape, spots.diameter)
    if option == spots.shape or len(centers) < 2:
        return stored
    if option == "circle":
        return ShapeChoice("circle", spots.diameter)
    if option == "square":
        lattice = square_lattice(centers)
        return ShapeChoice("square", spots.diameter if lattice is None else lattice.pitch)
    if spots.shape == "square":
        return stored
    stated = stated_shape(uns, names)
    if stated is not None and stated.shape == "square":
        lattice = square_lattice(centers)
        if lattice is not None:
            notice = (
                f"The spots are bins ({stated.reason} of the table), so they were read as squares of "
                f"{lattice.pitch:.4g} that cover their cells."
            )
            return ShapeChoice("square", lattice.pitch, (notice,))
    if stated is None and spots.area is not None:  # labels: their pixels show whether they cover their cells
        lattice = square_lattice(centers)
        if lattice is not None and abs(spots.area / lattice.pitch**2 - 1) < _MAX_JITTER:
            return ShapeChoice("square", lattice.pitch)
    return stored


def check_spot_shape(shape: str | None) -> None:
    """Refuse a shape that is neither a circle nor a square; None passes."""
    if shape not in (None, "circle", "square"):
        raise SettingsError(f"The spot shape is '{shape}', but must be circle or square.")


def stated_shape(uns: Mapping[str, Any], names: Any) -> StatedShape | None:
    """Return the shape that the metadata or the names of the spots state, or None if they state none.

    Parameters
    ----------
    uns
        Metadata of the table.
    names
        Names of the spots.
    """
    meta = uns.get("meta", {})
    spatial = uns.get("spatial", {})
    libraries = spatial.values() if isinstance(spatial, Mapping) else ()
    factors = [library.get("scalefactors") for library in libraries if isinstance(library, Mapping)]
    for source in (uns, meta, *factors):
        if not isinstance(source, Mapping):
            continue
        key = next((key for key in _BIN_KEYS if _is_number(source.get(key))), None)
        if key is not None and str(source.get("bin_type", "bins")).casefold() in ("bins", "bin", "square"):
            return StatedShape("square", key)
        if str(source.get("bin_type", "")).casefold() in ("bins", "bin", "square"):
            return StatedShape("square", "bin_type")
    first = [str(name) for name in names[:_N_NAMES]]
    if first and all(BIN_NAME.fullmatch(name) for name in first):
        return StatedShape("square", "the names of the spots")
    if isinstance(meta, Mapping):
        platform = " ".join(str(meta.get(key, "")) for key in ("platform", "obs_is")).casefold()
        if re.search(r"\bbins?\b|visium hd", platform):
            return StatedShape("square", "the platform")
        if re.search(r"visium|spatial transcriptomics|slide-seq", platform):
            return StatedShape("circle", "the platform")
    if named_positions(first) is not None:  # of the original Spatial Transcriptomics array
        return StatedShape("circle", "the names of the spots")
    return None


def square_lattice(centers: np.ndarray) -> Lattice | None:
    """Return the lattice of spots if it is a square one, else None.

    Parameters
    ----------
    centers
        Spot centers, shape (N, 2).
    """
    try:
        lattice = detect_lattice(centers)
    except InputError:
        return None
    return lattice if lattice.kind == "square" and np.isfinite(lattice.misfit) else None


def covers_its_cells(centers: np.ndarray, lattice: Lattice) -> bool:
    """Return whether spots are exactly on a square lattice without gaps, as bins are.

    Parameters
    ----------
    centers
        Spot centers, shape (N, 2).
    lattice
        Their square lattice.
    """
    if lattice.misfit > _MAX_JITTER:
        return False
    nodes = lattice_frame(centers, lattice).nodes
    rows, row = np.unique(nodes[:, 1], return_inverse=True)
    low, high = np.full(len(rows), np.iinfo(np.int64).max), np.full(len(rows), np.iinfo(np.int64).min)
    np.minimum.at(low, row.ravel(), nodes[:, 0])
    np.maximum.at(high, row.ravel(), nodes[:, 0])
    return bool(len(np.unique(nodes, axis=0)) >= _MIN_FILLED * np.sum(high - low + 1))


def _is_number(value: Any) -> bool:
    try:
        return value is not None and 0 < float(value) < np.inf
    except (TypeError, ValueError):
        return False
