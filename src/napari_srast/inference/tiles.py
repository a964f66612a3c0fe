"""Divide a job into fixed tiles: compact groups of spots, each with the context that its prediction needs.

Floating-point sums depend on the shape of what is summed. So that neither the number of workers nor the memory changes
a byte of a result, a job always has the same small tiles, each computed by itself on one thread; the number of workers
only sets how many of them are computed at the same time.

Shape legend: N spots of the slide, n spots of a tile and around it, q pixels of the tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from napari_srast.core.limits import TILE_PIXELS
from napari_srast.geometry.bisection import bisect_points
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import HaloContext
from napari_srast.interpolation.linear import square_frame

__all__ = ["HALO", "Tile", "Tiling", "gene_blocks"]

HALO = 6.0
"""Width of the halo around a tile or a region in pitches: its pixels are smoothed with those inside, so that the border
changes no number."""
_MAX_PIXELS = TILE_PIXELS  # per tile, unless the tile would have fewer than _MIN_SPOTS spots
_MIN_SPOTS = 256
_HARD_MAX_PIXELS = 65_536  # per tile with more than one spot
_INDEX_OF_HALVES = 1_000_003  # more tiles than a job has
_CONTEXT = HALO + 2.0  # pitches around a tile whose spots it contains
_N_NEAREST = 48  # neighbors of every spot that a tile contains, too: more than any method reads
_VALUES_PER_BLOCK = 1_000_000  # pixels x genes that are computed at once in a tile


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """A compact group of spots that is computed at once.

    Parameters
    ----------
    index
        Number of the tile in the job; halves of a tile have numbers of their own.
    spots
        Sorted indices of the tile's core and context spots in the slide, shape (n,).
    layout
        These spots, and the pixels of the core spots.
    halo
        Context of the interpolations.
    rows
        Rows of the pixels in the result, shape (q,).
    """

    index: int
    spots: np.ndarray
    layout: SpotPixelMap
    halo: HaloContext
    rows: np.ndarray

    @cached_property
    def core_spots(self) -> np.ndarray:
        """The spots that own the tile's pixels, as indices into ``spots``."""
        return np.flatnonzero(self.layout.n_pixels_per_spot)

    def halves(self) -> list[Tile]:
        """Return two tiles with half of the core spots each."""
        max_spots = (len(self.core_spots) + 1) // 2
        groups = bisect_points(self.layout.spots, lambda group: len(group) <= max_spots, self.core_spots)
        return [self._restricted_to(group, half) for half, group in enumerate(groups)]

    def _restricted_to(self, core_spots: np.ndarray, half: int) -> Tile:
        extended = self.halo.extended
        kept = np.isin(self.layout.parent, core_spots)
        first = np.flatnonzero(np.concatenate([kept, np.zeros(extended.n_pixels - len(kept), dtype=bool)]))
        order = np.concatenate([first, np.setdiff1d(np.arange(extended.n_pixels), first)])
        return replace(
            self,
            index=(self.index + 1) * _INDEX_OF_HALVES + half,  # it seeds the samples of the flow
            layout=_select_pixels(self.layout, np.flatnonzero(kept)),
            halo=replace(self.halo, extended=_select_pixels(extended, order)),
            rows=self.rows[kept],
        )


