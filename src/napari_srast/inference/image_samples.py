"""Predict the image's evidence in points that are the same for all regions and genes of a slide."""

from __future__ import annotations

import weakref
from dataclasses import astuple

from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology import ImagePredictor, PixelImageEvidence
from napari_srast.histology.predictor import ImageWeights
from napari_srast.histology.streaming_statistics import image_digest
from napari_srast.inference.fit_cache import FitMemory, digest_of
from napari_srast.inference.job import UpsampleJob

__all__ = ["sample_evidence"]

_MAX_SAMPLES = 3  # of a predictor, in memory; they are forgotten with it
_memory: weakref.WeakKeyDictionary[ImagePredictor, FitMemory[PixelImageEvidence]] = weakref.WeakKeyDictionary()


def sample_evidence(
    job: UpsampleJob, predictor: ImagePredictor, layout: SpotPixelMap, area: float | None = None
) -> PixelImageEvidence:
    """Return the evidence in a sample of points, which is computed once for a slide, and stored in the job's cache.

    Parameters
    ----------
    job
        A job with an image.
    predictor
        Predictor of the image.
    layout, area
        All spots, the points, and the area that a point stands for, as for
        :meth:`~napari_srast.histology.ImagePredictor.predict`.
    """
    assert job.image is not None
    image, spots, pitch = job.image, job.centers, job.lattice.pitch
    memory = _memory.setdefault(predictor, FitMemory((PixelImageEvidence, ImageWeights), max_fits=_MAX_SAMPLES))
    # The features follow from the image, whose hash is in the name of the file.
    key = digest_of(
        "image sample",
        *astuple(predictor.model),
        *(predictor.shift, predictor.centers, predictor.totals, predictor.training_spots, predictor.spot_area),
        *(astuple(predictor.weights), layout.spots, layout.pixels, layout.parent, layout.pitch, area),
    )
    return memory.get(
        key,
        lambda: predictor.predict(layout, area),
        lambda evidence: evidence,
        file_key=lambda: (job.slide_digest, key, image_digest(image, spots, pitch)),
        cache=job.cache,
        monitor=job.monitor,
    )
