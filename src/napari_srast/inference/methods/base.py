"""A method that is ready to split: what an interpolation and SASA + PCFM have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.tiles import Tile

if TYPE_CHECKING:
    from napari_srast.histology import PixelImageEvidence
    from napari_srast.models.sasa.embedding import SlideEmbedding, SpotEmbedding

__all__ = ["Block", "PreparedMethod", "TileInput", "TilePredictor"]

Block = tuple[sparse.csc_matrix | sparse.csr_matrix, sparse.csc_matrix | None]
"""Counts and, in sample mode, standard deviations of a unit's pixels and a block of genes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TileInput:
    """A unit with everything of the slide that splitting it takes, so that it can be sent to another computer.

    Parameters
    ----------
    unit
        Spots and pixels.
    counts
        Counts of the chosen genes; of all its spots, shape (n, G), or only of those that it holds (see
        :attr:`TilePredictor.own_counts_only`).
    features
        Of its spots; None for interpolations.
    fields
        What else the splitter looks at in each spot, such as counts by program, shape (n, C); None for nothing.
    image
        What the histology says in its pixels; None without.
    """

    unit: Tile
    counts: sparse.csr_matrix
    features: SpotEmbedding | None
    fields: np.ndarray | None
    image: PixelImageEvidence | None = None

    def halves(self, own_counts_only: bool) -> list[TileInput]:
        """Return it in two halves."""
        return [
            replace(
                self,
                unit=half,
                counts=self.counts[np.isin(self.unit.own, half.own)] if own_counts_only else self.counts,
                image=None if self.image is None else self.image.at(np.isin(self.unit.rows, half.rows)),
            )
            for half in self.unit.halves()
        ]


class TilePredictor(ABC):
    """What is the same for all units of a run; it can be pickled.

    Attributes
    ----------
    own_counts_only
        Whether it looks at the counts of the spots that a unit holds, and not at those around.
    """

    own_counts_only = False

    @abstractmethod
    def open(self, packed: TileInput, should_stop: Callable[[], bool] | None) -> Callable[[slice], Block]:
        """Return the function that splits a block of the chosen genes in a unit."""

    @abstractmethod
    def blocks(self, n_pixels: int) -> list[slice]:
        """Return the blocks of genes in which a unit of so many pixels is split."""

    def on(self, device: str) -> TilePredictor:
        """Return the same, computing on another device; others may still use this one."""
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedMethod:
    """A method that is ready to split.

    Parameters
    ----------
    splitter
        Splits units.
    skill, method
        Per gene, shape (G,).
    features
        Of all spots; None for interpolations.
    fields
        The same of all spots, shape (N, C), or None.
    image
        What the histology says in all wanted pixels; None without.
    notices
        What the user is to know, one sentence each.
    record
        Device, checksum and calibration, as fields of :class:`InferenceReport`.
    """

    splitter: TilePredictor
    skill: np.ndarray
    method: np.ndarray
    features: SlideEmbedding | None = None
    fields: np.ndarray | None = None
    image: PixelImageEvidence | None = None
    notices: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)

    def pack(self, job: UpsampleJob, unit: Tile) -> TileInput:
        """Gather what splitting a unit takes."""
        rows = unit.spots[unit.own] if self.splitter.own_counts_only else unit.spots
        return TileInput(
            unit=unit,
            counts=job.chosen(rows),
            features=None if self.features is None else self.features.at(unit.spots),
            fields=None if self.fields is None else self.fields[unit.spots],
            image=None if self.image is None else self.image.at(unit.rows),
        )
