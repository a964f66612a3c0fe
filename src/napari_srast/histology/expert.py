"""Fit the image of a slide as an expert: predict how the counts of each spot spread over its pixels.

Shape legend: N spots, n of them for training, G genes, Q pixels, F fields, D features, P components (the totals and the
components of the composition).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.core.slide import SlideImage
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology.background_mask import background_pixels
from napari_srast.histology.features import FeatureExtractor, FeatureMap, extract_features, pixel_area
from napari_srast.histology.log_linear_pool import expected_nats, pool_image_evidence
from napari_srast.histology.regression import ContrastFit, ContrastRegression
from napari_srast.histology.targets import component_slopes, composition_components, log_totals
from napari_srast.interpolation.local_kriging import LocalKriging, matern32

__all__ = ["IMAGE_EXPERTS", "MIN_LOG_ODDS", "ImageExpert", "PixelImageEvidence", "fit_image_expert"]

IMAGE_EXPERTS = ("image_totals", "image")
"""What the image predicts for the totals, and for a field beyond them, in the order of
:meth:`PixelImageEvidence.log_ratios`."""

MIN_LOG_ODDS = 8.0
"""Log odds up to which the image is not used; see :class:`~napari_srast.histology.regression.ContrastFit`."""

_KRIGING_WIDTH, _KRIGING_NOISE = 2.0, 0.1  # pitches; relative to the signal's variance
_EXTRAPOLATION = 0.5  # standard deviations by which a pixel's feature may leave the range of the spots' features
_MAX_TRAINING_SPOTS = 6000  # larger slides are fitted on compact patches with as many spots in all
_N_PATCHES = 3
_MIN_RELATIVE_TOTAL = 0.1  # of the median total: spots with less are off the tissue
_BLOCK_PIXELS = 1 << 16
_PIXEL_SAMPLES = 4  # sample points per pixel


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageExpert:
    """Predict the counts of a slide from its image.

    Parameters
    ----------
    features
        Features of the image.
    regression
        Regression of the slide's components, which can be fitted to other features, such as those of a shifted image.
    fit
        Fit to the image at its current position.
    centers
        Spot centers in the spots' own frame, shape (N, 2).
    pitch
        Distance between neighboring spots.
    training_spots
        Indices of the spots that the regression was fitted to, shape (n,).
    spot_features
        Standardized features of all spots, averaged over their areas, shape (N, D).
    feature_mean, feature_scale
        Mean and standard deviation by which features are standardized, shape (D,).
    components
        Components of the composition of the training spots, shape (n, P - 1).
    totals
        Total counts of each spot, shape (N,).
    spot_area
        Area that a spot represents, in squared units of ``centers``.
    """

    features: FeatureMap
    regression: ContrastRegression
    fit: ContrastFit
    centers: np.ndarray
    pitch: float
    training_spots: np.ndarray
    spot_features: np.ndarray
    feature_mean: np.ndarray
    feature_scale: np.ndarray
    components: np.ndarray
    totals: np.ndarray
    spot_area: float

    @property
    def covered_fraction(self) -> float:
        """Fraction of the spots that are on the image."""
        return float(self.features.covers(self.centers).mean())

    @property
    def informative(self) -> bool:
        """Whether there is enough evidence that the image predicts the counts."""
        return self.fit.evidence > MIN_LOG_ODDS

    def evidence_at(self, shift: np.ndarray) -> float:
        """Compute the log odds that the image predicts the counts if the spots are shifted.

        Parameters
        ----------
        shift
            Displacement of the spots on the image, shape (2,), in units of ``centers``.
        """
        features = self.features.disk_mean(self.centers[self.training_spots] + shift, self.spot_area)
        return self.regression.fit(_standardize(features)[0]).evidence

    def field_slopes(self, fields: sparse.csr_matrix | np.ndarray) -> np.ndarray:
        """Compute the change of each field's log fraction with each component of the composition.

        Parameters
        ----------
        fields
            Counts or intensities of all spots, shape (N, F).

        Returns
        -------
        np.ndarray
            Shape (P - 1, F).
        """
        return component_slopes(self.components, fields[self.training_spots], self.totals[self.training_spots])

    def predict(self, layout: SpotPixelMap) -> PixelImageEvidence:
        """Predict the components in pixels, relative to the interpolation between spots.

        Parameters
        ----------
        layout
            All spots in the order of ``centers``, possibly translated, and any pixels.
        """
        pixels = layout.pixels + (self.centers[0] - layout.spots[0])
        area = pixel_area(layout)
        training_features = self.spot_features[self.training_spots]
        low, high = training_features.min(axis=0) - _EXTRAPOLATION, training_features.max(axis=0) + _EXTRAPOLATION
        # The interpolated prediction is subtracted: the other experts already know what can be interpolated.
        at_spots = self.spot_features @ self.fit.coefficients
        contrasts = -(LocalKriging(layout).weights(matern32(_KRIGING_WIDTH), _KRIGING_NOISE) @ at_spots)
        for start in range(0, len(pixels), _BLOCK_PIXELS):
            block = slice(start, start + _BLOCK_PIXELS)
            features = self.features.disk_mean(pixels[block], area, _PIXEL_SAMPLES)
            features = (features - self.feature_mean) / self.feature_scale
            # The linear model is only valid in the range of the spots' features.
            contrasts[block] += np.clip(features, low, high) @ self.fit.coefficients
        contrasts[~self.features.covers(pixels)] = 0.0  # features outside the image only repeat its edge
        background = background_pixels(self.features, self.centers, self.totals, layout, self.spot_area, area)
        return PixelImageEvidence(contrasts=contrasts.astype(np.float32), background=background)


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelImageEvidence:
    """Hold what the image predicts in some pixels; small enough to be sent to the workers that predict tiles.

    Parameters
    ----------
    contrasts
        Predicted components minus their interpolation between spots, totals first, float32, shape (Q, P).
    background
        True for pixels of bare glass, shape (Q,).
    """

    contrasts: np.ndarray
    background: np.ndarray

    def select_pixels(self, pixels: np.ndarray) -> PixelImageEvidence:
        """Return the evidence in some pixels, given as indices or as a mask."""
        return replace(self, contrasts=self.contrasts[pixels], background=self.background[pixels])

    def log_ratios(self, slopes: np.ndarray) -> np.ndarray:
        """Compute the image's log ratios of fields, up to a constant in each spot.

        Parameters
        ----------
        slopes
            Slopes of the fields from :meth:`ImageExpert.field_slopes`, shape (P - 1, F).

        Returns
        -------
        np.ndarray
            Shape (2, Q, F), in the order of :data:`IMAGE_EXPERTS`.
        """
        contrasts = self.contrasts.astype(np.float64)
        totals = np.broadcast_to(contrasts[:, :1], (len(contrasts), slopes.shape[1]))
        return np.stack([totals, contrasts[:, 1:] @ slopes])

    def pool_with(self, log_ratios: np.ndarray, slopes: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
        """Combine the image with the log ratios of other experts in a log-linear pool.

        Parameters
        ----------
        log_ratios
            Log ratios of the other experts, shape (Q, F).
        slopes
            Slopes of the fields, shape (P - 1, F).
        layout
            Spots and the same pixels.

        Returns
        -------
        np.ndarray
            Normalized log ratios, minus infinity on background, shape (Q, F).
        """
        return pool_image_evidence(log_ratios, self.log_ratios(slopes), self.background, layout)

    def expected_nats(self, slopes: np.ndarray, totals: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
        """Compute the gain in nats per count that the image is expected to give each field, shape (F,).

        Parameters
        ----------
        slopes
            Slopes of the fields, shape (P - 1, F).
        totals
            Total counts of each spot, shape (N,).
        layout
            Spots and the same pixels.
        """
        return expected_nats(self.contrasts.astype(np.float64), slopes, totals, layout)


def fit_image_expert(
    counts: sparse.csr_matrix,
    centers: np.ndarray,
    pitch: float,
    image: SlideImage,
    *,
    extractor: FeatureExtractor | None = None,
    seed: int = 0,
) -> ImageExpert:
    """Fit the image expert of a slide, from this slide only.

    Parameters
    ----------
    counts
        Raw counts of all spots, shape (N, G).
    centers
        Spot centers in the spots' own frame, shape (N, 2).
    pitch
        Distance between neighboring spots.
    image
        Histology image.
    extractor
        Feature extractor; None for stains and textures.
    seed
        Seed of the principal components.

    Raises
    ------
    InputError
        The image does not cover any spot.
    """
    centers = np.asarray(centers, dtype=float)
    features = extract_features(image, centers, pitch, extractor)
    area = pitch**2
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    covered = features.covers(centers)
    training_spots = _select_training_spots(centers, np.where(covered, totals, 0.0))
    raw = features.disk_mean(centers, area)
    _, mean, scale = _standardize(raw[training_spots])
    spot_features = (raw - mean) / scale
    components = composition_components(counts[training_spots], seed=seed)
    targets = np.column_stack([log_totals(counts[training_spots]), components])
    regression = ContrastRegression(centers[training_spots], pitch, targets)
    return ImageExpert(
        features=features,
        regression=regression,
        fit=regression.fit(spot_features[training_spots]),
        centers=centers,
        pitch=pitch,
        training_spots=training_spots,
        spot_features=spot_features,
        feature_mean=mean,
        feature_scale=scale,
        components=components,
        totals=totals,
        spot_area=area,
    )


def _standardize(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (n, D) with mean 0 and variance 1, and their original mean and standard deviation, (D,)."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6 * np.maximum(np.abs(mean), 1e-3), scale, np.inf)  # constant features become 0
    return (features - mean) / scale, mean, scale


def _select_training_spots(centers: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Select all spots on tissue, or of a large slide compact patches from its center outwards.

    Spots with very few counts are off the tissue. They are excluded, because their difference from all other spots
    would dominate the regression.
    """
    positive = totals > 0
    if positive.any():
        spots = np.flatnonzero(positive & (totals >= _MIN_RELATIVE_TOTAL * np.median(totals[positive])))
    else:
        spots = np.arange(len(totals))
    if len(spots) <= _MAX_TRAINING_SPOTS:
        return spots
    points = centers[spots]
    outwards = np.argsort(np.hypot(*(points - points.mean(axis=0)).T), kind="stable")
    patch_centers = points[outwards[[len(spots) * i // _N_PATCHES for i in range(_N_PATCHES)]]]
    _, members = cKDTree(points).query(patch_centers, k=_MAX_TRAINING_SPOTS // _N_PATCHES)
    return spots[np.unique(members)]
