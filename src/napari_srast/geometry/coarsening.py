"""Coarser slides with known truth: points binned onto a lattice, and a slide coarsened once.

The raster alone says who owns what: a point belongs to the pixel that contains it and so to that pixel's parent. Had
points gone to the nearest spot first, pixels at the borders of cells would have had unequal areas, and areas are what a
model would then learn. Shape legend: n points, N spots, Q pixels, G genes, K members of a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.errors import InputError, SettingsError
from napari_srast.geometry.lattice import Lattice, detect_lattice
from napari_srast.geometry.raster import Raster, make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = [
    "Coarsened",
    "HexScheme",
    "LatticeFrame",
    "Rebinned",
    "bin_points",
    "coarsen_points",
    "coarsen_slide",
    "lattice_frame",
]

HexScheme = Literal["rhombi", "trimers", "sevens"]

_MAX_NODES = 20_000_000
_FEW = 0.25  # with less than this share of the spots in whole groups, groups half full are targets too


@dataclass(frozen=True, kw_only=True, eq=False)
class Rebinned:
    """A pseudo-low-resolution slide and the truth behind it.

    Parameters
    ----------
    centers
        Spot centers, shape (N, 2).
    counts
        Low-resolution counts, CSR (N, G): the sums of ``truth`` over each spot's pixels.
    raster
        The pixels and their parents.
    truth
        Counts of each pixel, CSR (Q, G).
    """

    centers: np.ndarray
    counts: sparse.csr_matrix
    raster: Raster
    truth: sparse.csr_matrix

    @property
    def layout(self) -> SpotPixelMap:
        """Spots and pixels, as the interpolations take them."""
        return SpotPixelMap.of_raster(self.centers, self.raster)


@dataclass(frozen=True, kw_only=True, eq=False)
class Coarsened:
    """A slide coarsened once: its own spots are the pixels.

    Parameters
    ----------
    layout
        Groups as spots, used spots as pixels. Groups without pixels serve as neighbors only.
    counts
        Counts of the groups, CSR (N groups, G). A group that lacks members is scaled up to a whole one, so that it
        does not look like a dark place to its neighbors; elsewhere they are the sums of ``truth``.
    truth
        Counts of the used spots, CSR (Q, G).
    used
        Index of the used spots in the slide, shape (Q,).
    """

    layout: SpotPixelMap
    counts: sparse.csr_matrix
    truth: sparse.csr_matrix
    used: np.ndarray


@dataclass(frozen=True, eq=False)
class LatticeFrame:
    """Integer places of spots on a lattice, with the affine map that leads there.

    Parameters
    ----------
    nodes
        Place of each spot, int64, shape (N, 2).
    origin
        Position of node (0, 0).
    basis
        The two lattice vectors as rows; 60 degrees apart on hexagons, up to a stretch.
    """

    nodes: np.ndarray
    origin: np.ndarray
    basis: np.ndarray

    def place(self, points: np.ndarray) -> np.ndarray:
        """Return the fractional node coordinates of (n, 2) points."""
        return np.asarray((points - self.origin) @ np.linalg.inv(self.basis))

    def position(self, nodes: np.ndarray) -> np.ndarray:
        """Return the positions of (n, 2) node coordinates."""
        return np.asarray(self.origin + nodes @ self.basis)


def lattice_frame(centers: np.ndarray, lattice: Lattice) -> LatticeFrame:
    """Give the spots of a square or hexagonal lattice their whole-number places.

    The fit is affine, since arrays are stretched by a percent or so, and grows outwards from the middle, so that errors
    of the pitch never add up to a wrong number.
    """
    points = np.asarray(centers, dtype=float)
    order = np.lexsort(points.T)
    middle = order[np.argmin(np.sum((points[order] - np.median(points, axis=0)) ** 2, axis=1))]
    origin, basis = points[middle], _basis(lattice.kind == "hex", lattice.pitch, lattice.angle)
    from_middle = np.sqrt(np.sum((points - origin) ** 2, axis=1))
    reach = 4.0 * lattice.pitch
    while True:
        near = from_middle <= reach
        nodes = np.rint((points - origin) @ np.linalg.inv(basis))
        design = np.column_stack([nodes[near], np.ones(near.sum())])
        solution, _, rank, _ = np.linalg.lstsq(design, points[near], rcond=None)
        if rank == 3:  # not all on one line
            basis, origin = solution[:2], solution[2]
        if reach > from_middle.max():
            break
        reach *= 1.5
    nodes = np.rint((points - origin) @ np.linalg.inv(basis)).astype(np.int64)
    return LatticeFrame(nodes, origin, basis)


def bin_points(raster: Raster, points: np.ndarray, counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Add up the counts (n, G) of points over the pixels that contain them: CSR (Q, G); points in no pixel are lost."""
    pixel = raster.locate(points)
    inside = np.flatnonzero(pixel >= 0)
    shape = (raster.n_pixels, len(pixel))
    return sparse.csr_matrix(sparse.csr_matrix((np.ones(len(inside)), (pixel[inside], inside)), shape=shape) @ counts)


