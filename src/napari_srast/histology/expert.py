"""The image as an expert: how each spot's counts spread over its pixels, as the image there has it.

Shape legend: N spots, G genes, Q pixels, F fields, D features, P components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.geometry.layout import Layout
from napari_srast.histology.components import composition, loadings, log_totals
from napari_srast.histology.features import FeatureExtractor, FeatureMap, extract_features
from napari_srast.histology.regression import ContrastRegression, Fit
from napari_srast.histology.tissue import bare_pixels
from napari_srast.histology.trust import image_share, with_image
from napari_srast.interpolation.neighbourhoods import Neighbourhoods, matern32
from napari_srast.slide import SlideImage

__all__ = ["EXPERTS", "ImageExpert", "LocalExpert", "fit_image_expert"]

EXPERTS = ("image_totals", "image")
"""In the order of :meth:`LocalExpert.log_ratios`: what the image tells of all counts, and of a gene beyond them."""
LEAST_EVIDENCE = 5.0  # log odds below which the image is not used at all
_SMOOTH, _NOISE = 2.0, 0.1  # pitches; of the signal's variance: what interpolation would make of a feature
_BEYOND = 0.5  # standard deviations by which a pixel's feature may leave the range of the spots'


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
        The spots in their own frame, shape (N, 2), and the distance between neighbours.
    of_spots
        Features of the spots' cells, standardised, shape (N, D).
    middle, scale
        By which features are standardised, shape (D,).
    components
        Of the composition, shape (N, P - 1).
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
    of_spots: np.ndarray
    middle: np.ndarray
    scale: np.ndarray
    components: np.ndarray
    totals: np.ndarray
    cell_area: float

    @property
    def informative(self) -> bool:
        """Whether the image tells of the counts more than chance would."""
        return self.fit.evidence > LEAST_EVIDENCE

    def evidence_at(self, shift: np.ndarray) -> float:
        """Return the log odds that the image would tell of the counts if the spots lay elsewhere by ``shift`` (2,)."""
        seen = self.features.over(self.centers + shift, self.cell_area)
        return self.regression.fit(_standardised(seen)[0]).evidence

    def on(self, layout: Layout) -> LocalExpert:
        """Look at the image in the pixels of a layout of these spots.

        Parameters
        ----------
        layout
            All spots, in the order of ``centers``, shifted or not, and any pixels.
        """
        shift = self.centers[0] - layout.spots[0]
        pixels = layout.pixels + shift
        area = self.cell_area / max(1.0, float(np.median(layout.n_pixels_of_spot[layout.parent], axis=0)))
        seen = (self.features.over(pixels, area, 4) - self.middle) / self.scale
        # Linear in the features only as far as spots have shown it to be.
        seen = np.clip(seen, self.of_spots.min(axis=0) - _BEYOND, self.of_spots.max(axis=0) + _BEYOND)
        # What interpolation makes of the features at the spots is what the other experts have of them already.
        smooth = Neighbourhoods(layout).weights(matern32(_SMOOTH), _NOISE) @ self.of_spots
        return LocalExpert(
            expert=self,
            layout=layout,
            contrasts=(seen - smooth) @ self.fit.coefficients,
            bare=bare_pixels(self.features, self.centers, self.totals, layout, self.cell_area),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalExpert:
    """The expert on the pixels of one layout.

    Parameters
    ----------
    expert
        Of the slide.
    layout
        Its pixels.
    contrasts
        By how much each component exceeds in each pixel what interpolation would say, shape (Q, P); totals first.
    bare
        Pixels that lie off the tissue, shape (Q,).
    """

    expert: ImageExpert
    layout: Layout
    contrasts: np.ndarray
    bare: np.ndarray

    def log_ratios(self, fields: np.ndarray) -> np.ndarray:
        """Return what to add to log ratios, before they are normalised in each spot.

        Parameters
        ----------
        fields
            Counts or intensities of all spots, shape (N, F).

        Returns
        -------
        np.ndarray
            Shape (2, Q, F), in the order of :data:`EXPERTS`.
        """
        slopes = loadings(self.expert.components, fields, self.expert.totals)
        totals = np.broadcast_to(self.contrasts[:, :1], (len(self.contrasts), fields.shape[1]))
        return np.stack([totals, self.contrasts[:, 1:] @ slopes])

    def added_to(self, log_ratios: np.ndarray, fields: np.ndarray) -> np.ndarray:
        """Return log ratios (Q, F) of fields (N, F) with the image's, normalised in each spot; off the tissue -inf."""
        both = with_image(log_ratios, self.log_ratios(fields), self.layout)
        both[self.bare] = -np.inf
        return both

    def share(self, log_ratios: np.ndarray, fields: np.ndarray) -> np.ndarray:
        """Return which part of each field's contrasts inside spots the image brings, shape (F,), 0 to 1."""
        return image_share(log_ratios, self.log_ratios(fields), fields, self.layout)


def fit_image_expert(
    counts: sparse.csr_matrix,
    centers: np.ndarray,
    pitch: float,
    image: SlideImage,
    *,
    extractor: FeatureExtractor | None = None,
    features: FeatureMap | None = None,
    cell_area: float | None = None,
    seed: int = 0,
) -> ImageExpert:
    """Learn from a slide alone what its image tells of its counts.

    Parameters
    ----------
    counts, centers
        All spots, (N, G) and (N, 2), in the spots' own frame.
    pitch
        Distance between neighbouring spots.
    image
        Histology.
    extractor
        Makes the features; None for stains and textures.
    features
        Features made before, such as those of the slide that this one was coarsened from; they are then not made anew.
    cell_area
        Area that a spot stands for; None for that of a square of the pitch.
    seed
        Of the principal components.

    Raises
    ------
    InputError
        The image does not lie under the spots.
    """
    centers = np.asarray(centers, dtype=float)
    if features is None:
        features = extract_features(image, centers, pitch, extractor)
    area = pitch**2 if cell_area is None else cell_area
    raw = features.over(centers, area)
    of_spots, middle, scale = _standardised(raw)
    of_composition = composition(counts, seed=seed)
    regression = ContrastRegression(centers, pitch, np.column_stack([log_totals(counts), of_composition]))
    return ImageExpert(
        features=features,
        regression=regression,
        fit=regression.fit(of_spots),
        centers=centers,
        pitch=pitch,
        of_spots=of_spots,
        middle=middle,
        scale=scale,
        components=of_composition,
        totals=np.asarray(counts.sum(axis=1), dtype=np.float64).ravel(),
        cell_area=area,
    )


def _standardised(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (N, D) with mean 0 and variance 1, and the mean and deviation that they had."""
    middle, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6 * np.maximum(np.abs(middle), 1e-3), scale, np.inf)  # what is constant says nothing
    return (features - middle) / scale, middle, scale
