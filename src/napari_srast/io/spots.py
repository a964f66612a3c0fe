"""Read the centers, size and shape of spots from SpatialData shapes or labels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely

from napari_srast.errors import InputError
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.store import full_resolution

if TYPE_CHECKING:
    import geopandas

__all__ = ["Spots", "is_valid_length", "read_spots", "square_polygons"]

_MAX_LENGTH = 1e100  # its square, and the square of its inverse, are finite
_MIN_SQUARENESS = 0.97
_MAX_JITTER = 0.02  # distance of bins from their lattice, in pitches


@dataclass(frozen=True, kw_only=True, eq=False)
class Spots:
    """Spots of an element, in the intrinsic coordinates of the element.

    Parameters
    ----------
    ids
        Instance ids, shape (M,): the index of shapes, or the values of labels.
    centers
        Centers (x, y), shape (M, 2).
    diameter
        Median diameter of circles, or median side of squares; None if unknown.
    shape
        "circle" or "square".
    notices
        Assumptions of the reader, one sentence each.
    depth
        Third coordinate of the centers, shape (M,); None if they are two-dimensional.
    area
        Median area of labels in pixels; None for shapes.
    """

    ids: np.ndarray
    centers: np.ndarray
    diameter: float | None
    shape: Literal["circle", "square"]
    notices: tuple[str, ...] = ()
    depth: np.ndarray | None = None
    area: float | None = None


def is_valid_length(value: float) -> bool:
    """Return whether a number is positive, finite, and neither too large nor too small to compute areas with."""
    return bool(1 / _MAX_LENGTH < value < _MAX_LENGTH)


def square_polygons(centers: np.ndarray, side: float, angle: float) -> np.ndarray:
    """Return squares around centers (x, y).

    Parameters
    ----------
    centers
        Centers, shape (N, 2).
    side
        Length of a side.
    angle
        Direction of a side, in radians.
    """
    direction = np.array([np.cos(angle), np.sin(angle)]) * side / 2
    normal = np.array([-direction[1], direction[0]])
    corners = np.array([-direction - normal, direction - normal, direction + normal, -direction + normal])
    squares: np.ndarray = shapely.polygons(centers[:, None] + corners)
    return squares


def read_spots(element: Any, name: str) -> Spots:
    """Read spots from circles, polygons, points or labels.

    Parameters
    ----------
    element
        A SpatialData shapes, points or labels element.
    name
        Name of the element, for messages.

    Raises
    ------
    InputError
        The element is empty or three-dimensional, or no spot has finite coordinates.
    """
    import geopandas

    if isinstance(element, geopandas.GeoDataFrame):
        spots = _from_shapes(element, name)
    else:
        spots = _from_points(element, name) if hasattr(element, "npartitions") else _from_labels(element, name)
    if len(spots.ids) == 0:
        raise InputError(f"The spots '{name}' are empty; export the slide again.")
    finite = np.isfinite(spots.centers).all(axis=1)
    if not finite.any():
        raise InputError(f"No spot of '{name}' has finite coordinates; export the slide again with its positions.")
    if finite.all():
        return spots
    return dataclasses.replace(
        spots,
        ids=spots.ids[finite],
        centers=spots.centers[finite],
        depth=None if spots.depth is None else spots.depth[finite],
        notices=(
            *spots.notices,
            f"{(~finite).sum()} spots of '{name}' have no finite coordinates (such as "
            f"{spots.ids[~finite].tolist()[0]!r}) and were left out.",
        ),
    )


def _from_shapes(shapes: geopandas.GeoDataFrame, name: str) -> Spots:
    ids = shapes.index.to_numpy()
    geometry = shapes.geometry.to_numpy()
    if len(shapes) == 0:
        return Spots(ids=ids, centers=np.empty((0, 2)), diameter=None, shape="circle")
    empty = shapely.is_missing(geometry) | shapely.is_empty(geometry)
    centers = np.full((len(ids), 2), np.nan)
    points = shapely.centroid(geometry[~empty])
    centers[~empty] = np.column_stack([shapely.get_x(points), shapely.get_y(points)])
    if empty.all():
        return Spots(ids=ids, centers=centers, diameter=None, shape="circle")
    depth = shapely.get_z(geometry) if "radius" in shapes.columns and shapely.has_z(geometry).all() else None
    notices: tuple[str, ...] = ()
    if "radius" in shapes.columns:
        radius = np.asarray(shapes["radius"], dtype=float)
        radius = radius[np.isfinite(radius)] if np.isfinite(radius).any() else radius
        median_radius = float(np.median(radius))
        if not is_valid_length(median_radius):
            raise InputError(
                f"The circles of '{name}' have a radius of {median_radius:g}; set the column 'radius' to a length."
            )
        if np.ptp(radius) > 0.05 * median_radius:
            notices = (f"The spots '{name}' differ in size; their median diameter, {2 * median_radius:.4g}, was used.",)
        diameter = 2 * median_radius
        return Spots(ids=ids, centers=centers, diameter=diameter, shape="circle", notices=notices, depth=depth)
    geometry = geometry[~empty]
    area = shapely.area(geometry)
    median_area = float(np.median(area))
    if not is_valid_length(median_area):
        raise InputError(f"The polygons of '{name}' have an area of {median_area:g}; export the slide again.")
    sample = geometry[:: max(1, len(geometry) // 200)]
    square = np.median([_squareness(polygon) for polygon in sample]) > _MIN_SQUARENESS
    if np.quantile(area, 0.95) > 1.5 * np.quantile(area, 0.05):
        notices = (f"The spots '{name}' differ in size; their median area was used.",)
    diameter = np.sqrt(median_area) if square else 2 * np.sqrt(median_area / np.pi)
    return Spots(
        ids=ids, centers=centers, diameter=float(diameter), shape="square" if square else "circle", notices=notices
    )


def _from_points(points: Any, name: str) -> Spots:
    """Read points as circles of unknown size, or as square bins if they are exactly on a square lattice."""
    table = points[["x", "y"]].compute()
    centers = table.to_numpy(dtype=float)
    finite = centers[np.isfinite(centers).all(axis=1)]
    ids = table.index.to_numpy()
    lattice = detect_lattice(finite) if len(np.unique(finite, axis=0)) > 1 else None
    if lattice is None or lattice.kind != "square" or not lattice.misfit < _MAX_JITTER:
        return Spots(ids=ids, centers=centers, diameter=None, shape="circle")
    notice = f"The points '{name}' are on a square lattice, so they were read as square bins of {lattice.pitch:.4g}."
    return Spots(ids=ids, centers=centers, diameter=lattice.pitch, shape="square", notices=(notice,))


def _squareness(polygon: shapely.Geometry) -> float:
    """Return 1 for a square in any orientation, less for any other shape.

    It is the fraction of the smallest enclosing rectangle that the polygon fills, times that rectangle's aspect ratio.
    """
    box = shapely.get_coordinates(shapely.minimum_rotated_rectangle(polygon))
    if len(box) < 5:
        return 0.0
    sides = np.hypot(*np.diff(box[:3], axis=0).T)
    return float(shapely.area(polygon) / np.prod(sides) * sides.min() / sides.max())


def _from_labels(labels: Any, name: str) -> Spots:
    level = full_resolution(labels)
    if tuple(level.dims) != ("y", "x"):
        raise InputError(f"The labels '{name}' are three-dimensional; choose two-dimensional spots with --spots.")
    import dask.array as da

    array = da.asarray(level.data)
    # Block by block, so that the labels of a slide never need to fit in memory at once.
    sums: dict[int, np.ndarray] = {}
    starts = [np.concatenate([[0], np.cumsum(sizes)[:-1]]) for sizes in array.chunks]
    for block in np.ndindex(*array.numblocks):
        values, inverse = np.unique(array.blocks[block].compute(), return_inverse=True)
        inverse = inverse.reshape(array.chunks[0][block[0]], array.chunks[1][block[1]])
        rows, columns = np.indices(inverse.shape)
        flat = inverse.ravel()
        parts = np.stack(
            [
                np.bincount(flat),
                np.bincount(flat, weights=columns.ravel() + starts[1][block[1]] + 0.5),
                np.bincount(flat, weights=rows.ravel() + starts[0][block[0]] + 0.5),
            ],
            axis=1,
        )
        for value, part in zip(values.tolist(), parts, strict=True):
            sums[value] = sums.get(value, 0) + part
    sums.pop(0, None)  # background
    ids = np.array(sorted(sums), dtype=np.int64)
    table = np.array([sums[i] for i in ids]).reshape(-1, 3)
    centers = table[:, 1:] / table[:, :1]
    area = float(np.median(table[:, 0])) if len(ids) else None
    diameter = None if area is None else float(2 * np.sqrt(area / np.pi))
    return Spots(ids=ids, centers=centers, diameter=diameter, shape="circle", area=area)
