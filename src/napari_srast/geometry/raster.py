"""Fine raster of square pixels, each with at most one parent spot.

The raster alone defines which pixel belongs to which spot. It depends on the spots, the pixel size and the region, but
not on counts or on the method. The grid is centered on the lattice of *all* spots, and a pixel's parent is the nearest
of all spots, so a region has exactly the pixels that it has in a raster of the whole slide. On a square lattice with an
integer factor every spot has exactly factor x factor pixels. This also holds for a tilted lattice, because the grid
follows the tilt.

Coordinates are (x, y) in the intrinsic frame of the spots. The center of pixel [0, 0] has pixel coordinates (0.5, 0.5).
Shape legend: N spots, Q pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.arrays import Affine, PixelCenters, PixelMask, PixelParents, SpotCenters, SpotMask
from napari_srast.errors import SettingsError
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.lattice import Lattice, detect_lattice

__all__ = ["MAX_PIXELS", "Footprint", "Raster", "make_raster"]

Footprint = Literal["cell", "spot"]

MAX_PIXELS = 200_000_000
"""Largest number of grid pixels, with or without a parent, around the selected spots."""
_TIE = 1e-7  # in pitches: spots this much farther than the nearest count as equally near
_PIXELS_PER_CHUNK = 1_000_000
_MAX_GRID_SIZE = 2.0**62  # pixel indices of the whole slide's grid are 64-bit integers


@dataclass(frozen=True, kw_only=True, eq=False)
class Raster:
    """Pixels that have a parent spot, in row-major order.

    Parameters
    ----------
    row, col
        Row and column of each pixel in the image, shape (Q,).
    parent
        Index of each pixel's spot, shape (Q,).
    shape
        Number of rows and columns of the image.
    pixel_size
        Side of a pixel, in units of the intrinsic frame.
    affine
        Transformation from continuous pixel coordinates (column, row) to the intrinsic frame, shape (3, 3).
    n_spots
        Number of spots of the slide, N.
    lattice
        Lattice that the raster was built on.
    footprint
        "cell" if pixels fill the whole cell of a spot, "spot" if they fill its measured area only.
    """

    row: np.ndarray
    col: np.ndarray
    parent: PixelParents
    shape: tuple[int, int]
    pixel_size: float
    affine: Affine
    n_spots: int
    lattice: Lattice
    footprint: Footprint = "cell"

    @property
    def n_pixels(self) -> int:
        """Number of pixels that have a parent, Q."""
        return len(self.parent)

    @cached_property
    def centers(self) -> PixelCenters:
        """Pixel centers in the intrinsic frame, (x, y), shape (Q, 2)."""
        return _pixel_centers(self.affine, self.col, self.row)

    @cached_property
    def n_pixels_per_spot(self) -> np.ndarray:
        """Number of pixels K of every spot of the slide, shape (N,); 0 outside the region."""
        return np.bincount(self.parent, minlength=self.n_spots)

    @cached_property
    def spots(self) -> np.ndarray:
        """Sorted indices of the spots that have pixels."""
        return np.flatnonzero(self.n_pixels_per_spot)

    @cached_property
    def membership(self) -> sparse.csr_matrix:
        """Membership matrix of ones, shape (N, Q): ``membership @ values`` sums pixel values over each spot."""
        ones, pixels = np.ones(self.n_pixels), np.arange(self.n_pixels)
        return sparse.csr_matrix((ones, (self.parent, pixels)), shape=(self.n_spots, self.n_pixels))

    @cached_property
    def index_image(self) -> np.ndarray:
        """Image (rows, columns) of pixel indices, -1 where no pixel has a parent."""
        image = np.full(self.shape, -1, dtype=np.int64)
        image[self.row, self.col] = np.arange(self.n_pixels)
        return image

    def restrict(self, mask: PixelMask) -> Raster:
        """Return the raster of the pixels that a boolean mask (Q,) selects, cropped to them."""
        return _crop(replace(self, row=self.row[mask], col=self.col[mask], parent=self.parent[mask]))

    def to_image(self, values: np.ndarray) -> np.ndarray:
        """Arrange (Q,) pixel values as an image (rows, columns), float32, NaN where no pixel has a parent."""
        image = np.full(self.shape, np.nan, dtype=np.float32)
        image[self.row, self.col] = values
        return image

    def sum_to_spots(self, values: np.ndarray) -> np.ndarray:
        """Sum (Q, ...) pixel values over each spot, float64, shape (N, ...)."""
        values = np.asarray(values, dtype=np.float64)
        sums = self.membership @ values.reshape(len(values), -1)
        return sums.reshape(self.n_spots, *values.shape[1:])

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Return the index of the pixel that contains each point of the intrinsic frame (n, 2), -1 for no pixel."""
        col_row = np.floor(apply_affine(np.linalg.inv(self.affine), points)).astype(np.int64)
        inside = ((col_row >= 0) & (col_row < self.shape[::-1])).all(axis=1)
        index = np.full(len(col_row), -1, dtype=np.int64)
        index[inside] = self.index_image[col_row[inside, 1], col_row[inside, 0]]
        return index


