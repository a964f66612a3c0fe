"""Weights of piecewise (bi)linear interpolation between spots, clamped to their hull.

Shape legend: N spots, Q pixels, U distinct places of spots, C corners of a cell.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.spatial import ConvexHull, Delaunay, QhullError, cKDTree

from napari_srast.errors import InputError
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.lattice_frame import LatticeFrame, lattice_frame
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["clamp_to_hull", "linear_weights", "nearest_weights", "square_frame", "weights_on_frame"]

_CHUNK = 1 << 22


def nearest_weights(layout: SpotPixelMap) -> sparse.csr_matrix:
    """Return the (Q, N) matrix that gives each pixel the value of the nearest spot."""
    places, average = _distinct(layout.spots)
    _, index = cKDTree(places).query(layout.pixels)
    return _assemble(index[:, None], np.ones((len(index), 1)), len(places)) @ average


def square_frame(layout: SpotPixelMap) -> LatticeFrame | None:
    """Return the square lattice that a layout's spots lie on; None where they lie on no such lattice."""
    try:
        lattice = detect_lattice(layout.spots, layout.pitch)
    except InputError:  # all spots at one place
        return None
    if lattice.kind != "square" or not np.isfinite(lattice.misfit):
        return None
    return lattice_frame(layout.spots, lattice)


def linear_weights(layout: SpotPixelMap) -> sparse.csr_matrix:
    """Return the (Q, N) matrix of linear weights on the lattice that the spots lie on; see :func:`weights_on_frame`."""
    return weights_on_frame(layout, square_frame(layout))


def weights_on_frame(layout: SpotPixelMap, frame: LatticeFrame | None) -> sparse.csr_matrix:
    """Return the (Q, N) matrix of bilinear weights on a square lattice, of barycentric weights elsewhere.

    A pixel outside the hull takes the value at the nearest place of the hull. Beside a missing corner of a square cell
    the weights of the corners that exist are scaled up.

    Parameters
    ----------
    layout
        Spots and pixels.
    frame
        The square lattice (of this layout, or of the slide that it is a part of); None off square lattices.
    """
    if frame is not None:
        return _bilinear(layout, frame)
    places, average = _distinct(layout.spots)
    if len(places) == 1:
        return nearest_weights(layout)
    pixels = clamp_to_hull(places, layout.pixels)
    try:
        triangles = Delaunay(places)
    except (QhullError, ValueError):
        return _along_line(places, pixels) @ average
    found = triangles.find_simplex(pixels, tol=1e-9)
    corners = triangles.simplices[found]
    weights = _barycentric(places[corners], pixels)
    outside = (found < 0) | ~np.isfinite(weights).all(axis=1)
    weights = np.clip(np.where(outside[:, None], 0.0, weights), 0, None)
    weights[outside, 0] = 1.0
    corners[outside, 0] = cKDTree(places).query(pixels[outside])[1] if outside.any() else 0
    return _assemble(corners, weights / weights.sum(axis=1, keepdims=True), len(places)) @ average


