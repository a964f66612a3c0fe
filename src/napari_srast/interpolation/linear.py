"""Weights of piecewise (bi)linear interpolation between spots, clamped to their convex hull.

Shape legend: N spots, Q pixels, U distinct positions of spots, C corners of a cell.
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

_CHUNK_SIZE = 1 << 22


def nearest_weights(layout: SpotPixelMap) -> sparse.csr_matrix:
    """Return the (Q, N) matrix that gives each pixel the value of the nearest spot."""
    positions, average = _distinct_positions(layout.spots)
    _, index = cKDTree(positions).query(layout.pixels)
    return _assemble(index[:, None], np.ones((len(index), 1)), len(positions)) @ average


def square_frame(layout: SpotPixelMap) -> LatticeFrame | None:
    """Return the square lattice of a map's spots; None if they are not on a square lattice."""
    try:
        lattice = detect_lattice(layout.spots, layout.pitch)
    except InputError:  # all spots have the same coordinates
        return None
    if lattice.kind != "square" or not np.isfinite(lattice.misfit):
        return None
    return lattice_frame(layout.spots, lattice)


def linear_weights(layout: SpotPixelMap) -> sparse.csr_matrix:
    """Return the (Q, N) matrix of linear weights on the lattice of a map's spots; see :func:`weights_on_frame`."""
    return weights_on_frame(layout, square_frame(layout))


def weights_on_frame(layout: SpotPixelMap, frame: LatticeFrame | None) -> sparse.csr_matrix:
    """Return the (Q, N) matrix of bilinear weights on a square lattice, of barycentric weights without one.

    A pixel outside the convex hull of the spots gets the value at the nearest point of the hull. In a square cell that
    lacks a corner the weights of the other corners are scaled up.

    Parameters
    ----------
    layout
        Spots and pixels.
    frame
        Square lattice of the map, or of the whole slide if the map is a tile; None without a square lattice.
    """
    if frame is not None:
        return _bilinear(layout, frame)
    positions, average = _distinct_positions(layout.spots)
    if len(positions) == 1:
        return nearest_weights(layout)
    pixels = clamp_to_hull(positions, layout.pixels)
    try:
        triangles = Delaunay(positions)
    except (QhullError, ValueError):
        return _along_line(positions, pixels) @ average
    simplex = triangles.find_simplex(pixels, tol=1e-9)
    corners = triangles.simplices[simplex]
    weights = _barycentric(positions[corners], pixels)
    outside = (simplex < 0) | ~np.isfinite(weights).all(axis=1)
    weights = np.clip(np.where(outside[:, None], 0.0, weights), 0, None)
    weights[outside, 0] = 1.0
    corners[outside, 0] = cKDTree(positions).query(pixels[outside])[1] if outside.any() else 0
    return _assemble(corners, weights / weights.sum(axis=1, keepdims=True), len(positions)) @ average


