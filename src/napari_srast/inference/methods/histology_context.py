"""Use the histology image of a job: weigh its evidence, estimate its offset, and predict all pixels of the result.

Shape legend: N spots, Q pixels, F fields, G chosen genes, P programs of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast.calibration.holdout import CoarseSlide
from napari_srast.errors import InputError
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology import ImagePredictor, PixelImageEvidence
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.slide_histology import CoarseImage, SlideHistology, fit_slide_histology

__all__ = ["HistologyContext", "fit_histology"]

_FULL_COVER = 0.98  # fraction of the spots from which on an image counts as covering all of them
_MIN_LOG_RATIO = float(np.log(1e-9))  # on the coarsened slide: a count on bare glass is costly, not impossible


@dataclass(frozen=True, kw_only=True, eq=False)
class HistologyContext:
    """Evidence of a job's histology image.

    Parameters
    ----------
    predictor
        Predictor of the image; None if the image is not used.
    layout
        All spots, and the pixels of the result.
    evidence
        Evidence of the image in all pixels of the result; None if the image is not used.
    provenance
        Description of the image's use, as plain values; None without an image.
    warnings
        Warnings for the user, one sentence each.
    coarse
        Layout of each coarsened slide, and the evidence of the image on it, from a model that is fitted to its coarse
        spots alone; None where they are uninformative.
    """

    predictor: ImagePredictor | None = None
    layout: SpotPixelMap | None = None
    evidence: PixelImageEvidence | None = None
    provenance: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    coarse: tuple[tuple[SpotPixelMap, CoarseImage | None], ...] = ()

    def adjust(self, number: int, log_ratios: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Add the evidence of the image to the pool's log ratios on a coarsened slide.

        This is a :data:`napari_srast.calibration.holdout.LogRatioAdjustment`. The skill and the fallback of a gene
        therefore include the image as far as it can be learned from the coarse spots; the held-out counts of their
        pixels play no role in it.

        Parameters
        ----------
        number
            Number of the coarsened slide.
        log_ratios
            Log ratios of its pixels, shape (Q, F).
        counts
            Counts of its spots, shape (N, F).
        """
        layout, image = self.coarse[number] if self.coarse else (None, None)
        if layout is None or image is None:
            return log_ratios
        loadings = image.predictor.field_loadings(counts)
        return np.maximum(image.evidence.pool_with(log_ratios, loadings, layout), _MIN_LOG_RATIO)

    def describe(self, counts: sparse.csr_matrix) -> dict[str, Any]:
        """Return the entry "image" of the provenance, with the expected gain in nats per count; empty without an image.

        Parameters
        ----------
        counts
            Counts of the chosen genes, shape (N, G).
        """
        if self.provenance is None:
            return {}
        loadings, totals = self.loadings(counts), np.asarray(counts.sum(axis=0)).ravel()
        if self.predictor is None or self.evidence is None or self.layout is None or loadings is None:
            return {"image": self.provenance}
        nats = self.evidence.expected_nats(loadings, self.predictor.totals, self.layout)
        mean = float(np.average(nats, weights=totals)) if totals.sum() > 0 else 0.0
        # A list in the order of the genes, because 20,000 keys, some with slashes, are a problem for file formats.
        by_gene = np.round(nats, 5).tolist()
        return {"image": self.provenance | {"nats_expected": round(mean, 5), "nats_expected_by_gene": by_gene}}

    def loadings(self, fields: sparse.csr_matrix | np.ndarray) -> np.ndarray | None:
        """Return the loadings of fields of all spots (N, F), shape (P, F); None if the image is not used."""
        return None if self.predictor is None else self.predictor.field_loadings(fields).astype(np.float32)


def fit_histology(job: UpsampleJob, coarse: Sequence[CoarseSlide] = ()) -> HistologyContext:
    """Fit the image expert of a job and check its alignment; a job without an image gets an empty context.

    Parameters
    ----------
    job
        The job with its image.
    coarse
        Coarsened slides on which genes will be scored.
    """
    if job.image is None:
        return HistologyContext()
    name = job.image.name
    try:
        fitted = fit_slide_histology(job, coarse)
    except InputError as error:  # counts can be upsampled without the image
        return HistologyContext(provenance={"name": name, "used": False}, warnings=(str(error),))
    job.monitor.check_canceled()
    offset, predictor = fitted.offset, fitted.predictor
    warning = offset.warning(name)
    warnings: tuple[str, ...] = () if warning is None else (warning,)
    provenance = _describe(name, fitted)
    if predictor is None:
        return HistologyContext(provenance=provenance, warnings=warnings)
    if fitted.covered_fraction < _FULL_COVER:
        warnings += (
            f"The image '{name}' covers {fitted.covered_fraction:.0%} of the spots; the others are upsampled from "
            "counts alone.",
        )
    target = job.target_pixels
    layout = SpotPixelMap(
        spots=job.layout.spots,
        pixels=job.layout.pixels[target],
        parent=job.layout.parent[target],
        pitch=job.layout.pitch,
    )
    weights = predictor.weights
    return HistologyContext(
        predictor=predictor,
        layout=layout,
        evidence=predictor.predict(layout),
        provenance=provenance
        | {"weights": [weights.totals, weights.composition], "weight_of_others": round(weights.others, 4)},
        warnings=warnings,
        coarse=tuple((slide.experts.layout, one) for slide, one in zip(coarse, fitted.coarse, strict=True)),
    )


def _describe(name: str, fitted: SlideHistology) -> dict[str, Any]:
    """Return plain values for the provenance."""
    offset = fitted.offset
    return {
        "name": name,
        "kind": fitted.kind,
        "covered": round(fitted.covered_fraction, 4),
        "used": offset.usable,
        "weights": [0.0, 0.0],
        "evidence": round(offset.evidence, 3),
        "offset": [round(float(shift), 6) for shift in offset.offset],
        "offset_pitches": round(offset.offset_pitches, 4),
        "evidence_at_offset": round(offset.best_evidence, 3),
        "correction": [round(float(shift), 6) for shift in offset.correction],
    }