def coarsen_points(
    points: np.ndarray,
    counts: sparse.csr_matrix,
    *,
    pitch: float,
    lattice: Literal["square", "hex"] = "square",
    factor: float = 2.0,
    angle: float = 0.0,
    offset: tuple[float, float] = (0.0, 0.0),
    min_counts: float = 1,
) -> Rebinned:
    """Lay a lattice of spots over points (cells, beads, transcripts) and bin them.

    Parameters
    ----------
    points
        Positions, shape (n, 2).
    counts
        Counts of each point, shape (n, G).
    pitch
        Distance between neighboring spots, in the units of ``points``.
    lattice
        "square" or "hex".
    factor
        Pixels per pitch.
    angle
        Direction of one lattice axis, in radians.
    offset
        Position of one spot relative to the points' lowest corner.
    min_counts
        Spots with fewer counts are left out.

    Raises
    ------
    SettingsError
        The pitch or lattice makes no sense, or is too fine for the extent of the points.
    InputError
        No spot holds enough counts.
    """
    points = np.asarray(points, dtype=float)
    if not (np.isfinite(pitch) and pitch > 0):
        raise SettingsError(f"pitch is {pitch:g}, but must be above 0, in the units of the points' coordinates.")
    if lattice not in ("square", "hex"):
        raise SettingsError(f"lattice is '{lattice}', but must be one of: square, hex.")
    if len(points) == 0:
        raise InputError("There are no points to bin; check that the table has observations.")
    total = np.asarray(counts.sum(axis=1), dtype=float).ravel()
    nodes = _nodes_over(points, lattice == "hex", pitch, angle, np.asarray(offset, dtype=float))
    _, nearest = cKDTree(nodes).query(points)
    centers = nodes[np.bincount(nearest, weights=total, minlength=len(nodes)) >= max(min_counts, 1)]
    # A point's pixel may belong to another spot than the nearest, where that one is left out.
    while len(centers):
        raster = make_raster(centers, factor=factor, spot_diameter=pitch)
        truth = bin_points(raster, points, counts)
        coarse = sparse.csr_matrix(SpotPixelMap.of_raster(centers, raster).membership @ truth)
        enough = np.asarray(coarse.sum(axis=1)).ravel() >= max(min_counts, 1)
        if enough.all():
            return Rebinned(
                centers=centers, counts=coarse.astype(np.float32), raster=raster, truth=truth.astype(np.float32)
            )
        centers = centers[enough]
    raise InputError(f"No spot of pitch {pitch:g} holds {min_counts:g} counts; use a larger pitch or fewer counts.")


