"""What is to be split, and what comes of it.

Shape legend: N spots, G genes, Q pixels, F genes of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from napari_srast.errors import Cancelled
from napari_srast.geometry.lattice import Lattice
from napari_srast.geometry.layout import Layout
from napari_srast.slide import SlideImage, UpsampleSettings, columns_of

if TYPE_CHECKING:
    from napari_srast.models.uncertainty import Concentration

__all__ = ["Assembler", "Job", "Split", "blocks"]

_BLOCK_VALUES = 1_000_000  # pixels x genes in work at once in a unit


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """How upsampled counts came about.

    Parameters
    ----------
    skill, method
        Per gene, shape (G,).
    device, model_sha256, calibration
        For the provenance.
    notices
        What did not go as asked, one sentence each.
    """

    skill: np.ndarray
    method: np.ndarray
    device: str = "cpu"
    model_sha256: str | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


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
    image
        Histology; None to do without.
    should_stop
        Asked before every large step.
    fit
        What fits SASA; the model's own function by default.
    """

    counts: sparse.csr_matrix
    centers: np.ndarray
    lattice: Lattice
    layout: Layout
    inner: np.ndarray
    columns: np.ndarray
    genes: np.ndarray
    settings: UpsampleSettings
    image: SlideImage | None = None
    should_stop: Callable[[], bool] | None = None
    fit: Callable[..., Any] | None = None

    def chosen(self, spots: np.ndarray | slice = slice(None)) -> sparse.csr_matrix:
        """Return counts of the chosen genes in some spots, shape (n, F)."""
        return columns_of(self.counts[spots], self.columns)

    @property
    def assembler(self) -> Assembler:
        """What turns ratios of the chosen genes into counts."""
        return Assembler(mode=self.settings.mode, seed=self.settings.seed, genes=self.genes[self.columns])

    def check_stop(self) -> None:
        """Raise Cancelled if the stop token says so."""
        if self.should_stop is not None and self.should_stop():
            raise Cancelled


@dataclass(frozen=True, kw_only=True, eq=False)
class Assembler:
    """Turns ratios into counts.

    Parameters
    ----------
    mode, seed
        Of the run.
    genes
        Names of its genes, shape (G,).
    concentration
        How true counts scatter around the ratios; None where nothing is known of it, so that they are drawn as if the
        ratios were exact.
    """

    mode: str
    seed: int
    genes: np.ndarray
    concentration: Concentration | None = None

    def counts(
        self, ratios: np.ndarray, counts: np.ndarray, layout: Layout, block: slice, spots: np.ndarray
    ) -> sparse.csc_matrix:
        """Multiply ratios (Q, F) by the spots' counts (N, F); in integer mode draw whole counts.

        Parameters
        ----------
        ratios, counts, layout
            Of a unit.
        block
            Which genes of the run these are.
        spots
            Which spots of the slide these are, shape (N,).
        """
        if self.mode == "integer":
            return self.draw(ratios, counts, layout, block, spots)
        exact = layout.normalise(ratios) * counts[layout.parent]
        return sparse.csc_matrix(exact.astype(np.float32))

    def draw(
        self, ratios: np.ndarray, counts: np.ndarray, layout: Layout, block: slice, spots: np.ndarray
    ) -> sparse.csc_matrix:
        """Draw whole counts of a block of genes; arguments as for :meth:`counts`."""
        from napari_srast.models.draws import DrawKeys, draw_counts

        draw = draw_counts if self.concentration is None else self.concentration.draw
        drawn = draw(ratios, counts, layout, self.seed, keys=DrawKeys.of(self.genes[block], spots))
        return drawn.astype(np.float32)


def blocks(n_genes: int, n_pixels: int) -> list[slice]:
    """Cut genes into blocks that bound the number of dense values; they depend on the sizes alone."""
    size = int(np.clip(_BLOCK_VALUES // max(n_pixels, 1), 1, 256))
    return [slice(start, min(start + size, n_genes)) for start in range(0, n_genes, size)]