def make_raster(
    centers: SpotCenters,
    *,
    factor: float = 2.0,
    pixel_size: float | None = None,
    footprint: Footprint = "cell",
    selected: SpotMask | None = None,
    spot_diameter: float | None = None,
    spot_shape: str = "circle",
    lattice: Lattice | None = None,
) -> Raster:
    """Build the raster over spots.

    Parameters
    ----------
    centers
        Spot centers, (x, y), shape (N, 2).
    factor
        Pixels per pitch; ignored if ``pixel_size`` is given.
    pixel_size
        Side of a pixel, in the units of ``centers``.
    footprint
        "cell" for pixels in the whole cell of a spot, "spot" for its measured area only (needs ``spot_diameter``).
    selected
        Boolean mask of the spots that get pixels, shape (N,); None for all.
    spot_diameter
        Diameter (circle) or side (square) of the measured area, in the units of ``centers``; None if unknown.
    spot_shape
        Shape of the measured area: "circle" or "square".
    lattice
        Lattice of the spots; None to detect it.

    Raises
    ------
    SettingsError
        The pixels are too large, so that a spot would have none, or too many.
    """
    centers = np.asarray(centers, dtype=float)
    lattice = lattice or detect_lattice(centers, spot_diameter)
    side = lattice.pitch / factor if pixel_size is None else float(pixel_size)
    if footprint == "spot" and not spot_diameter:
        raise SettingsError(
            "footprint 'spot' needs the spots' diameter, which the slide does not give; use footprint 'cell'."
        )
    chosen = np.ones(len(centers), dtype=bool) if selected is None else np.asarray(selected, dtype=bool)

    to_slide, n_cols, n_rows = _make_grid(lattice, side)
    # Only the window around the chosen spots is computed.
    col_row = apply_affine(np.linalg.inv(to_slide), centers[chosen])
    margin = lattice.pitch / side + 1
    low = np.maximum(np.floor(col_row.min(axis=0) - margin), 0).astype(np.int64)
    high = np.minimum(np.ceil(col_row.max(axis=0) + margin), [n_cols, n_rows]).astype(np.int64)
    n_window = np.prod((high - low).astype(float))
    if n_window > MAX_PIXELS:
        raise SettingsError(
            f"The raster would have {n_window:.3g} pixels, over {MAX_PIXELS:.0e}; "
            "use a smaller factor, larger pixels or a region."
        )
    pixels = _assign_parents(to_slide, low, high, centers, lattice)
    keep = chosen[pixels.parent]
    if footprint == "spot" and spot_diameter:
        keep &= _inside_spot(pixels, centers[pixels.parent], lattice, spot_diameter, spot_shape)
    pixels = _add_missing_pixels(pixels, keep, chosen, centers)
    raster = Raster(
        row=pixels.row,
        col=pixels.col,
        parent=pixels.parent,
        shape=(n_rows, n_cols),
        pixel_size=side,
        affine=to_slide,
        n_spots=len(centers),
        lattice=lattice,
        footprint=footprint,
    )
    return _crop(raster)


