"""Coarsened slides with known truth: the spots of a slide become the pixels of fewer, larger spots.

Shape legend: N spots of the slide, M groups, Q spots that serve as pixels, G genes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from napari_srast.errors import invalid_choice
from napari_srast.geometry.lattice import Lattice, detect_lattice, lattice_vectors
from napari_srast.geometry.lattice_frame import LatticeFrame, lattice_frame
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["CoarsenedSlide", "HexScheme", "coarsen_slide"]

HexScheme = Literal["rhombi", "trimers", "heptamers"]

_HEX_SCHEMES = ("rhombi", "trimers", "heptamers")
_MIN_COMPLETE_SHARE = (
    0.25  # if complete groups have less than this share of the spots, half-full groups are targets too
)


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarsenedSlide:
    """Slide whose spots became the pixels of larger spots.

    Parameters
    ----------
    layout
        Groups as spots, and the spots of target groups as pixels. Groups without pixels serve as neighbors only.
    counts
        Counts of the groups, CSR, shape (M, G). Those of an incomplete group are scaled up to a complete one, so that
        it does not look like a low-count region to its neighbors; the others are the sums of ``truth``.
    truth
        Counts of the spots that serve as pixels, CSR, shape (Q, G).
    used
        Index of these spots in the slide, shape (Q,).
    """

    layout: SpotPixelMap
    counts: sparse.csr_matrix
    truth: sparse.csr_matrix
    used: np.ndarray


def coarsen_slide(
    centers: np.ndarray,
    counts: sparse.csr_matrix,
    lattice: Lattice | None = None,
    *,
    scheme: HexScheme = "rhombi",
    seed: int = 0,
    variant: int = 0,
) -> CoarsenedSlide | None:
    """Coarsen a slide, so that its spots become the pixels of fewer, larger spots.

    Spots on a square lattice are joined in 2 x 2 blocks. Spots on a hexagonal lattice are joined in 2 x 2 rhombi of one
    of three orientations, or in triangles of three, or in hexagons of seven. Irregular spots are joined in square bins
    of twice the pitch. Of all possible groupings the one with most complete groups is used; the seed breaks ties. Only
    complete groups are targets with pixels, unless they have less than a quarter of the spots. Other groups that are at
    least half full serve as neighbors.

    Parameters
    ----------
    centers
        Spot centers, shape (N, 2).
    counts
        Counts, CSR, shape (N, G).
    lattice
        Lattice of the spots; None to detect it.
    scheme
        Grouping of hexagonal lattices: "rhombi" (4 members), "trimers" (3) or "heptamers" (7).
    seed
        Seed that chooses the orientation and breaks ties.
    variant
        Rank of the grouping: 0 for the one with most complete groups, 1 for the next best, and so on. There are four
        groupings in blocks and rhombi, three in trimers, seven in heptamers, and any number for irregular spots.

    Returns
    -------
    CoarsenedSlide or None
        None if fewer than two groups are targets, or if there are not so many variants.

    Raises
    ------
    SettingsError
        The scheme is invalid.
    """
    if scheme not in _HEX_SCHEMES:
        raise invalid_choice("scheme", scheme, _HEX_SCHEMES)
    centers = np.asarray(centers, dtype=float)
    if len(centers) < 4:
        return None
    lattice = lattice or detect_lattice(centers)
    rng = np.random.default_rng(seed)
    if lattice.kind == "irregular" or not np.isfinite(lattice.misfit):
        for _ in range(variant):
            rng.uniform(size=3)  # another angle and offset for each variant
        groups = _bin_irregular(centers, lattice.pitch, rng)
    else:
        frame = lattice_frame(centers, lattice)
        groupings = _ranked_groupings(frame, lattice.kind == "hex", scheme, rng)
        if variant >= len(groupings):
            return None
        groups = _groups_on_lattice(centers, frame, lattice.kind == "hex", groupings[variant])
    return _assemble(centers, counts, groups)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Groups:
    """Groups of spots.

    Parameters
    ----------
    group
        Group of each spot, shape (N,).
    positions
        Center of each group, shape (M, 2).
    is_target, is_neighbor
        Which groups get pixels, and which others serve as neighbors, shape (M,) each.
    scale
        Factor of each group's counts, shape (M,).
    pitch
        Distance between neighboring groups.
    """

    group: np.ndarray
    positions: np.ndarray
    is_target: np.ndarray
    is_neighbor: np.ndarray
    scale: np.ndarray
    pitch: float


@dataclass(frozen=True, eq=False)
class _Grouping:
    """One way to group the spots of a lattice.

    Parameters
    ----------
    anchors
        Anchor node of each group, shape (M, 2).
    group
        Group of each spot, shape (N,).
    n_members
        Number of occupied nodes of each group, shape (M,).
    size
        Number of nodes of a complete group.
    middle
        Middle of a complete group relative to its anchor, in nodes, shape (2,).
    """

    anchors: np.ndarray
    group: np.ndarray
    n_members: np.ndarray
    size: int
    middle: np.ndarray


def _ranked_groupings(
    frame: LatticeFrame, hexagonal: bool, scheme: HexScheme, rng: np.random.Generator
) -> list[_Grouping]:
    """Return all groupings, those with most complete groups first, ties in random order."""
    groupings, scores = [], []
    options = list(_anchor_nodes(frame.nodes, hexagonal, scheme, rng))
    for i in rng.permutation(len(options)):
        anchor, size, middle = options[i]
        anchors, group = np.unique(anchor, axis=0, return_inverse=True)
        group = group.ravel()
        n_members = _count_occupied_nodes(frame.nodes, group, len(anchors))
        scores.append(np.sum(n_members == size) + np.sum(n_members) / (size * len(group) + 1))
        groupings.append(_Grouping(anchors, group, n_members, size, middle))
    return [groupings[i] for i in sorted(range(len(groupings)), key=lambda i: -scores[i])]


def _groups_on_lattice(centers: np.ndarray, frame: LatticeFrame, hexagonal: bool, grouping: _Grouping) -> _Groups:
    """Decide position, role and scale of the groups of a grouping."""
    n_members, size = grouping.n_members, grouping.size
    mean = _group_means(centers, grouping.group, len(grouping.anchors))
    is_complete = n_members == size
    # The counts of an incomplete group are scaled up to a complete one, so its position is the middle of that.
    positions = np.where(is_complete[:, None], mean, frame.to_positions(grouping.anchors + grouping.middle))
    area = abs(np.linalg.det(frame.basis)) * (2 / np.sqrt(3) if hexagonal else 1.0)
    is_target = is_complete
    if is_complete[grouping.group].mean() < _MIN_COMPLETE_SHARE:
        is_target = n_members >= max(2, size / 2)
    return _Groups(
        group=grouping.group,
        positions=positions,
        is_target=is_target,
        is_neighbor=n_members >= size / 2,
        scale=size / n_members,
        pitch=np.sqrt(area * size),
    )


def _anchor_nodes(
    nodes: np.ndarray, hexagonal: bool, scheme: HexScheme, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Yield for each grouping the anchor node of every spot's group (N, 2), the group size, and the group's middle."""
    if hexagonal and scheme == "heptamers":
        # i + 5 j (mod 7) is 0 at the middle of a heptamer and differs among its seven members.
        members = np.array([[0, 0], [1, 0], [0, -1], [1, -1], [-1, 1], [0, 1], [-1, 0]])
        for phase in range(7):
            yield nodes - members[(nodes @ [1, 5] + phase) % 7], 7, np.zeros(2)
    elif hexagonal and scheme == "trimers":
        side = rng.choice([1, -1])  # triangles point up or down
        members = side * np.array([[0, 0], [1, 0], [0, 1]])
        for phase in range(3):
            yield nodes - members[(side * (nodes @ [1, -1]) + phase) % 3], 3, members.mean(axis=0)
    else:
        # A hexagonal lattice has three pairs of axes that are 60 degrees apart; this rotation maps one to the next.
        rotation = (
            np.linalg.matrix_power(np.array([[1, -1], [1, 0]]), rng.integers(3)) if hexagonal else np.eye(2, dtype=int)
        )
        inverse = np.rint(np.linalg.inv(rotation)).astype(np.int64)
        rotated = nodes @ rotation
        for shift in ([0, 0], [0, 1], [1, 0], [1, 1]):
            anchor = rotated - (rotated + shift) % 2
            yield anchor @ inverse, 4, np.array([0.5, 0.5]) @ inverse