class Tiling:
    """Divide a layout into tiles; each is made on request.

    Parameters
    ----------
    layout
        All spots of the slide, and the pixels to compute.
    target_pixels
        Which of these pixels belong to the result, bool; the others are context.
    """

    def __init__(self, layout: SpotPixelMap, target_pixels: np.ndarray) -> None:
        self._layout = layout
        self._target_pixels = target_pixels
        self._row = np.cumsum(target_pixels) - 1
        n_targets = np.bincount(layout.parent[target_pixels], minlength=layout.n_spots)
        self.groups = bisect_points(layout.spots, _fits_one_tile(n_targets), np.flatnonzero(n_targets))
        self.n_pixels = [int(n_targets[group].sum()) for group in self.groups]
        self._by_spot = np.argsort(layout.parent, kind="stable")
        self._first = np.concatenate([[0], np.cumsum(layout.n_pixels_per_spot)])

    @cached_property
    def order(self) -> list[int]:
        """The tiles in the order of their first pixels in the result, so that it can be written as they come."""
        spots, first = np.unique(self._layout.parent[self._target_pixels], return_index=True)
        first_of = np.zeros(self._layout.n_spots, dtype=np.int64)
        first_of[spots] = first
        return np.argsort([first_of[group].min() for group in self.groups], kind="stable").tolist()

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self._layout.spots)

    @cached_property
    def _slide_halo(self) -> HaloContext:
        """The part of the interpolations' context that all tiles share."""
        layout = self._layout
        max_pixels = int(layout.n_pixels_per_spot.max(initial=1))
        return HaloContext(extended=layout, frame=square_frame(layout), max_pixels_per_spot=max_pixels)

    def tile(self, index: int) -> Tile:
        """Make a tile."""
        layout, group = self._layout, self.groups[index]
        centers = layout.spots[group]
        reach = _CONTEXT * layout.pitch
        low, high = centers.min(axis=0) - reach, centers.max(axis=0) + reach
        around = np.flatnonzero(((layout.spots >= low) & (layout.spots <= high)).all(axis=1))
        distance, _ = cKDTree(centers).query(layout.spots[around])
        _, nearest = self._tree.query(centers, k=np.arange(1, min(_N_NEAREST, layout.n_spots) + 1))
        spots = np.union1d(around[distance <= reach], nearest)
        pixels = self._pixels_of(group)
        pixels = pixels[self._target_pixels[pixels]]
        halo_pixels = self._pixels_of(np.setdiff1d(around[distance <= HALO * layout.pitch], group))
        extended = self._part(spots, np.concatenate([pixels, halo_pixels]))
        return Tile(
            index=index,
            spots=spots,
            layout=_select_pixels(extended, np.arange(len(pixels))),
            halo=replace(self._slide_halo, extended=extended),
            rows=self._row[pixels],
        )

    def _pixels_of(self, spots: np.ndarray) -> np.ndarray:
        """Return the sorted indices of the pixels of some spots."""
        first, last = self._first[spots], self._first[spots + 1]
        n_pixels = last - first
        offset = np.repeat(first - np.cumsum(n_pixels) + n_pixels, n_pixels)
        return np.sort(self._by_spot[np.arange(n_pixels.sum()) + offset])

    def _part(self, spots: np.ndarray, pixels: np.ndarray) -> SpotPixelMap:
        layout = self._layout
        parent = np.searchsorted(spots, layout.parent[pixels])
        return SpotPixelMap(spots=layout.spots[spots], pixels=layout.pixels[pixels], parent=parent, pitch=layout.pitch)


def _fits_one_tile(n_targets: np.ndarray) -> Callable[[np.ndarray], bool]:
    """Return a function that decides whether a group of spots, with ``n_targets`` pixels each, fits one tile."""

    def fits(group: np.ndarray) -> bool:
        n_pixels = n_targets[group].sum()
        return bool(n_pixels <= _MAX_PIXELS or (len(group) <= _MIN_SPOTS and n_pixels <= _HARD_MAX_PIXELS))

    return fits


def _select_pixels(layout: SpotPixelMap, pixels: np.ndarray) -> SpotPixelMap:
    return SpotPixelMap(
        spots=layout.spots, pixels=layout.pixels[pixels], parent=layout.parent[pixels], pitch=layout.pitch
    )


def gene_blocks(n_genes: int, n_pixels: int) -> list[slice]:
    """Divide genes into blocks that bound the number of dense values; the blocks depend on the sizes alone."""
    size = int(np.clip(_VALUES_PER_BLOCK // max(n_pixels, 1), 1, 256))
    return [slice(start, min(start + size, n_genes)) for start in range(0, n_genes, size)]
