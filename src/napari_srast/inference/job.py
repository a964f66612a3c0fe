"""What is to be split, and what comes of it.

Shape legend: N spots, G genes, Q pixels, F genes of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import SlideImage, columns_of
from napari_srast.errors import Cancelled
from napari_srast.geometry.lattice import Lattice
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.allocation import CountAllocator

if TYPE_CHECKING:
    pass

__all__ = [
    "InferenceReport",
    "UpsampleJob",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class InferenceReport:
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
class UpsampleJob:
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
    layout: SpotPixelMap
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
    def assembler(self) -> CountAllocator:
        """What turns ratios of the chosen genes into counts."""
        return CountAllocator(mode=self.settings.mode, seed=self.settings.seed, genes=self.genes[self.columns])

    def check_stop(self) -> None:
        """Raise Cancelled if the stop token says so."""
        if self.should_stop is not None and self.should_stop():
            raise Cancelled
