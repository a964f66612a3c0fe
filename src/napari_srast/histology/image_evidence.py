"""Weigh the evidence that the image of a slide predicts its counts.

Shape legend: N spots, n of them for training, G genes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.core.slide import SlideImage
from napari_srast.histology.features import FeatureExtractor, FeatureMap, extract_features
from napari_srast.histology.regression import ContrastFit, ContrastRegression
from napari_srast.histology.targets import composition_components, log_totals

__all__ = ["MIN_LOG_ODDS", "ImageExpert", "fit_image_expert"]

MIN_LOG_ODDS = 8.0
"""Log odds up to which the image is not used; see :class:`~napari_srast.histology.regression.ContrastFit`."""

_MAX_TRAINING_SPOTS = 6000  # larger slides are fitted on compact patches with as many spots in all
_N_PATCHES = 3
_MIN_RELATIVE_TOTAL = 0.1  # of the median total: spots with less are off the tissue


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageExpert:
    """Regress the counts of a slide on its image, to decide whether the image is used and where it is.

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
        return self.regression.fit(_standardize(features)).evidence


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
    components = composition_components(counts[training_spots], seed=seed)
    targets = np.column_stack([log_totals(counts[training_spots]), components])
    regression = ContrastRegression(centers[training_spots], pitch, targets)
    spot_features = _standardize(features.disk_mean(centers[training_spots], area))
    return ImageExpert(
        features=features,
        regression=regression,
        fit=regression.fit(spot_features),
        centers=centers,
        pitch=pitch,
        training_spots=training_spots,
        totals=totals,
        spot_area=area,
    )


def _standardize(features: np.ndarray) -> np.ndarray:
    """Return features (n, D) with mean 0 and variance 1."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6 * np.maximum(np.abs(mean), 1e-3), scale, np.inf)  # constant features become 0
    return np.asarray((features - mean) / scale)


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
