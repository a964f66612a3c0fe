"""Define what a run computes and what it reports.

Shape legend: N spots, G genes, F chosen genes, Q pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from napari_srast._utils.matrix_on_disk import release_matrix
from napari_srast.arrays import GeneColumns, GeneNames, PixelMask, SkillByGene, SpotCenters, SpotCounts
from napari_srast.core.expression_factors import ExpressionFactors
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide, SlideImage, check_is_slide, select_columns
from napari_srast.geometry.lattice import Lattice
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.allocation import CountAllocator
from napari_srast.inference.fit_cache import FitCache, digest_of

if TYPE_CHECKING:
    from napari_srast.models.sasa.embedding import SlideEmbedding

__all__ = ["InferenceReport", "ModelProvenance", "UpsampleJob", "UpsampleRequest"]


@dataclass(frozen=True, kw_only=True, eq=False)
class UpsampleRequest:
    """Input of a run.

    Parameters
    ----------
    slide
        The slide.
    region
        Spots inside it are upsampled, with the whole slide as context; None for all spots.
    genes
        Names of the genes; None for all genes.
    settings
        Settings of the run.
    name
        Name of the run; None for one made of date and time.
    """

    slide: Slide
    region: Region | None
    genes: Sequence[str] | None
    settings: UpsampleSettings
    name: str | None = None

    def __post_init__(self) -> None:
        check_is_slide(self.slide)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelProvenance:
    """Device, model and calibration of a run, for its provenance.

    Parameters
    ----------
    device
        The device that computed the network.
    model_sha256
        Checksum of the checkpoint; None for methods without a network.
    calibration
        Calibrated weights as plain values; empty for methods without a network.
    """

    device: str = "cpu"
    model_sha256: str | None = None
    calibration: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class InferenceReport:
    """Description of computed counts.

    Parameters
    ----------
    skill, method
        Skill score in nats per count, and name of the method, of each gene, shape (F,).
    model
        Device, model and calibration.
    warnings
        Warnings for the user, one sentence each.
    skill_is_expected
        Whether the skill is the expected information of the result, instead of a score on the coarsened slide.
    expression_factors
        Factors of the genes without expression; None if there are none.
    """

    skill: SkillByGene
    method: np.ndarray
    model: ModelProvenance
    warnings: tuple[str, ...] = ()
    skill_is_expected: bool = False
    expression_factors: ExpressionFactors | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class UpsampleJob:
    """Input of a method: the slide in canonical order, the pixels to compute, and the settings.

    Parameters
    ----------
    counts, centers
        Counts and centers of all spots, shape (N, G) and (N, 2).
    lattice
        Lattice of the spots.
    layout
        All spots, and the pixels to compute.
    target_pixels
        Which pixels belong to the result, bool, shape (Q,); the others are context.
    columns
        Chosen genes, as columns of ``counts``, shape (F,).
    genes
        Names of all genes, shape (G,).
    settings
        Settings of the run.
    image
        Histology image; None to use counts alone.
    spot_area
        Area that a spot measures, in squared units of ``centers``; None if it is unknown.
    pixel_size
        Side of a pixel, in units of ``centers``; None without pixels.
    monitor
        Receives progress and asks for cancellation.
    fit
        Function that replaces :func:`napari_srast.models.sasa.fitting.fit_sasa` and gives the same bytes. None: no
        replacement.
    n_threads
        Number of tiles to predict at the same time on this computer. None: as many as it has cores and memory for.
    cache
        Disk cache for what is fitted to the slide, which changes no byte. None: no cache.
    stored
        The same counts in the order of the slide, and the row of each spot in them. Spots of a tile are mostly near
        each other in a file, so that fewer pages of it are read. None: tiles read ``counts``.
    """

    counts: SpotCounts
    centers: SpotCenters
    lattice: Lattice
    layout: SpotPixelMap
    target_pixels: PixelMask
    columns: GeneColumns
    genes: GeneNames
    settings: UpsampleSettings
    image: SlideImage | None = None
    spot_area: float | None = None
    pixel_size: float | None = None
    monitor: RunMonitor = NO_MONITOR
    fit: Callable[..., SlideEmbedding] | None = None
    n_threads: int | None = None
    cache: FitCache | None = None
    stored: tuple[SpotCounts, np.ndarray] | None = None
    _digests: list[tuple[Any, ...]] = field(default_factory=list, repr=False)  # also of the copies of a job

    @property
    def slide_digest(self) -> str:
        """Hash of counts, centers and lattice; computed once for a job and its copies."""
        for counts, centers, lattice, digest in self._digests:
            if counts is self.counts and centers is self.centers and lattice is self.lattice:
                return str(digest)
        digest = digest_of(self.counts.indptr, self.counts.indices, self.counts.data, self.centers, self.lattice)
        self._digests.append((self.counts, self.centers, self.lattice, digest))
        return digest

    def select_counts(self, spots: np.ndarray | None = None) -> sparse.csr_matrix:
        """Return counts of the chosen genes in some spots, shape (n, F); of all spots without a copy if possible."""
        if spots is None:
            return select_columns(self.counts, self.columns)
        counts, order = (self.counts, None) if self.stored is None else self.stored
        return select_columns(counts[spots if order is None else order[spots]], self.columns)

    def release_counts(self) -> None:
        """Return the pages of counts that are in a scratch file to the system."""
        release_matrix(self.counts)
        if self.stored is not None:
            release_matrix(self.stored[0])

    @property
    def allocator(self) -> CountAllocator:
        """Allocator of the chosen genes' counts to pixels."""
        return CountAllocator(mode=self.settings.mode, seed=self.settings.seed, genes=self.genes[self.columns])