@dataclass(frozen=True, eq=False)
class _GridPixels:
    """Some pixels of a grid and the spot nearest to each, shape (n,) each; ``to_slide`` is the grid's affine."""

    to_slide: np.ndarray
    col: np.ndarray
    row: np.ndarray
    parent: PixelParents

    @property
    def centers(self) -> PixelCenters:
        return _pixel_centers(self.to_slide, self.col, self.row)


def _pixel_centers(to_slide: np.ndarray, col: np.ndarray, row: np.ndarray) -> np.ndarray:
    return apply_affine(to_slide, np.column_stack([col + 0.5, row + 0.5]))


def _crop(raster: Raster) -> Raster:
    """Crop the image of a raster to its pixels, and sort them in row-major order."""
    row, col = raster.row, raster.col
    first_col, first_row = int(col.min()), int(row.min())
    shift = np.eye(3)
    shift[:2, 2] = first_col, first_row
    order = np.lexsort((col, row))
    return replace(
        raster,
        row=(row - first_row)[order],
        col=(col - first_col)[order],
        parent=raster.parent[order],
        shape=(int(row.max()) - first_row + 1, int(col.max()) - first_col + 1),
        affine=raster.affine @ shift,
    )


def _make_grid(lattice: Lattice, side: float) -> tuple[np.ndarray, int, int]:
    """Center the pixel grid on the lattice's extent, so that it rotates and reflects with the slide.

    Returns
    -------
    to_slide, n_cols, n_rows
        Affine from pixel coordinates to the intrinsic frame, and the size of the grid.
    """
    angle = lattice.angle if lattice.kind == "square" and np.isfinite(lattice.misfit) else 0.0
    margin = 2 * np.ceil(lattice.pitch / side)  # jittered spots may be outside the fitted extent
    span = (np.asarray(lattice.extent) + lattice.pitch) / side
    n_pixels = np.ceil(span - 1e-6) + 2 * margin
    if not np.prod(n_pixels) <= _MAX_GRID_SIZE:  # also true for NaN
        raise SettingsError(
            "The spots are too far apart for a raster of such pixels; use larger pixels or check the coordinates."
        )
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = side * rotation
    matrix[:2, 2] = np.asarray(lattice.center) - matrix[:2, :2] @ (n_pixels / 2)
    return matrix, int(n_pixels[0]), int(n_pixels[1])