def coarsen_slide(
    centers: np.ndarray,
    counts: sparse.csr_matrix,
    lattice: Lattice | None = None,
    *,
    scheme: HexScheme = "rhombi",
    seed: int = 0,
    variant: int = 0,
) -> Coarsened | None:
    """Coarsen a slide once, so that its own spots become the pixels of fewer, larger ones.

    Squares are joined in 2 x 2 blocks, hexagons in 2 x 2 rhombi of one of three orientations (or triangles of three, or
    flowers of seven), irregular spots in square bins of twice the pitch. Of all ways to lay the groups the one that
    keeps most whole groups is taken; ties are broken by the seed. Only whole groups are targets with pixels, unless
    they hold less than a quarter of the spots; other groups at least half full serve as neighbors.

    Parameters
    ----------
    centers
        Spot centers, shape (N, 2).
    counts
        Counts, CSR (N, G).
    lattice
        The lattice of the spots; None to detect it.
    scheme
        How hexagons are grouped: "rhombi" (4 members), "trimers" (3) or "sevens" (7).
    seed
        Chooses orientation and ties.
    variant
        0 for the way that keeps most whole groups, 1 for the next best, and so on: squares and rhombi can be laid in
        four ways, triangles in three, flowers in seven, irregular spots in any number.

    Returns
    -------
    Coarsened or None
        None where fewer than two groups could be targets, or there are not so many ways.
    """
    if scheme not in ("rhombi", "trimers", "sevens"):
        raise SettingsError(f"scheme is '{scheme}', but must be one of: rhombi, trimers, sevens.")
    centers = np.asarray(centers, dtype=float)
    if len(centers) < 4:
        return None
    lattice = lattice or detect_lattice(centers)
    rng = np.random.default_rng(seed)
    if lattice.kind == "irregular" or not np.isfinite(lattice.misfit):
        for _ in range(variant):
            rng.uniform(size=3)  # another angle and offset for each variant
        return _coarsen_irregular(centers, counts, lattice.pitch, rng)
    frame = lattice_frame(centers, lattice)
    ways = []
    options = list(_groupings(frame.nodes, lattice.kind == "hex", scheme, rng))
    for i in rng.permutation(len(options)):
        label, size, middle = options[i]
        keys, group = np.unique(label, axis=0, return_inverse=True)
        group = group.ravel()
        members = _distinct_members(frame.nodes, group, len(keys))
        score = np.sum(members == size) + np.sum(members) / (size * len(centers) + 1)
        ways.append((score, (keys, group, members, size, middle)))
    if variant >= len(ways):
        return None
    keys, group, members, size, middle = sorted(ways, key=lambda way: -way[0])[variant][1]
    mean = _group_mean(centers, group, len(keys))
    # The mass of a group that lacks members is scaled up to a whole one, so it stands at the whole one's middle.
    places = np.where((members == size)[:, None], mean, frame.position(keys + middle))
    area = abs(np.linalg.det(frame.basis)) * (2 / np.sqrt(3) if lattice.kind == "hex" else 1.0)
    whole = members == size
    if whole[group].mean() < _FEW:
        whole = members >= max(2, size / 2)
    return _assemble(centers, counts, group, places, whole, members >= size / 2, size / members, np.sqrt(area * size))


def _basis(hexagonal: bool, pitch: float, angle: float) -> np.ndarray:
    second = angle + (np.pi / 3 if hexagonal else np.pi / 2)
    return pitch * np.array([[np.cos(angle), np.sin(angle)], [np.cos(second), np.sin(second)]])


def _nodes_over(points: np.ndarray, hexagonal: bool, pitch: float, angle: float, offset: np.ndarray) -> np.ndarray:
    """Return the lattice nodes within reach of the points' bounding box."""
    low, high = points.min(axis=0), points.max(axis=0)
    basis, origin = _basis(hexagonal, pitch, angle), low + offset
    corners = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])
    place = (corners - origin) @ np.linalg.inv(basis)
    first, last = np.floor(place.min(axis=0)) - 1, np.ceil(place.max(axis=0)) + 1
    if np.prod(last - first + 1) > _MAX_NODES:
        raise SettingsError(f"A pitch of {pitch:g} is too fine for points that span {np.ptp(points, axis=0).max():g}.")
    i, j = np.meshgrid(np.arange(first[0], last[0] + 1), np.arange(first[1], last[1] + 1), indexing="ij")
    nodes = origin + np.column_stack([i.ravel(), j.ravel()]) @ basis
    return nodes[((nodes >= low - pitch) & (nodes <= high + pitch)).all(axis=1)]


