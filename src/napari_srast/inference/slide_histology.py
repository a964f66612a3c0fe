"""Fit the histology of a slide: the part of the image expert that depends neither on the pixels nor on the genes.

Shape legend: N spots, Q pixels, F fields.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_srast.calibration.holdout import CoarseSlide
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.core.slide import SlideImage
from napari_srast.histology import (
    FeatureMap,
    ImageExpert,
    ImagePredictor,
    PixelImageEvidence,
    fit_image_expert,
    fit_image_predictor,
)
from napari_srast.histology.disaggregation import DisaggregationModel
from napari_srast.histology.features import FeatureLayer
from napari_srast.histology.offset import OffsetEstimate, estimate_offset
from napari_srast.histology.predictor import ImageWeights
from napari_srast.histology.streaming_statistics import image_digest
from napari_srast.inference.fit_cache import FitMemory, digest_of
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.slide_intensity import measured_area

__all__ = ["CoarseImage", "SlideHistology", "fit_slide_histology"]

_MAX_CACHED = 2  # of each image; they are forgotten with the image


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseImage:
    """Predictor of a coarsened slide, fitted to its spots, and the evidence in its pixels.

    Parameters
    ----------
    predictor
        The predictor.
    evidence
        Its evidence in the pixels of the coarsened slide.
    """

    predictor: ImagePredictor
    evidence: PixelImageEvidence

    @classmethod
    def fit(
        cls,
        slide: CoarseSlide,
        image: SlideImage,
        features: FeatureMap,
        shift: np.ndarray,
        *,
        seed: int,
        monitor: RunMonitor = NO_MONITOR,
    ) -> CoarseImage | None:
        """Fit the predictor with features that are already extracted; None if the image is uninformative."""
        layout = slide.experts.layout
        centers = layout.spots + slide.origin
        extractor = _ExtractedFeatures(features)
        expert = fit_image_expert(slide.counts, centers, layout.pitch, image, extractor=extractor, seed=seed)
        if not expert.informative:
            return None
        predictor = fit_image_predictor(expert, slide.counts, shift, layout.pitch**2, monitor)
        return cls(predictor=predictor, evidence=predictor.predict(layout))


@dataclass(frozen=True, eq=False)
class _ExtractedFeatures:
    """Extractor of given features: reading the image again would cost more than it improves."""

    features: FeatureMap
    name: str = "known"

    def extract(self, image: SlideImage, spots: np.ndarray, pitch: float) -> FeatureMap:
        return self.features


@dataclass(frozen=True, kw_only=True, eq=False)
class SlideHistology:
    """Evidence of a slide's image, for any pixels.

    Parameters
    ----------
    kind
        Kind of the image; see :class:`~napari_srast.histology.features.FeatureMap`.
    covered_fraction
        Fraction of the spots that are on the image.
    offset
        Where the image fits the counts best.
    predictor
        Predictor of pixels; None if the image may not be used.
    coarse
        Image of each coarsened slide; None where its spots are uninformative.
    """

    kind: str
    covered_fraction: float
    offset: OffsetEstimate
    predictor: ImagePredictor | None = None
    coarse: tuple[CoarseImage | None, ...] = ()


_STORED = (SlideHistology, OffsetEstimate, CoarseImage, ImagePredictor, PixelImageEvidence)
_STORED_PARTS = (DisaggregationModel, FeatureMap, FeatureLayer, ImageWeights)
_memory: weakref.WeakKeyDictionary[SlideImage, FitMemory[SlideHistology]] = weakref.WeakKeyDictionary()


def fit_slide_histology(job: UpsampleJob, coarse: Sequence[CoarseSlide]) -> SlideHistology:
    """Fit the histology of a job's slide, or return the fit of an earlier job.

    Parameters
    ----------
    job
        A job with an image.
    coarse
        Coarsened slides on which genes will be scored.

    Raises
    ------
    InputError
        The image does not cover the spots.
    """
    assert job.image is not None
    image, spots, pitch = job.image, job.centers, job.lattice.pitch
    memory = _memory.setdefault(image, FitMemory((*_STORED, *_STORED_PARTS), max_fits=_MAX_CACHED))
    area = measured_area(job.spot_area, job.lattice)
    # The embeddings of the coarsened slides play no role, so model and device do not either.
    key = digest_of("histology", job.slide_digest, job.settings.seed, len(coarse), area)
    return memory.get(
        key,
        lambda: _fit(job, coarse, area),
        lambda fitted: fitted,
        file_key=lambda: (job.slide_digest, key, image_digest(image, spots, pitch)),
        cache=job.cache,
        monitor=job.monitor,
    )


def _fit(job: UpsampleJob, coarse: Sequence[CoarseSlide], area: float) -> SlideHistology:
    assert job.image is not None
    expert = fit_image_expert(job.counts, job.centers, job.lattice.pitch, job.image, seed=job.settings.seed)
    job.monitor.check_canceled()
    offset = estimate_offset(expert, job.monitor)
    if not offset.usable:
        return _described(expert, offset)
    shift = np.array(offset.correction)
    predictor = fit_image_predictor(expert, job.counts, shift, area, job.monitor)
    options: dict[str, Any] = {"seed": job.settings.seed, "monitor": job.monitor}
    images = tuple(CoarseImage.fit(slide, job.image, expert.features, shift, **options) for slide in coarse)
    return _described(expert, offset, predictor, images)


def _described(
    expert: ImageExpert,
    offset: OffsetEstimate,
    predictor: ImagePredictor | None = None,
    coarse: tuple[CoarseImage | None, ...] = (),
) -> SlideHistology:
    return SlideHistology(
        kind=expert.features.kind,
        covered_fraction=expert.covered_fraction,
        offset=offset,
        predictor=predictor,
        coarse=coarse,
    )
