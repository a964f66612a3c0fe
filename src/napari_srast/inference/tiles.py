"""The fixed units that a job is computed in: compact groups of spots with all that they need to know of the rest.

Floating-point sums depend on the shape of what is summed. So that neither the number of workers nor the memory changes
a byte of a result, a job is always cut into the same small units, each computed by itself on one thread; "tile size" is
only how many of them are in work at once.

Shape legend: N spots of the slide, n spots of a unit and around it, Q pixels of the unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from napari_srast.geometry.bisection import bisect_points
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import HaloContext
from napari_srast.interpolation.linear import square_frame

__all__ = ["HALO", "Tile", "Tiling", "blocks"]

HALO = 6.0
"""Pitches around a unit or a region in which pixels are smoothed with it, so that its border changes no number."""
_PIXELS = 8192  # of a unit, unless it then had very few spots
_FEW_SPOTS = 256
_MOST_PIXELS = 65_536
_HALVES_FROM = 1_000_003  # more units than a job has
_CONTEXT = HALO + 2.0  # pitches around a unit whose spots it knows
_NEAREST = 48  # it knows so many neighbors of every spot too: more than any method looks at


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """A compact group of spots that is computed at once.

    Parameters
    ----------
    index
        Its number in the job; that of a half is none of them.
    spots
        The slide's spots that it holds or knows, sorted, shape (n,).
    layout
        These spots, and the pixels of those that it holds.
    surroundings
        For the interpolations.
    rows
        The pixels' rows in the result, shape (Q,).
    """

    index: int
    spots: np.ndarray
    layout: SpotPixelMap
    surroundings: HaloContext
    rows: np.ndarray

    @cached_property
    def own(self) -> np.ndarray:
        """The spots that it holds, as indices into ``spots``."""
        return np.flatnonzero(self.layout.n_pixels_of_spot)

    def halves(self) -> list[Tile]:
        """Return two units that hold half of the spots each."""
        most = (len(self.own) + 1) // 2
        groups = bisect_points(self.layout.spots, lambda g: len(g) <= most, self.own)
        return [self._holding(group, half) for half, group in enumerate(groups)]

    def _holding(self, own: np.ndarray, half: int) -> Tile:
        wide = self.surroundings.wide
        mine = np.isin(self.layout.parent, own)
        first = np.flatnonzero(np.concatenate([mine, np.zeros(wide.n_pixels - len(mine), dtype=bool)]))
        order = np.concatenate([first, np.setdiff1d(np.arange(wide.n_pixels), first)])
        return replace(
            self,
            index=(self.index + 1) * _HALVES_FROM + half,  # samples of the flow are seeded by it
            layout=_some_pixels(self.layout, np.flatnonzero(mine)),
            surroundings=replace(self.surroundings, wide=_some_pixels(wide, order)),
            rows=self.rows[mine],
        )


class Tiling:
    """Cuts a layout into units; each is made when it is asked for.

    Parameters
    ----------
    layout
        All spots of the slide, and the pixels to work on.
    inner
        Which of these pixels are wanted, shape (Q,); the others are context.
    """

    def __init__(self, layout: SpotPixelMap, inner: np.ndarray) -> None:
        self._layout = layout
        self._inner = inner
        self._row = np.cumsum(inner) - 1
        wanted = np.bincount(layout.parent[inner], minlength=layout.n_spots)

        def is_small(group: np.ndarray) -> bool:
            n_pixels = wanted[group].sum()
            return n_pixels <= _PIXELS or (len(group) <= _FEW_SPOTS and n_pixels <= _MOST_PIXELS)

        self.groups = bisect_points(layout.spots, is_small, np.flatnonzero(wanted))
        self.n_pixels = [int(wanted[group].sum()) for group in self.groups]
        self._by_spot = np.argsort(layout.parent, kind="stable")
        self._first = np.concatenate([[0], np.cumsum(layout.n_pixels_of_spot)])

    @cached_property
    def order(self) -> list[int]:
        """The units in the order of their first pixels in the result, so that it can be written as they come."""
        spots, first = np.unique(self._layout.parent[self._inner], return_index=True)
        first_of = np.zeros(self._layout.n_spots, dtype=np.int64)
        first_of[spots] = first
        return np.argsort([first_of[group].min() for group in self.groups], kind="stable").tolist()

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self._layout.spots)

    @cached_property
    def _whole(self) -> HaloContext:
        """What all units share."""
        layout = self._layout
        most = int(layout.n_pixels_of_spot.max(initial=1))
        return HaloContext(wide=layout, frame=square_frame(layout), most_pixels=most)

    def unit(self, index: int) -> Tile:
        """Make a unit."""
        layout, group = self._layout, self.groups[index]
        places = layout.spots[group]
        reach = _CONTEXT * layout.pitch
        low, high = places.min(axis=0) - reach, places.max(axis=0) + reach
        around = np.flatnonzero(((layout.spots >= low) & (layout.spots <= high)).all(axis=1))
        distance, _ = cKDTree(places).query(layout.spots[around])
        _, nearest = self._tree.query(places, k=np.arange(1, min(_NEAREST, layout.n_spots) + 1))
        spots = np.union1d(around[distance <= reach], nearest)
        own = self._pixels_of(group)
        own = own[self._inner[own]]
        halo = self._pixels_of(np.setdiff1d(around[distance <= HALO * layout.pitch], group))
        wide = self._part(spots, np.concatenate([own, halo]))
        return Tile(
            index=index,
            spots=spots,
            layout=_some_pixels(wide, np.arange(len(own))),
            surroundings=replace(self._whole, wide=wide),
            rows=self._row[own],
        )

    def _pixels_of(self, spots: np.ndarray) -> np.ndarray:
        """Return the sorted indices of the pixels of some spots."""
        first, last = self._first[spots], self._first[spots + 1]
        place = np.arange((last - first).sum()) + np.repeat(
            first - np.cumsum(last - first) + (last - first), last - first
        )
        return np.sort(self._by_spot[place])

    def _part(self, spots: np.ndarray, pixels: np.ndarray) -> SpotPixelMap:
        layout = self._layout
        parent = np.searchsorted(spots, layout.parent[pixels])
        return SpotPixelMap(spots=layout.spots[spots], pixels=layout.pixels[pixels], parent=parent, pitch=layout.pitch)


def _some_pixels(layout: SpotPixelMap, pixels: np.ndarray) -> SpotPixelMap:
    return SpotPixelMap(
        spots=layout.spots, pixels=layout.pixels[pixels], parent=layout.parent[pixels], pitch=layout.pitch
    )


def blocks(n_genes: int, n_pixels: int) -> list[slice]:
    """Cut genes into blocks that bound the number of dense values; they depend on the sizes alone."""
    size = int(np.clip(_BLOCK_VALUES // max(n_pixels, 1), 1, 256))
    return [slice(start, min(start + size, n_genes)) for start in range(0, n_genes, size)]


_BLOCK_VALUES = 1_000_000  # pixels x genes in work at once in a unit
