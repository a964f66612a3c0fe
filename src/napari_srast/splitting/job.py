"""What is to be split, the tiles that it is split in, and what comes of it.

Shape legend: N spots, G genes, Q pixels, F genes of a block.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.errors import Cancelled
from napari_srast.geometry.lattice import Lattice
from napari_srast.geometry.layout import Layout
from napari_srast.slide import UpsampleSettings

__all__ = ["HALO", "Job", "Split", "Tile", "blocks", "make_tiles"]

HALO = 4.0
"""Pitches around a region or a tile that are split with it, then left out, so that its border changes no number."""
TILE_PIXELS = 250_000
"""Most pixels of a tile without its halo: they bound the memory of a run."""
_BLOCK_VALUES = 4_000_000  # pixels x genes in work at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Upsampled counts with how they came about.

    Parameters
    ----------
    counts, std
        float32 CSR, shape (Q, G).
    skill, method
        Per gene, shape (G,).
    device, model_sha256, calibration
        For the provenance.
    """

    counts: sparse.csr_matrix
    std: sparse.csr_matrix | None
    skill: np.ndarray
    method: np.ndarray
    device: str = "cpu"
    model_sha256: str | None = None
    calibration: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What is to be split, and how.

    Parameters
    ----------
    counts, centers, lattice
        The whole slide, (N, G) and (N, 2).
    layout
        Its spots, and the pixels to work on.
    inner
        Which of them are wanted, shape (Q,); the others are context.
    columns, genes
        Chosen columns, and the names of all genes.
    settings
        How.
    should_stop
        Asked before every large step.
    """

    counts: sparse.csr_matrix
    centers: np.ndarray
    lattice: Lattice
    layout: Layout
    inner: np.ndarray
    columns: np.ndarray
    genes: np.ndarray
    settings: UpsampleSettings
    should_stop: Callable[[], bool] | None = None

    def check_stop(self) -> None:
        """Raise Cancelled if the stop token says so."""
        if self.should_stop is not None and self.should_stop():
            raise Cancelled

    def dense(self, block: slice) -> np.ndarray:
        """Return counts of a block of the chosen genes, shape (N, F)."""
        return self.counts[:, self.columns[block]].toarray().astype(np.float64)

    def assemble(self, tile: Tile, ratios: np.ndarray, counts: np.ndarray, block: slice) -> sparse.csc_matrix:
        """Multiply ratios (Q, F) by the spots' counts (N, F); in integer mode draw whole counts. Wanted pixels only."""
        layout = tile.layout
        if self.settings.mode == "integer":
            from napari_srast.models.pcfm.sampler import draw_counts

            drawn = [
                draw_counts(ratios[:, [j]], counts[:, [j]], layout, _gene_seed(self.settings.seed, gene))
                for j, gene in enumerate(self.genes[self.columns[block]])
            ]
            return sparse.csc_matrix(np.hstack(drawn)[tile.inner].astype(np.float32))
        exact = layout.normalise(ratios) * counts[layout.parent]
        return sparse.csc_matrix(exact[tile.inner].astype(np.float32))


def _gene_seed(seed: int, gene: str) -> int:
    """Seed a gene's draw by its name, so that it does not depend on the genes that it comes with."""
    return (seed << 32) + zlib.crc32(str(gene).encode())


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """A part of a job's pixels, with the halo that it is split with.

    Parameters
    ----------
    layout
        All spots; the pixels of the tile and its halo.
    inner
        Which of these pixels are the tile's own.
    rows
        Their rows in the result.
    """

    layout: Layout
    inner: np.ndarray
    rows: np.ndarray

    @property
    def spots(self) -> np.ndarray:
        """Indices of the tile's own spots."""
        return np.unique(self.layout.parent[self.inner])


def make_tiles(job: Job, most_pixels: int | None = None) -> list[Tile]:
    """Cut a job into compact groups of spots of at most ``most_pixels`` pixels (:data:`TILE_PIXELS`) each."""
    most_pixels = TILE_PIXELS if most_pixels is None else most_pixels
    layout, wanted = job.layout, np.unique(job.layout.parent[job.inner])
    row = np.cumsum(job.inner) - 1
    if layout.n_pixels_of_spot[wanted].sum() <= most_pixels:
        return [Tile(layout=layout, inner=job.inner, rows=row[job.inner])]
    tiles = []
    for group in _bisect(wanted, layout, most_pixels):
        distance, _ = cKDTree(layout.spots[group]).query(layout.spots)
        keep = distance[layout.parent] <= HALO * layout.pitch
        inner = np.isin(layout.parent[keep], group) & job.inner[keep]
        part = Layout(spots=layout.spots, pixels=layout.pixels[keep], parent=layout.parent[keep], pitch=layout.pitch)
        tiles.append(Tile(layout=part, inner=inner, rows=row[keep][inner]))
    return tiles


def _bisect(spots: np.ndarray, layout: Layout, most_pixels: int) -> list[np.ndarray]:
    """Halve a group of spots across its longer side until it is small enough."""
    if len(spots) == 1 or layout.n_pixels_of_spot[spots].sum() <= most_pixels:
        return [spots]
    places = layout.spots[spots]
    axis = int(np.argmax(np.ptp(places, axis=0)))
    order = spots[np.lexsort((places[:, 1 - axis], places[:, axis]))]
    middle = len(order) // 2
    return [*_bisect(order[:middle], layout, most_pixels), *_bisect(order[middle:], layout, most_pixels)]


def blocks(n_genes: int, n_pixels: int) -> list[slice]:
    """Cut genes into blocks that bound the number of dense values."""
    size = int(np.clip(_BLOCK_VALUES // max(n_pixels, 1), 1, 256))
    return [slice(start, min(start + size, n_genes)) for start in range(0, n_genes, size)]
