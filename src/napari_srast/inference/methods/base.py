"""Define the interface of methods: a prepared method predicts the counts of tiles.

Shape legend: N spots of the slide, n spots of a tile and around it, G genes, C columns of spot fields, q pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from napari_srast.arrays import SkillByGene
from napari_srast.core.progress import RunMonitor
from napari_srast.inference.job import ModelProvenance, UpsampleJob
from napari_srast.inference.tiles import Tile

if TYPE_CHECKING:
    from napari_srast.histology import ImagePredictor, PixelImageEvidence
    from napari_srast.models.intensity import FittedIntensity, PixelIntensity
    from napari_srast.models.sasa.embedding import SlideEmbedding, SpotEmbedding

__all__ = ["Block", "PreparedMethod", "TileInput", "TilePredictor"]

Block = tuple[sparse.csc_matrix | sparse.csr_matrix, sparse.csc_matrix | None]
"""Counts and, in mode "sample", standard deviations of a tile's pixels and a block of genes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TileInput:
    """A tile with all data of the slide that its prediction needs, so that it can be sent to another computer.

    Parameters
    ----------
    tile
        Spots and pixels.
    counts
        Counts of the chosen genes: of all the tile's spots, shape (n, G), or of its core spots only (see
        :attr:`TilePredictor.core_counts_only`).
    embedding
        SASA features of the spots; None for interpolations.
    fields
        Other columns that the predictor reads for each spot, such as counts by program, shape (n, C), or None.
    image
        Evidence of the histology in the pixels; None without.
    intensity
        Fields of the intensity in all the tile's spots, shape (n, fields); None if the predictor does not use it.
    pixel_intensity
        The intensity in the pixels, if it was computed before.
    shift
        Shift of the log ratios by the totals, if it was computed before, shape (q,).
    """

    tile: Tile
    counts: sparse.csr_matrix
    embedding: SpotEmbedding | None
    fields: np.ndarray | None
    image: PixelImageEvidence | None = None
    intensity: np.ndarray | None = None
    pixel_intensity: PixelIntensity | None = None
    shift: np.ndarray | None = None

    def halves(self, core_counts_only: bool) -> list[TileInput]:
        """Return the input of both halves of the tile.

        Parameters
        ----------
        core_counts_only
            Whether ``counts`` has the core spots only.
        """
        return [
            replace(
                self,
                tile=half,
                pixel_intensity=None,
                shift=None,
                counts=self.counts[np.isin(self.tile.core_spots, half.core_spots)] if core_counts_only else self.counts,
                image=None if self.image is None else self.image.select_pixels(np.isin(self.tile.rows, half.rows)),
            )
            for half in self.tile.halves()
        ]


class TilePredictor(ABC):
    """Everything that all tiles of a run share; it can be pickled.

    Attributes
    ----------
    core_counts_only
        Whether the prediction reads the counts of a tile's core spots only.
    """

    core_counts_only = False

    @abstractmethod
    def bind(self, tile_input: TileInput, monitor: RunMonitor) -> Callable[[slice], Block]:
        """Return the function that predicts a block of the chosen genes in a tile."""

    @abstractmethod
    def blocks(self, n_pixels: int) -> list[slice]:
        """Return the blocks of genes in which a tile of ``n_pixels`` pixels is predicted."""

    def to_device(self, device: str) -> TilePredictor:
        """Return a predictor that computes on another device; this one stays usable."""
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedMethod:
    """A method that is ready to predict tiles.

    Parameters
    ----------
    predictor
        Predicts tiles.
    skill, method
        Skill score in nats per count, and name of the method, of each gene, shape (G,).
    embedding
        SASA features of all spots; None for interpolations.
    fields
        Other columns that the predictor reads for each spot, shape (N, C), or None.
    image
        Evidence of the histology in all pixels of the result; None without.
    image_predictor
        Predictor of that evidence, which can predict other points, too; None without.
    intensity
        Intensity of the slide; None if the predictor does not use it.
    warnings
        Warnings for the user, one sentence each.
    model
        Device, model and calibration.
    skill_is_expected
        Whether the skill is the expected information of the result, instead of ``skill``.
    """

    predictor: TilePredictor
    skill: SkillByGene
    method: np.ndarray
    embedding: SlideEmbedding | None = None
    fields: np.ndarray | None = None
    image: PixelImageEvidence | None = None
    image_predictor: ImagePredictor | None = None
    intensity: FittedIntensity | None = None
    warnings: tuple[str, ...] = ()
    model: ModelProvenance = field(default_factory=ModelProvenance)
    skill_is_expected: bool = False

    def tile_input(self, job: UpsampleJob, tile: Tile) -> TileInput:
        """Collect the data that the prediction of a tile needs."""
        count_spots = tile.spots[tile.core_spots] if self.predictor.core_counts_only else tile.spots
        return TileInput(
            tile=tile,
            counts=job.select_counts(count_spots),
            embedding=None if self.embedding is None else self.embedding.select_spots(tile.spots),
            fields=None if self.fields is None else self.fields[tile.spots],
            image=None if self.image is None else self.image.select_pixels(tile.rows),
            intensity=None if self.intensity is None else self.intensity.fields[tile.spots],
        )

    def intensity_in(self, tile_input: TileInput) -> PixelIntensity | None:
        """Return the intensity in the pixels of a tile; None if the method does not use it."""
        if self.intensity is None or tile_input.intensity is None:
            return None
        return self.intensity.in_pixels(tile_input.tile.layout, tile_input.intensity)
