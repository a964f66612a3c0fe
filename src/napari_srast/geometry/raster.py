"""The fine raster: square pixels, each with at most one parent spot.

The raster is the only definition of who owns what. It depends on the spots, the pixel side and the region, never on
counts or method: the grid is centerd on the lattice of *all* spots and a pixel's parent is the nearest of all spots, so
a region sees the very pixels that the whole slide has. On a square lattice with an integer factor every spot owns
exactly factor x factor pixels, also where the lattice is tilted: the grid then follows it.

Coordinates are (x, y) in the spots' own frame. The center of pixel [0, 0] has pixel coordinates (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.errors import SettingsError
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.lattice import Lattice, detect_lattice

__all__ = ["MAX_PIXELS", "Footprint", "Raster", "make_raster"]

MAX_PIXELS = 200_000_000
_TIE = 1e-7  # in pitches: spots this much farther than the nearest count as equally near
_CHUNK = 1_000_000
_MOST_PLACES = 2.0**62  # of a raster, with or without a parent: their indices are 64-bit


@dataclass(frozen=True, kw_only=True, eq=False)
class Raster:
    """Pixels that have a parent, in row-major order.

    Parameters
    ----------
    row, col
        Place of each pixel in the image, shape (Q,).
    parent
        Index of each pixel's spot, shape (Q,).
    shape
        Rows and columns of the image.
    pixel_size
        Side of a pixel, in the spots' own frame.
    affine
        (3, 3) matrix from continuous pixel coordinates (column, row) to the spots' own frame.
    n_spots
        Number of spots of the slide, so that ``parent`` can be counted.
    lattice
        The lattice that the raster was laid on.
    footprint
        Which part of each spot's cell has pixels.
    """

    row: np.ndarray
    col: np.ndarray
    parent: np.ndarray
    shape: tuple[int, int]
    pixel_size: float
    affine: np.ndarray
    n_spots: int
    lattice: Lattice
    footprint: Footprint = "cell"

    @property
    def n_pixels(self) -> int:
        """Number of pixels that have a parent, Q."""
        return len(self.parent)

    @cached_property
    def centers(self) -> np.ndarray:
        """Pixel centers in the spots' own frame, shape (Q, 2), (x, y)."""
        return apply_affine(self.affine, np.column_stack([self.col + 0.5, self.row + 0.5]))

    @cached_property
    def counts_per_spot(self) -> np.ndarray:
        """Number of pixels K of every spot of the slide, shape (N,); 0 outside the region."""
        return np.bincount(self.parent, minlength=self.n_spots)

    @cached_property
    def spots(self) -> np.ndarray:
        """Sorted indices of the spots that own pixels."""
        return np.flatnonzero(self.counts_per_spot)

    @cached_property
    def membership(self) -> sparse.csr_matrix:
        """Indicator matrix, shape (N, Q): ``membership @ counts`` adds up pixels over their spots."""
        ones, pixels = np.ones(self.n_pixels), np.arange(self.n_pixels)
        return sparse.csr_matrix((ones, (self.parent, pixels)), shape=(self.n_spots, self.n_pixels))

    @cached_property
    def index_image(self) -> np.ndarray:
        """Image (rows, columns) of pixel indices, -1 where no pixel has a parent."""
        image = np.full(self.shape, -1, dtype=np.int64)
        image[self.row, self.col] = np.arange(self.n_pixels)
        return image

    def restrict(self, keep: np.ndarray) -> Raster:
        """Return the raster of some of the pixels, given as a boolean mask (Q,), cropped to them."""
        return _cropped(
            self.row[keep],
            self.col[keep],
            self.parent[keep],
            self.affine,
            self.pixel_size,
            self.n_spots,
            self.lattice,
            self.footprint,
        )

    def paint(self, values: np.ndarray) -> np.ndarray:
        """Spread (Q,) values over the image, float32, NaN where no pixel has a parent."""
        image = np.full(self.shape, np.nan, dtype=np.float32)
        image[self.row, self.col] = values
        return image

    def sum_to_spots(self, values: np.ndarray) -> np.ndarray:
        """Add up (Q, ...) pixel values over each spot, float64, shape (N, ...)."""
        values = np.asarray(values, dtype=np.float64)
        sums = self.membership @ values.reshape(len(values), -1)
        return sums.reshape(self.n_spots, *values.shape[1:])

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Return for (n, 2) points in the spots' own frame the index of the pixel that contains each, -1 for none."""
        place = np.floor(apply_affine(np.linalg.inv(self.affine), points)).astype(np.int64)
        inside = ((place >= 0) & (place < self.shape[::-1])).all(axis=1)
        found = np.full(len(place), -1, dtype=np.int64)
        found[inside] = self.index_image[place[inside, 1], place[inside, 0]]
        return found