def _groupings(
    nodes: np.ndarray, hexagonal: bool, scheme: HexScheme, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Yield ways to group nodes: the group's anchor node for each (N, 2), its size, and its middle from the anchor."""
    if hexagonal and scheme == "sevens":
        # i + 5 j (mod 7) is 0 at a flower's middle and differs among its seven members.
        around = np.array([[0, 0], [1, 0], [0, -1], [1, -1], [-1, 1], [0, 1], [-1, 0]])
        for phase in range(7):
            yield nodes - around[(nodes @ [1, 5] + phase) % 7], 7, np.zeros(2)
    elif hexagonal and scheme == "trimers":
        side = rng.choice([1, -1])  # triangles point up or down
        around = side * np.array([[0, 0], [1, 0], [0, 1]])
        for phase in range(3):
            yield nodes - around[(side * (nodes @ [1, -1]) + phase) % 3], 3, around.mean(axis=0)
    else:
        # A lattice of hexagons has three pairs of axes at 60 degrees; in node numbers they follow by this turn.
        turn = (
            np.linalg.matrix_power(np.array([[1, -1], [1, 0]]), rng.integers(3)) if hexagonal else np.eye(2, dtype=int)
        )
        back = np.rint(np.linalg.inv(turn)).astype(np.int64)
        turned = nodes @ turn
        for shift in ([0, 0], [0, 1], [1, 0], [1, 1]):
            anchor = turned - (turned + shift) % 2
            yield anchor @ back, 4, np.array([0.5, 0.5]) @ back


def _distinct_members(nodes: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Count the distinct nodes of each group: spots at one node do not make a group whole."""
    distinct = np.unique(np.column_stack([group, nodes]), axis=0)
    return np.bincount(distinct[:, 0], minlength=n_groups)


def _group_mean(centers: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    size = np.bincount(group, minlength=n_groups)
    sums = [np.bincount(group, weights=centers[:, d], minlength=n_groups) for d in (0, 1)]
    return np.column_stack(sums) / size[:, None]


def _coarsen_irregular(
    centers: np.ndarray, counts: sparse.csr_matrix, pitch: float, rng: np.random.Generator
) -> Coarsened | None:
    """Join spots without a lattice in square bins; their density is real, so nothing is scaled."""
    angle, side = rng.uniform(0, np.pi / 2), 2 * pitch
    place = (centers - centers.mean(axis=0)) @ np.linalg.inv(_basis(False, side, angle)) + rng.uniform(size=2)
    keys, group = np.unique(np.floor(place).astype(np.int64), axis=0, return_inverse=True)
    group = group.ravel()
    members = np.bincount(group, minlength=len(keys))
    mean = _group_mean(centers, group, len(keys))
    return _assemble(
        centers, counts, group, mean, members >= 2, np.ones(len(keys), dtype=bool), np.ones(len(keys)), side
    )


def _assemble(
    centers: np.ndarray,
    counts: sparse.csr_matrix,
    group: np.ndarray,
    places: np.ndarray,
    target: np.ndarray,
    kept: np.ndarray,
    scale: np.ndarray,
    pitch: float,
) -> Coarsened | None:
    """Build the coarse slide from each spot's group and each group's place, role and scale."""
    kept = kept | target
    if target.sum() < 2:
        return None
    number = np.cumsum(kept) - 1  # of the groups that are kept
    used = np.flatnonzero(target[group])
    lent = np.flatnonzero(kept[group])
    adding = sparse.csr_matrix((scale[group[lent]], (number[group[lent]], lent)), shape=(int(kept.sum()), len(centers)))
    origin = places[kept].min(axis=0)
    # Fitted places differ in their last digits when a slide is shifted; neighbors that are equally far must stay so.
    grain = 2.0 ** np.floor(np.log2(pitch) - 24)
    spots, pixels = (np.rint((at - origin) / grain) * grain for at in (places[kept], centers[used]))
    layout = SpotPixelMap(spots=spots, pixels=pixels, parent=number[group[used]], pitch=float(pitch))
    return Coarsened(
        layout=layout,
        counts=sparse.csr_matrix(adding @ counts, dtype=np.float32),
        truth=sparse.csr_matrix(counts[used], dtype=np.float32),
        used=used,
    )
