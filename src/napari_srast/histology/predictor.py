"""Predict how the image spreads the counts of each spot over its pixels, and pool it with the other experts.

The evidence on the slide decides whether the image is used and where it is (``expert``, ``offset``). Where it is used,
the disaggregation model is fitted at that position, and its log ratios are added to those of the other experts.

Shape legend: N spots, n training spots, Q pixels, F fields, P programs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology.background_mask import background_pixels
from napari_srast.histology.disaggregation import DisaggregationModel, SpotSamples, fit_disaggregation
from napari_srast.histology.features import FeatureMap, disk_offsets, pixel_area
from napari_srast.histology.image_evidence import ImageExpert

__all__ = ["ImagePredictor", "ImageWeights", "PixelImageEvidence", "fit_image_predictor"]

_SPOT_SAMPLES = 32  # sample points per spot
_SAMPLE_SIDE = 1 / 12  # pitches: side of the area that one sample point of a pixel stands for
_MAX_PIXEL_SAMPLES = 16
_MAX_TRAINING_SPOTS = 1500
_BLOCK_PIXELS = 1 << 16
_MIN_RATIO = 1e-300
_MAX_LOG_SCORE = 60.0  # keeps the exponential finite


@dataclass(frozen=True)
class ImageWeights:
    """Weights of the log-linear pool of the image and the other experts.

    Parameters
    ----------
    others
        Weight of the log ratios of the other experts.
    totals, composition
        Weights of the image's log totals, and of a field's log ratio beyond the totals.
    """

    others: float
    totals: float
    composition: float

    @classmethod
    def for_evidence(cls, evidence_per_spot: float) -> ImageWeights:
        """Return the weights for the evidence that the image predicts the counts.

        The more the image explains, the less the other experts add, which are over-confident inside spots. The weights
        at full evidence were chosen on two slides with fine truth, where scores change little around these values.

        Parameters
        ----------
        evidence_per_spot
            Log odds that the image predicts the counts, per training spot; 1 or more is full evidence.
        """
        strength = min(max(evidence_per_spot, 0.0), 1.0)
        return cls(others=1.0 - 0.5 * strength, totals=0.5 + 0.3 * strength, composition=0.5 + 0.5 * strength)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePredictor:
    """Predict log totals and program fractions in any pixels of a slide.

    Parameters
    ----------
    model
        The fitted model.
    features
        Features of the image.
    shift
        Displacement of the spots on the image, (x, y) in units of ``centers``: features are sampled there.
    centers
        Spot centers in the spots' own frame, shape (N, 2).
    totals
        Total counts of each spot, shape (N,).
    training_spots
        Indices of the spots that the model was fitted to, shape (n,).
    spot_area
        Area that a spot represents, in squared units of ``centers``.
    weights
        Weights of the pool.
    """

    model: DisaggregationModel
    features: FeatureMap
    shift: np.ndarray
    centers: np.ndarray
    totals: np.ndarray
    training_spots: np.ndarray
    spot_area: float
    weights: ImageWeights

    def field_loadings(self, fields: sparse.csr_matrix | np.ndarray) -> np.ndarray:
        """Fit loadings of fields on the programs, shape (P, F).

        Parameters
        ----------
        fields
            Counts or intensities of all spots, shape (N, F).
        """
        return self.model.field_loadings(fields[self.training_spots])

    def predict(self, layout: SpotPixelMap, area: float | None = None) -> PixelImageEvidence:
        """Predict pixels.

        Parameters
        ----------
        layout
            All spots in the order of ``centers``, possibly translated, and any pixels.
        area
            Area of a pixel, in squared units of the centers. Default: that of a lattice of the pixels.
        """
        pixels = layout.pixels + (self.centers[0] - layout.spots[0])
        if area is None:
            area = pixel_area(layout)
        pitch = layout.pitch
        n_samples = int(np.clip(round(area / (_SAMPLE_SIDE * pitch) ** 2), 1, _MAX_PIXEL_SAMPLES))
        offsets = disk_offsets(area, n_samples) if n_samples > 1 else np.zeros((1, 2))
        log_totals = np.empty(len(pixels))
        programs = np.empty((len(pixels), self.model.spot_programs.shape[1]))
        for start in range(0, len(pixels), _BLOCK_PIXELS):
            block = slice(start, start + _BLOCK_PIXELS)
            rate = np.zeros(len(pixels[block]))
            by_program = np.zeros((len(rate), programs.shape[1]))
            for offset in offsets:
                sample_log_totals, fractions = self.model.predict(
                    self.features.sample(pixels[block] + self.shift + offset)
                )
                sample_rate = np.exp(sample_log_totals)
                rate += sample_rate
                by_program += sample_rate[:, None] * fractions
            log_totals[block] = np.log(rate / n_samples)
            programs[block] = by_program / rate[:, None]
        outside = ~self.features.covers(pixels + self.shift)  # features outside the image only repeat its edge
        background = background_pixels(
            self.features, self.centers + self.shift, self.totals, layout, self.spot_area, area
        )
        return PixelImageEvidence(
            log_totals=log_totals.astype(np.float32),
            programs=programs.astype(np.float32),
            outside=outside,
            background=background,
            weights=self.weights,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelImageEvidence:
    """Hold what the image predicts in some pixels; small enough to be sent to the workers that predict tiles.

    Parameters
    ----------
    log_totals
        Log rate of all counts, up to a constant, float32, shape (Q,).
    programs
        Program fractions, float32, shape (Q, P).
    outside
        True for pixels that the image does not cover, shape (Q,).
    background
        True for pixels of bare glass, shape (Q,).
    weights
        Weights of the pool.
    """

    log_totals: np.ndarray
    programs: np.ndarray
    outside: np.ndarray
    background: np.ndarray
    weights: ImageWeights

    def select_pixels(self, pixels: np.ndarray) -> PixelImageEvidence:
        """Return the evidence in some pixels, given as indices or as a mask."""
        return replace(
            self,
            log_totals=self.log_totals[pixels],
            programs=self.programs[pixels],
            outside=self.outside[pixels],
            background=self.background[pixels],
        )

    def pool_with(self, log_ratios: np.ndarray, loadings: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
        """Combine the image with the log ratios of other experts in a log-linear pool.

        A spot with a pixel that the image does not cover keeps the log ratios of the other experts.

        Parameters
        ----------
        log_ratios
            Log ratios of the other experts, shape (Q, F).
        loadings
            Loadings of the fields from :meth:`ImagePredictor.field_loadings`, shape (P, F).
        layout
            Spots and the same pixels.

        Returns
        -------
        np.ndarray
            Normalized log ratios, minus infinity on background, shape (Q, F).
        """
        score = self.weights.others * log_ratios + self._log_ratios(loadings)
        score = np.where(self.covered(layout)[:, None], score, log_ratios)
        score = np.clip(score, -_MAX_LOG_SCORE, _MAX_LOG_SCORE)
        ratio = layout.normalize(np.where(self.background[:, None], 0.0, np.exp(score)))
        return np.where(self.background[:, None], -np.inf, np.log(np.maximum(ratio, _MIN_RATIO)))

    def expected_nats(self, loadings: np.ndarray, totals: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
        """Compute the gain in nats per count that the image is expected to give each field.

        It is the mean information of the image's ratios, as if they were the true ones.

        Parameters
        ----------
        loadings
            Loadings of the fields, shape (P, F).
        totals
            Total counts of each spot, shape (N,).
        layout
            Spots and the same pixels.

        Returns
        -------
        np.ndarray
            Shape (F,).
        """
        n_pixels = layout.n_pixels_per_spot[layout.parent][:, None]
        weight = totals[layout.parent][:, None]
        covered = self.covered(layout)[:, None]
        nats = np.empty(loadings.shape[1])
        for start in range(0, loadings.shape[1], 64):
            block = slice(start, start + 64)
            ratio = layout.normalize(np.exp(np.where(covered, self._log_ratios(loadings[:, block]), 0.0)))
            information = ratio * np.log(np.maximum(ratio * n_pixels, _MIN_RATIO))
            nats[block] = (weight * information).sum(axis=0) / max(float(totals.sum()), 1e-12)
        return nats

    def log_rates(self, loadings: np.ndarray) -> np.ndarray:
        """Return the weighted log rates of the image for fields with loadings (P, F), shape (Q, F)."""
        composition = np.log(np.maximum(self.programs.astype(np.float64) @ loadings, _MIN_RATIO))
        totals = self.log_totals.astype(np.float64)[:, None]
        return np.asarray(self.weights.totals * totals + self.weights.composition * composition)

    def covered(self, layout: SpotPixelMap) -> np.ndarray:
        """Return which pixels belong to spots that the image covers completely, shape (Q,)."""
        n_outside = np.bincount(layout.parent, weights=self.outside, minlength=layout.n_spots)
        return np.asarray(n_outside[layout.parent] == 0)

    def _log_ratios(self, loadings: np.ndarray) -> np.ndarray:
        """Return the weighted log ratios of the image, centered over all pixels, (Q, F)."""
        highest = self.weights.totals * float(self.log_totals.max(initial=-np.inf))
        return self.log_rates(loadings) - (highest if np.isfinite(highest) else 0.0)


def fit_image_predictor(
    expert: ImageExpert,
    counts: sparse.csr_matrix,
    shift: np.ndarray,
    measured_area: float,
    monitor: RunMonitor = NO_MONITOR,
) -> ImagePredictor:
    """Fit the predictor of a slide whose image is informative.

    Parameters
    ----------
    expert
        Image expert of the slide.
    counts
        Raw counts of all spots, shape (N, G).
    shift
        Displacement of the spots on the image, (x, y) in units of the spots' own frame.
    measured_area
        Area that a spot measures, in squared units of the spots' own frame.
    monitor
        Asked for cancellation often.
    """
    spots = expert.training_spots
    spots = spots[expert.features.covers(expert.centers[spots] + shift)]
    if len(spots) > _MAX_TRAINING_SPOTS:
        spots = spots[np.round(np.linspace(0, len(spots) - 1, _MAX_TRAINING_SPOTS)).astype(np.int64)]
    centers = expert.centers[spots]
    samples = np.stack(
        [expert.features.sample(centers + shift + offset) for offset in disk_offsets(measured_area, _SPOT_SAMPLES)],
        axis=1,
    )
    model = fit_disaggregation(
        SpotSamples(features=samples, centers=centers, pitch=expert.pitch, counts=counts[spots]), monitor
    )
    return ImagePredictor(
        model=model,
        features=expert.features,
        shift=np.asarray(shift, dtype=float),
        centers=expert.centers,
        totals=expert.totals,
        training_spots=spots,
        spot_area=expert.spot_area,
        weights=ImageWeights.for_evidence(expert.fit.evidence / len(expert.training_spots)),
    )