def make_raster(
    centers: np.ndarray,
    *,
    factor: float = 2.0,
    pixel_size: float | None = None,
    footprint: Footprint = "cell",
    selected: np.ndarray | None = None,
    spot_diameter: float | None = None,
    spot_shape: str = "circle",
    lattice: Lattice | None = None,
) -> Raster:
    """Lay the raster over spots.

    Parameters
    ----------
    centers
        Spot centers, shape (N, 2), (x, y).
    factor
        Pixels per pitch, unless ``pixel_size`` gives the pixel side itself.
    pixel_size
        Pixel side in the units of ``centers``.
    footprint
        "cell" for whole cells, "spot" for the measured area only (needs ``spot_diameter``).
    selected
        Boolean mask (N,) of the spots that are to have pixels; None for all.
    spot_diameter, spot_shape
        The measured area of each spot.
    lattice
        The lattice, if already known.

    Raises
    ------
    SettingsError
        The pixels are so large that a spot has none, or so many that they cannot be held.
    """
    centers = np.asarray(centers, dtype=float)
    lattice = lattice or detect_lattice(centers, spot_diameter)
    side = lattice.pitch / factor if pixel_size is None else float(pixel_size)
    if footprint == "spot" and not spot_diameter:
        raise SettingsError(
            "footprint 'spot' needs the spots' diameter, which the slide does not give; use footprint 'cell'."
        )
    chosen = np.ones(len(centers), dtype=bool) if selected is None else np.asarray(selected, dtype=bool)

    to_slide, n_cols, n_rows = _grid(lattice, centers, side)
    # Only the window around the chosen spots is ever laid out.
    place = apply_affine(np.linalg.inv(to_slide), centers[chosen])
    margin = lattice.pitch / side + 1
    low = np.maximum(np.floor(place.min(axis=0) - margin), 0).astype(np.int64)
    high = np.minimum(np.ceil(place.max(axis=0) + margin), [n_cols, n_rows]).astype(np.int64)
    if np.prod((high - low).astype(float)) > MAX_PIXELS:
        raise SettingsError(
            f"The raster would have {np.prod((high - low).astype(float)):.3g} pixels, over {MAX_PIXELS:.0e}; "
            "use a smaller factor, larger pixels or a region."
        )
    col, row, parent = _own(to_slide, low, high, centers, lattice)
    keep = chosen[parent]
    if footprint == "spot" and spot_diameter:
        keep &= _inside_spot(to_slide, col, row, centers[parent], lattice, spot_diameter, spot_shape)
    col, row, parent = _with_orphans(to_slide, col, row, parent, keep, chosen, centers)

    return _cropped(row, col, parent, to_slide, side, len(centers), lattice, footprint)


def _cropped(
    row: np.ndarray,
    col: np.ndarray,
    parent: np.ndarray,
    affine: np.ndarray,
    side: float,
    n_spots: int,
    lattice: Lattice,
    footprint: Footprint,
) -> Raster:
    """Cut the image to its pixels and put them in row-major order."""
    first_col, first_row = int(col.min()), int(row.min())
    shift = np.eye(3)
    shift[:2, 2] = first_col, first_row
    order = np.lexsort((col, row))
    return Raster(
        row=(row - first_row)[order],
        col=(col - first_col)[order],
        parent=parent[order],
        shape=(int(row.max()) - first_row + 1, int(col.max()) - first_col + 1),
        pixel_size=side,
        affine=affine @ shift,
        n_spots=n_spots,
        lattice=lattice,
        footprint=footprint,
    )


def _grid(lattice: Lattice, centers: np.ndarray, side: float) -> tuple[np.ndarray, int, int]:
    """Center the pixel grid on the lattice's extent, so that it turns and mirrors with the slide."""
    angle = lattice.angle if lattice.kind == "square" and np.isfinite(lattice.misfit) else 0.0
    margin = 2 * np.ceil(lattice.pitch / side)  # jittered spots may lie outside the fitted extent
    span = (np.asarray(lattice.extent) + lattice.pitch) / side
    n_pixels = np.ceil(span - 1e-6) + 2 * margin
    if not np.prod(n_pixels) <= _MOST_PLACES:  # nor NaN
        raise SettingsError(
            "The spots lie too far apart for a raster of such pixels; use larger pixels or check the coordinates."
        )
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = side * turn
    matrix[:2, 2] = np.asarray(lattice.center) - matrix[:2, :2] @ (n_pixels / 2)
    return matrix, int(n_pixels[0]), int(n_pixels[1])