def _count_occupied_nodes(nodes: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Count the distinct nodes of each group, because two spots at one node do not complete a group."""
    distinct = np.unique(np.column_stack([group, nodes]), axis=0)
    return np.bincount(distinct[:, 0], minlength=n_groups)


def _group_means(centers: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    size = np.bincount(group, minlength=n_groups)
    sums = [np.bincount(group, weights=centers[:, d], minlength=n_groups) for d in (0, 1)]
    return np.column_stack(sums) / size[:, None]


def _bin_irregular(centers: np.ndarray, pitch: float, rng: np.random.Generator) -> _Groups:
    """Group irregular spots in square bins; nothing is scaled, because their density varies anyway."""
    angle, side = rng.uniform(0, np.pi / 2), 2 * pitch
    basis = lattice_vectors(side, angle, hexagonal=False)
    bins = np.floor((centers - centers.mean(axis=0)) @ np.linalg.inv(basis) + rng.uniform(size=2)).astype(np.int64)
    distinct_bins, group = np.unique(bins, axis=0, return_inverse=True)
    group, n_groups = group.ravel(), len(distinct_bins)
    return _Groups(
        group=group,
        positions=_group_means(centers, group, n_groups),
        is_target=np.bincount(group, minlength=n_groups) >= 2,
        is_neighbor=np.ones(n_groups, dtype=bool),
        scale=np.ones(n_groups),
        pitch=side,
    )


def _assemble(centers: np.ndarray, counts: sparse.csr_matrix, groups: _Groups) -> CoarsenedSlide | None:
    """Build the coarsened slide of groups; None if fewer than two of them are targets."""
    if groups.is_target.sum() < 2:
        return None
    is_spot = groups.is_neighbor | groups.is_target
    number = np.cumsum(is_spot) - 1  # index among the groups that become spots
    used = np.flatnonzero(groups.is_target[groups.group])
    members = np.flatnonzero(is_spot[groups.group])
    of_member = groups.group[members]
    weights = sparse.csr_matrix(
        (groups.scale[of_member], (number[of_member], members)), shape=(int(is_spot.sum()), len(centers))
    )
    origin = groups.positions[is_spot].min(axis=0)
    # A shift of the slide changes the last digits of fitted positions; equal distances to neighbors must stay equal.
    grain = 2.0 ** np.floor(np.log2(groups.pitch) - 24)
    spots, pixels = (
        np.rint((positions - origin) / grain) * grain for positions in (groups.positions[is_spot], centers[used])
    )
    return CoarsenedSlide(
        layout=SpotPixelMap(spots=spots, pixels=pixels, parent=number[groups.group[used]], pitch=float(groups.pitch)),
        counts=sparse.csr_matrix(weights @ counts, dtype=np.float32),
        truth=sparse.csr_matrix(counts[used], dtype=np.float32),
        used=used,
    )