def clamp_to_hull(places: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move (n, 2) points that lie outside the convex hull of some places to its nearest place."""
    points = np.array(points, dtype=float)
    try:
        hull = ConvexHull(places)
        ring = places[hull.vertices]
        outside = np.flatnonzero((points @ hull.equations[:, :2].T + hull.equations[:, 2] > 0).any(axis=1))
    except (QhullError, ValueError):  # fewer than three places, or all on one line
        ring = places[_order_on_line(places)[[0, -1]]]
        outside = np.arange(len(points))
    start, edge = ring, np.roll(ring, -1, axis=0) - ring
    length2 = np.maximum(np.sum(edge**2, axis=1), np.finfo(float).tiny)
    at_once = max(1, _CHUNK // len(ring))
    for first in range(0, len(outside), at_once):
        some = outside[first : first + at_once]
        along = np.einsum("qed,ed->qe", points[some][:, None] - start, edge) / length2
        foot = start + np.clip(along, 0, 1)[..., None] * edge
        closest = np.argmin(np.sum((foot - points[some][:, None]) ** 2, axis=2), axis=1)
        points[some] = foot[np.arange(len(some)), closest]
    return points


def _distinct(spots: np.ndarray) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Return the distinct places (U, 2) and the (U, N) matrix that averages the spots at each."""
    places, inverse = np.unique(spots, axis=0, return_inverse=True)
    return places, _averaging(inverse.ravel(), len(places))


def _averaging(group: np.ndarray, n_groups: int) -> sparse.csr_matrix:
    size = np.bincount(group, minlength=n_groups)
    return sparse.csr_matrix((1 / size[group], (group, np.arange(len(group)))), shape=(n_groups, len(group)))


def _assemble(index: np.ndarray, weights: np.ndarray, n_columns: int) -> sparse.csr_matrix:
    """Build a sparse matrix (Q, n_columns) from (Q, C) column indices and weights."""
    n_rows, n_corners = index.shape
    pointer = np.arange(n_rows + 1) * n_corners
    matrix = sparse.csr_matrix((weights.ravel(), index.ravel(), pointer), shape=(n_rows, n_columns))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _bilinear(layout: SpotPixelMap, frame: LatticeFrame) -> sparse.csr_matrix:
    """Interpolate in the cells of the fitted lattice; a Delaunay diagonal would favor one direction."""
    nodes, to_nodes = np.rint(frame.to_nodes(layout.spots)).astype(np.int64), frame.to_nodes(layout.pixels)
    low = np.floor(to_nodes + 1e-9)
    fraction = np.clip(to_nodes - low, 0, 1)
    first, span = nodes.min(axis=0) - 1, np.ptp(nodes, axis=0) + 3
    keys, inverse = np.unique((nodes - first) @ [span[1], 1], return_inverse=True)
    average = _averaging(inverse.ravel(), len(keys))
    index, weights = [], []
    for right in (0, 1):
        for up in (0, 1):
            corner = low.astype(np.int64) + np.array([right, up]) - first
            inside = ((corner >= 0) & (corner < span)).all(axis=1)
            key = corner @ [span[1], 1]
            at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            exists = inside & (keys[at] == key)
            weight = np.where(right, fraction[:, 0], 1 - fraction[:, 0]) * np.where(
                up, fraction[:, 1], 1 - fraction[:, 1]
            )
            index.append(at)
            weights.append(np.where(exists, weight, 0.0))
    corner_index, corner_weight = np.stack(index, axis=1), np.stack(weights, axis=1)
    total = corner_weight.sum(axis=1)
    lost = total < 1e-6
    corner_weight[lost] = 0.0
    corner_weight[lost, 0] = total[lost] = 1.0
    corner_index[lost, 0] = inverse.ravel()[layout.parent[lost]]
    return _assemble(corner_index, corner_weight / total[:, None], len(keys)) @ average


def _barycentric(triangle: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Barycentric coordinates (Q, 3) of (Q, 2) points in (Q, 3, 2) triangles."""
    a, b, c = triangle[:, 0], triangle[:, 1], triangle[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        area = _cross(b - a, c - a)
        second, third = _cross(point - a, c - a) / area, _cross(b - a, point - a) / area
    return np.stack([1 - second - third, second, third], axis=1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def _order_on_line(places: np.ndarray) -> np.ndarray:
    return np.lexsort((places[:, 1], places[:, 0]))


def _along_line(places: np.ndarray, pixels: np.ndarray) -> sparse.csr_matrix:
    """Linear weights (Q, U) for places on one line."""
    order = _order_on_line(places)
    if len(places) == 1:
        return sparse.csr_matrix(np.ones((len(pixels), 1)))
    start = places[order[0]]
    direction = places[order[-1]] - start
    at, where = (places[order] - start) @ direction, (pixels - start) @ direction
    right = np.clip(np.searchsorted(at, where), 1, len(at) - 1)
    share = np.clip((where - at[right - 1]) / np.maximum(at[right] - at[right - 1], np.finfo(float).tiny), 0, 1)
    return _assemble(
        np.column_stack([order[right - 1], order[right]]), np.column_stack([1 - share, share]), len(places)
    )