def _own(
    to_slide: np.ndarray, low: np.ndarray, high: np.ndarray, centers: np.ndarray, lattice: Lattice
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give each pixel of a window its parent: the nearest spot, if within reach."""
    origin = centers.min(axis=0)
    relative = centers - origin
    rank = np.empty(len(centers), dtype=np.int64)
    rank[np.lexsort(relative.T)] = np.arange(len(centers))
    tree = cKDTree(relative)
    n_near = min(4, len(centers))
    slack = 2 * lattice.misfit if np.isfinite(lattice.misfit) else 0.25
    width = int(high[0] - low[0])
    cols, rows, parents = [], [], []
    rows_at_once = max(1, _CHUNK // max(width, 1))
    for start in range(int(low[1]), int(high[1]), rows_at_once):
        stop = min(start + rows_at_once, int(high[1]))
        row, col = (a.ravel() for a in np.mgrid[start:stop, int(low[0]) : int(high[0])])
        point = apply_affine(to_slide, np.column_stack([col + 0.5, row + 0.5])) - origin
        distance, index = tree.query(point, k=n_near, distance_upper_bound=1.5 * lattice.pitch)
        distance, index = distance.reshape(len(point), n_near), index.reshape(len(point), n_near)
        some = np.isfinite(distance[:, 0])
        point, row, col, distance, index = point[some], row[some], col[some], distance[some], index[some]
        tied = distance <= distance[:, :1] + _TIE * lattice.pitch
        ranks = np.where(tied, rank[np.minimum(index, len(centers) - 1)], len(centers))
        pick = np.argmin(ranks, axis=1)
        parent = index[np.arange(len(index)), pick]
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
    return np.concatenate(cols), np.concatenate(rows), np.concatenate(parents)


def _chebyshev(offset: np.ndarray, lattice: Lattice) -> np.ndarray:
    """Largest distance along the axes of the lattice."""
    cos, sin = np.cos(lattice.angle), np.sin(lattice.angle)
    return np.maximum(np.abs(offset @ [cos, sin]), np.abs(offset @ [-sin, cos]))


def _inside_spot(
    to_slide: np.ndarray,
    col: np.ndarray,
    row: np.ndarray,
    centers: np.ndarray,
    lattice: Lattice,
    diameter: float,
    shape: str,
) -> np.ndarray:
    offset = apply_affine(to_slide, np.column_stack([col + 0.5, row + 0.5])) - centers
    distance = _chebyshev(offset, lattice) if shape == "square" else np.hypot(*offset.T)
    return distance <= diameter / 2 * (1 + 1e-6)


def _with_orphans(
    to_slide: np.ndarray,
    col: np.ndarray,
    row: np.ndarray,
    parent: np.ndarray,
    keep: np.ndarray,
    chosen: np.ndarray,
    centers: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give every chosen spot that has no pixel (tiny, or at another's place) the nearest one that can be spared."""
    owned = np.bincount(parent[keep], minlength=len(centers))
    orphans = np.flatnonzero(chosen & (owned == 0))
    if len(orphans) == 0:
        return col[keep], row[keep], parent[keep]
    parent, keep = parent.copy(), keep.copy()
    if len(parent) == 0:
        raise SettingsError("The pixels are larger than the spots' cells; use a larger factor or smaller pixels.")
    point = apply_affine(to_slide, np.column_stack([col + 0.5, row + 0.5]))
    tree = cKDTree(point)
    for spot in orphans[np.lexsort(centers[orphans].T)]:
        _, near = tree.query(centers[spot], k=min(16, len(point)))
        for pixel in np.atleast_1d(near):
            spare = not keep[pixel] or owned[parent[pixel]] > 1
            if spare and (parent[pixel] == spot or chosen[parent[pixel]]):
                if keep[pixel]:
                    owned[parent[pixel]] -= 1
                parent[pixel], keep[pixel] = spot, True
                owned[spot] = 1
                break
        else:
            raise SettingsError(
                f"The pixels are too large: the spot at x {centers[spot, 0]:.6g}, y {centers[spot, 1]:.6g} would have "
                "none; use a larger factor or smaller pixels."
            )
    return col[keep], row[keep], parent[keep]


Footprint = Literal["cell", "spot"]
