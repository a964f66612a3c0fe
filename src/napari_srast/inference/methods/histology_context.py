"""The histology of a job: learned from once, checked, and looked at in all wanted pixels.

Shape legend: N spots, Q pixels, F fields, P components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast.calibration.holdout import CoarseSlide
from napari_srast.core.slide import SlideImage
from napari_srast.errors import InputError
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology import FeatureMap, ImageExpert, PixelImageEvidence, fit_image_expert
from napari_srast.histology.offset import estimate_offset
from napari_srast.histology.pooling import WEIGHTS
from napari_srast.inference.job import UpsampleJob

__all__ = ["HistologyContext", "image_of"]


_WHOLE = 0.98  # share of the spots from which an image counts as lying under all of them
_LEAST = float(np.log(1e-9))  # log ratio in the check: a count on bare glass is costly, not impossible


@dataclass(frozen=True, kw_only=True, eq=False)
class HistologyContext:
    """The histology of a job.

    Parameters
    ----------
    expert
        What it tells; None where it is not used.
    layout
        All spots and the wanted pixels.
    local
        That in all wanted pixels; None where it is not used.
    record
        For the provenance.
    notices
        For the user.
    coarse
        What it tells on each coarsened slide, learned from the coarse spots alone; None where that is nothing.
    """

    expert: ImageExpert | None = None
    layout: SpotPixelMap | None = None
    local: PixelImageEvidence | None = None
    record: dict[str, Any] | None = None
    notices: tuple[str, ...] = ()
    coarse: tuple[_CoarseImage | None, ...] = ()

    def refine(self, number: int, log_ratios: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Give the pool on a coarsened slide (Q, F) the image's part; a :data:`napari_srast.calibration.holdout.LogRatioAdjustment`.

        So a gene's skill and fall-back know of the image as far as an image is learned from the coarse spots alone:
        what the check compares with, the counts of their parts, plays no role in that.
        """
        told = self.coarse[number] if self.coarse else None
        if told is None:
            return log_ratios
        return np.maximum(told.local.added_to(log_ratios, told.expert.slopes(counts), told.layout), _LEAST)

    def recorded(self, slopes: np.ndarray | None, totals: np.ndarray) -> dict[str, Any] | None:
        """Return the record with the nats per count that the image expects to bring to each chosen gene, and overall.

        Parameters
        ----------
        slopes
            Of the chosen genes, shape (P - 1, G); None where the image is not used.
        totals
            All counts of each, shape (G,).
        """
        if self.record is None or self.expert is None or self.local is None or self.layout is None or slopes is None:
            return self.record
        nats = self.local.expected_nats(slopes, self.expert.totals, self.layout)
        mean = float(np.average(nats, weights=totals)) if totals.sum() > 0 else 0.0
        # A list in the order of the genes: as keys, names with slashes and 20,000 of them would trouble file formats.
        return self.record | {"nats_expected": round(mean, 5), "nats_expected_by_gene": np.round(nats, 5).tolist()}

    def slopes(self, fields: sparse.csr_matrix | np.ndarray) -> np.ndarray | None:
        """Return the slopes of fields of all spots (N, F), shape (P - 1, F); None where the image is not used."""
        return None if self.expert is None else self.expert.slopes(fields).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class _CoarseImage:
    """The histology of a coarsened slide: learned from its spots, looked at in its pixels."""

    layout: SpotPixelMap
    expert: ImageExpert
    local: PixelImageEvidence

    @classmethod
    def of(cls, slide: CoarseSlide, image: SlideImage, features: FeatureMap, seed: int) -> _CoarseImage | None:
        """Learn with features that are known already; None where the coarse spots do not bear the image out."""
        layout = slide.experts.layout
        centers = layout.spots + slide.origin
        expert = fit_image_expert(slide.counts, centers, layout.pitch, image, extractor=_Known(features), seed=seed)
        return cls(layout=layout, expert=expert, local=expert.on(layout)) if expert.informative else None


@dataclass(frozen=True, eq=False)
class _Known:
    """Features that were extracted before; reading the image again would cost more than the few that differ."""

    features: FeatureMap
    name: str = "known"

    def extract(self, image: SlideImage, spots: np.ndarray, pitch: float) -> FeatureMap:
        return self.features


def image_of(job: UpsampleJob, coarse: Sequence[CoarseSlide] = ()) -> HistologyContext:
    """Learn from the histology, check where it lies, and look at it; a job without one has nothing to say.

    Parameters
    ----------
    job
        With its image.
    coarse
        The slide coarsened once, on which genes will be checked.
    """
    if job.image is None:
        return HistologyContext()
    try:
        expert = fit_image_expert(job.counts, job.centers, job.lattice.pitch, job.image, seed=job.settings.seed)
    except InputError as error:  # the counts can be split without it
        return HistologyContext(record={"name": job.image.name, "used": False}, notices=(str(error),))
    job.check_stop()
    registration = estimate_offset(expert, job.should_stop)
    notice = registration.notice(job.image.name)
    record = {
        "name": job.image.name,
        "kind": expert.features.kind,
        "covered": round(expert.covered, 4),
        "used": registration.trusted,
        "weights": list(WEIGHTS) if registration.trusted else [0.0] * len(WEIGHTS),
        "evidence": round(registration.evidence, 3),
        "offset": [round(float(o), 6) for o in registration.offset],
        "offset_pitches": round(registration.offset_pitches, 4),
        "evidence_at_offset": round(registration.best, 3),
    }
    notices: tuple[str, ...] = () if notice is None else (notice,)
    if not registration.trusted:
        return HistologyContext(record=record, notices=notices)
    if expert.covered < _WHOLE:
        part = f"{expert.covered:.0%}"
        notices += (f"The image '{job.image.name}' lies under {part} of the spots; beside it the counts alone decide.",)
    layout = job.layout
    wanted = SpotPixelMap(
        spots=layout.spots, pixels=layout.pixels[job.inner], parent=layout.parent[job.inner], pitch=layout.pitch
    )
    return HistologyContext(
        expert=expert,
        layout=wanted,
        local=expert.on(wanted),
        record=record,
        notices=notices,
        coarse=tuple(_CoarseImage.of(slide, job.image, expert.features, job.settings.seed) for slide in coarse),
    )