def _assign_parents(
    to_slide: np.ndarray, low: np.ndarray, high: np.ndarray, centers: np.ndarray, lattice: Lattice
) -> _GridPixels:
    """Find the nearest spot of each pixel in a window of the grid; pixels out of reach of all spots are left out.

    Among equally near spots the one with the lowest coordinates is chosen, so the order of the spots has no influence.
    """
    origin = centers.min(axis=0)
    relative = centers - origin
    rank = np.empty(len(centers), dtype=np.int64)
    rank[np.lexsort(relative.T)] = np.arange(len(centers))
    tree = cKDTree(relative)
    n_near = min(4, len(centers))
    slack = 2 * lattice.misfit if np.isfinite(lattice.misfit) else 0.25
    width = int(high[0] - low[0])
    cols, rows, parents = [], [], []
    rows_per_chunk = max(1, _PIXELS_PER_CHUNK // max(width, 1))
    for start in range(int(low[1]), int(high[1]), rows_per_chunk):
        stop = min(start + rows_per_chunk, int(high[1]))
        row, col = (a.ravel() for a in np.mgrid[start:stop, int(low[0]) : int(high[0])])
        point = _pixel_centers(to_slide, col, row) - origin
        distance, index = tree.query(point, k=n_near, distance_upper_bound=1.5 * lattice.pitch)
        distance, index = distance.reshape(len(point), n_near), index.reshape(len(point), n_near)
        reached = np.isfinite(distance[:, 0])
        point, row, col, distance, index = point[reached], row[reached], col[reached], distance[reached], index[reached]
        tied = distance <= distance[:, :1] + _TIE * lattice.pitch
        ranks = np.where(tied, rank[np.minimum(index, len(centers) - 1)], len(centers))
        parent = index[np.arange(len(index)), np.argmin(ranks, axis=1)]
        offset = point - relative[parent]
        if lattice.kind == "square":
            within = _chebyshev(offset, lattice) <= (0.5 + 1e-6 + slack) * lattice.pitch
        elif lattice.kind == "hex":
            within = distance[:, 0] <= 0.6 * lattice.pitch
        else:
            within = distance[:, 0] <= 0.75 * lattice.pitch
        cols.append(col[within])
        rows.append(row[within])
        parents.append(parent[within])
    return _GridPixels(to_slide, np.concatenate(cols), np.concatenate(rows), np.concatenate(parents))


def _chebyshev(offset: np.ndarray, lattice: Lattice) -> np.ndarray:
    """Return the largest distance along the axes of the lattice."""
    cos, sin = np.cos(lattice.angle), np.sin(lattice.angle)
    return np.maximum(np.abs(offset @ [cos, sin]), np.abs(offset @ [-sin, cos]))


def _inside_spot(
    pixels: _GridPixels, parent_centers: np.ndarray, lattice: Lattice, diameter: float, shape: str
) -> np.ndarray:
    """Return which pixels have their center in the measured area of their parent."""
    offset = pixels.centers - parent_centers
    distance = _chebyshev(offset, lattice) if shape == "square" else np.hypot(*offset.T)
    return distance <= diameter / 2 * (1 + 1e-6)


def _add_missing_pixels(pixels: _GridPixels, keep: np.ndarray, chosen: np.ndarray, centers: np.ndarray) -> _GridPixels:
    """Select pixels, and give every chosen spot without a pixel the nearest one that can be spared.

    A spot has no pixel if it is tiny, or at the same coordinates as another spot. A pixel can be spared if it is not
    selected, or if its parent keeps another one.

    Parameters
    ----------
    pixels
        Pixels of the window and their nearest spots.
    keep
        Which pixels are selected, shape (n,).
    chosen
        Which spots need a pixel, shape (N,).
    centers
        Spot centers, shape (N, 2).
    """
    parent = pixels.parent
    n_pixels = np.bincount(parent[keep], minlength=len(centers))
    empty = np.flatnonzero(chosen & (n_pixels == 0))
    if len(empty):
        parent, keep = parent.copy(), keep.copy()
        if len(parent) == 0:
            raise SettingsError("The pixels are larger than the spots' cells; use a larger factor or smaller pixels.")
        point = pixels.centers
        tree = cKDTree(point)
        for spot in empty[np.lexsort(centers[empty].T)]:
            _, near = tree.query(centers[spot], k=min(16, len(point)))
            for pixel in np.atleast_1d(near):
                spare = not keep[pixel] or n_pixels[parent[pixel]] > 1
                if spare and (parent[pixel] == spot or chosen[parent[pixel]]):
                    if keep[pixel]:
                        n_pixels[parent[pixel]] -= 1
                    parent[pixel], keep[pixel] = spot, True
                    n_pixels[spot] = 1
                    break
            else:
                raise SettingsError(
                    f"The pixels are too large: the spot at x {centers[spot, 0]:.6g}, y {centers[spot, 1]:.6g} would "
                    "have none; use a larger factor or smaller pixels."
                )
    return replace(pixels, col=pixels.col[keep], row=pixels.row[keep], parent=parent[keep])
