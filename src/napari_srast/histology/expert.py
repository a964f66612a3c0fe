"""The image as an expert: how each spot's counts spread over its pixels, as the image there has it.

Shape legend: N spots, n of them that were learned from, G genes, Q pixels, F fields, D features, P components.
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
from napari_srast.histology.pooling import expected_nats, with_image
from napari_srast.histology.regression import ContrastRegression, Fit
from napari_srast.histology.targets import composition, loadings, log_totals
from napari_srast.interpolation.local_kriging import LocalKriging, matern32

__all__ = ["IMAGE_EXPERTS", "LEAST_EVIDENCE", "ImageExpert", "PixelImageEvidence", "fit_image_expert"]

IMAGE_EXPERTS = ("image_totals", "image")
"""In the order of :meth:`PixelImageEvidence.log_ratios`: what the image tells of all counts, and of a gene beyond them."""
LEAST_EVIDENCE = 8.0
"""Log odds below which the image is not used at all."""
_SMOOTH, _NOISE = 2.0, 0.1  # pitches; of the signal's variance: what interpolation would make of a feature
_BEYOND = 0.5  # standard deviations by which a pixel's feature may leave the range of the spots'
_ENOUGH = 6000  # spots to learn from; of larger slides compact patches of as many in all
_PATCHES = 3
_POOR = 0.1  # of the median counts: poorer spots lie off the tissue
_AT_ONCE = 1 << 16  # pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageExpert:
    """What the image of a slide tells of its counts.

    Parameters
    ----------
    features
        Features at any place.
    regression
        The slide's own components, ready to be regressed on other features.
    fit
        The regression on the image where it lies.
    centers, pitch
        All spots in their own frame, shape (N, 2), and the distance between neighbors.
    rows
        The spots that were learned from, shape (n,).
    of_spots
        Features of the cells of all spots, standardized, shape (N, D).
    middle, scale
        By which features are standardized, shape (D,).
    components
        Of the composition of the spots that were learned from, shape (n, P - 1).
    totals
        All counts of each spot, shape (N,).
    cell_area
        Area that a spot stands for.
    """

    features: FeatureMap
    regression: ContrastRegression
    fit: Fit
    centers: np.ndarray
    pitch: float
    rows: np.ndarray
    of_spots: np.ndarray
    middle: np.ndarray
    scale: np.ndarray
    components: np.ndarray
    totals: np.ndarray
    cell_area: float

    @property
    def covered(self) -> float:
        """Share of the spots that lie on the image."""
        return float(self.features.covers(self.centers).mean())

    @property
    def informative(self) -> bool:
        """Whether the image tells of the counts more than chance would."""
        return self.fit.evidence > LEAST_EVIDENCE

    def evidence_at(self, shift: np.ndarray) -> float:
        """Return the log odds that the image would tell of the counts if the spots lay elsewhere by ``shift`` (2,)."""
        seen = self.features.over(self.centers[self.rows] + shift, self.cell_area)
        return self.regression.fit(_standardized(seen)[0]).evidence

    def slopes(self, fields: sparse.csr_matrix | np.ndarray) -> np.ndarray:
        """Return by how much each field of all spots (N, F) follows each component of the composition, (P - 1, F)."""
        return loadings(self.components, fields[self.rows], self.totals[self.rows])

    def on(self, layout: SpotPixelMap) -> PixelImageEvidence:
        """Look at the image in the pixels of a layout.

        Parameters
        ----------
        layout
            All spots, in the order of ``centers``, shifted or not, and any pixels.
        """
        pixels = layout.pixels + (self.centers[0] - layout.spots[0])
        area = pixel_area(layout)
        shown = self.of_spots[self.rows]
        low, high = shown.min(axis=0) - _BEYOND, shown.max(axis=0) + _BEYOND
        # What interpolation makes of the features at the spots is what the other experts have of them already.
        told = self.of_spots @ self.fit.coefficients
        contrasts = -(LocalKriging(layout).weights(matern32(_SMOOTH), _NOISE) @ told)
        for start in range(0, len(pixels), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            seen = (self.features.over(pixels[part], area, 4) - self.middle) / self.scale
            # Linear in the features only as far as spots have shown it to be.
            contrasts[part] += np.clip(seen, low, high) @ self.fit.coefficients
        contrasts[~self.features.covers(pixels)] = 0.0  # beyond the image there is only its rim
        bare = background_pixels(self.features, self.centers, self.totals, layout, self.cell_area, area)
        return PixelImageEvidence(contrasts=contrasts.astype(np.float32), bare=bare)


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelImageEvidence:
    """What the image says in some pixels; small, so that it can be sent to where they are split.

    Parameters
    ----------
    contrasts
        By how much each component exceeds what interpolation would say, float32 (Q, P); totals first.
    bare
        Pixels that lie off the tissue, shape (Q,).
    """

    contrasts: np.ndarray
    bare: np.ndarray

    def at(self, pixels: np.ndarray) -> PixelImageEvidence:
        """Return that of some of the pixels."""
        return replace(self, contrasts=self.contrasts[pixels], bare=self.bare[pixels])

    def log_ratios(self, slopes: np.ndarray) -> np.ndarray:
        """Return what to add to log ratios before they are normalized in each spot.

        Parameters
        ----------
        slopes
            Of the fields, from :meth:`ImageExpert.slopes`, shape (P - 1, F).

        Returns
        -------
        np.ndarray
            Shape (2, Q, F), in the order of :data:`IMAGE_EXPERTS`.
        """
        contrasts = self.contrasts.astype(np.float64)
        totals = np.broadcast_to(contrasts[:, :1], (len(contrasts), slopes.shape[1]))
        return np.stack([totals, contrasts[:, 1:] @ slopes])

    def added_to(self, log_ratios: np.ndarray, slopes: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
        """Return log ratios (Q, F) with the image's, normalized in each spot; off the tissue -inf."""
        return with_image(log_ratios, self.log_ratios(slopes), self.bare, layout)

    def expected_nats(self, slopes: np.ndarray, totals: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
        """Return the nats per count that the image expects to bring to each field, (F,), for totals of spots (N,)."""
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
    """Learn from a slide alone what its image tells of its counts.

    Parameters
    ----------
    counts, centers
        All spots, (N, G) and (N, 2), in the spots' own frame.
    pitch
        Distance between neighboring spots.
    image
        Histology.
    extractor
        Makes the features; None for stains and textures.
    seed
        Of the principal components.

    Raises
    ------
    InputError
        The image does not lie under the spots.
    """
    centers = np.asarray(centers, dtype=float)
    features = extract_features(image, centers, pitch, extractor)
    area = pitch**2
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    covered = features.covers(centers)
    rows = _rows_to_learn_from(centers, np.where(covered, totals, 0.0))
    raw = features.over(centers, area)
    _, middle, scale = _standardized(raw[rows])
    of_spots = (raw - middle) / scale
    of_composition = composition(counts[rows], seed=seed)
    learned = np.column_stack([log_totals(counts[rows]), of_composition])
    regression = ContrastRegression(centers[rows], pitch, learned)
    return ImageExpert(
        features=features,
        regression=regression,
        fit=regression.fit(of_spots[rows]),
        centers=centers,
        pitch=pitch,
        rows=rows,
        of_spots=of_spots,
        middle=middle,
        scale=scale,
        components=of_composition,
        totals=totals,
        cell_area=area,
    )


def _standardized(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (n, D) with mean 0 and variance 1, and the mean and deviation that they had."""
    middle, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6 * np.maximum(np.abs(middle), 1e-3), scale, np.inf)  # what is constant says nothing
    return (features - middle) / scale, middle, scale


def _rows_to_learn_from(centers: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return the spots to learn from: all on tissue, or compact patches at the middle and on the way to the rim.

    Spots with next to no counts lie off the tissue. That they are so much poorer than all others would drown what the
    image tells of tissue.
    """
    rich = totals > 0
    rows = np.flatnonzero(rich & (totals >= _POOR * np.median(totals[rich]))) if rich.any() else np.arange(len(totals))
    if len(rows) <= _ENOUGH:
        return rows
    places = centers[rows]
    outwards = np.argsort(np.hypot(*(places - places.mean(axis=0)).T), kind="stable")
    seeds = places[outwards[[len(rows) * i // _PATCHES for i in range(_PATCHES)]]]
    _, members = cKDTree(places).query(seeds, k=_ENOUGH // _PATCHES)
    return rows[np.unique(members)]