def clamp_to_hull(positions: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move points outside the convex hull of some positions to the nearest point of the hull.

    Parameters
    ----------
    positions
        Positions that span the hull, shape (U, 2).
    points
        Points to move, shape (n, 2).
    """
    points = np.array(points, dtype=float)
    try:
        hull = ConvexHull(positions)
        ring = positions[hull.vertices]
        outside = np.flatnonzero((points @ hull.equations[:, :2].T + hull.equations[:, 2] > 0).any(axis=1))
    except (QhullError, ValueError):  # fewer than three positions, or all on one line
        ring = positions[_order_on_line(positions)[[0, -1]]]
        outside = np.arange(len(points))
    start, edge = ring, np.roll(ring, -1, axis=0) - ring
    length2 = np.maximum(np.sum(edge**2, axis=1), np.finfo(float).tiny)
    per_chunk = max(1, _CHUNK_SIZE // len(ring))
    for first in range(0, len(outside), per_chunk):
        chunk = outside[first : first + per_chunk]
        fraction = np.einsum("qed,ed->qe", points[chunk][:, None] - start, edge) / length2
        foot = start + np.clip(fraction, 0, 1)[..., None] * edge
        closest = np.argmin(np.sum((foot - points[chunk][:, None]) ** 2, axis=2), axis=1)
        points[chunk] = foot[np.arange(len(chunk)), closest]
    return points


def _distinct_positions(spots: np.ndarray) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Return the distinct positions (U, 2), and the (U, N) matrix that averages the spots at each."""
    positions, inverse = np.unique(spots, axis=0, return_inverse=True)
    return positions, _averaging(inverse.ravel(), len(positions))


def _averaging(group: np.ndarray, n_groups: int) -> sparse.csr_matrix:
    size = np.bincount(group, minlength=n_groups)
    return sparse.csr_matrix((1 / size[group], (group, np.arange(len(group)))), shape=(n_groups, len(group)))


def _assemble(index: np.ndarray, weights: np.ndarray, n_columns: int) -> sparse.csr_matrix:
    """Build a sparse matrix (Q, n_columns) from column indices and weights (Q, C)."""
    n_rows, n_corners = index.shape
    pointer = np.arange(n_rows + 1) * n_corners
    matrix = sparse.csr_matrix((weights.ravel(), index.ravel(), pointer), shape=(n_rows, n_columns))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _bilinear(layout: SpotPixelMap, frame: LatticeFrame) -> sparse.csr_matrix:
    """Interpolate in the cells of the fitted lattice; the diagonals of a triangulation would favor one direction."""
    nodes, at_pixels = np.rint(frame.to_nodes(layout.spots)).astype(np.int64), frame.to_nodes(layout.pixels)
    low = np.floor(at_pixels + 1e-9)
    fraction = np.clip(at_pixels - low, 0, 1)
    first, span = nodes.min(axis=0) - 1, np.ptp(nodes, axis=0) + 3
    keys, inverse = np.unique((nodes - first) @ [span[1], 1], return_inverse=True)
    average = _averaging(inverse.ravel(), len(keys))
    index, weights = [], []
    for right in (0, 1):
        for up in (0, 1):
            corner = low.astype(np.int64) + np.array([right, up]) - first
            inside = ((corner >= 0) & (corner < span)).all(axis=1)
            key = corner @ [span[1], 1]
            position = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            exists = inside & (keys[position] == key)
            weight = np.where(right, fraction[:, 0], 1 - fraction[:, 0]) * np.where(
                up, fraction[:, 1], 1 - fraction[:, 1]
            )
            index.append(position)
            weights.append(np.where(exists, weight, 0.0))
    corner_index, corner_weight = np.stack(index, axis=1), np.stack(weights, axis=1)
    total = corner_weight.sum(axis=1)
    without_corner = total < 1e-6  # such a pixel gets the value of its own spot
    corner_weight[without_corner] = 0.0
    corner_weight[without_corner, 0] = total[without_corner] = 1.0
    corner_index[without_corner, 0] = inverse.ravel()[layout.parent[without_corner]]
    return _assemble(corner_index, corner_weight / total[:, None], len(keys)) @ average


def _barycentric(triangle: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return the barycentric coordinates (Q, 3) of points (Q, 2) in triangles (Q, 3, 2)."""
    a, b, c = triangle[:, 0], triangle[:, 1], triangle[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        area = _cross(b - a, c - a)
        second, third = _cross(point - a, c - a) / area, _cross(b - a, point - a) / area
    return np.stack([1 - second - third, second, third], axis=1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def _order_on_line(positions: np.ndarray) -> np.ndarray:
    return np.lexsort((positions[:, 1], positions[:, 0]))


def _along_line(positions: np.ndarray, pixels: np.ndarray) -> sparse.csr_matrix:
    """Return the linear weights (Q, U) of positions on one line."""
    order = _order_on_line(positions)
    if len(positions) == 1:
        return sparse.csr_matrix(np.ones((len(pixels), 1)))
    start = positions[order[0]]
    direction = positions[order[-1]] - start
    of_spots, of_pixels = (positions[order] - start) @ direction, (pixels - start) @ direction
    right = np.clip(np.searchsorted(of_spots, of_pixels), 1, len(of_spots) - 1)
    gap = np.maximum(of_spots[right] - of_spots[right - 1], np.finfo(float).tiny)
    share = np.clip((of_pixels - of_spots[right - 1]) / gap, 0, 1)
    return _assemble(
        np.column_stack([order[right - 1], order[right]]), np.column_stack([1 - share, share]), len(positions)
    )
