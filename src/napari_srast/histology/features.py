"""Numbers that describe the image around any place of a slide.

Shape legend: n places, D features, M channels, N spots.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_srast.core.slide import SlideImage
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology.streaming_statistics import ImageStatistics, stream_image_statistics

__all__ = ["FeatureExtractor", "FeatureMap", "StainTexture", "extract_features", "pixel_area"]

SCALES = (0.1, 0.2, 0.4)  # standard deviations of the windows, in pitches
_SOME_PIXELS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureLayer:
    """Some features on one grid: values float32 (d, y, x), and the affine from the spots' frame to the grid."""

    values: np.ndarray
    to_grid: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureMap:
    """Features of an image at any place.

    Parameters
    ----------
    layers
        Features on grids of their own, each as coarse as its scale allows.
    names
        Name of each feature, length D.
    tissue
        The share of tissue, a single feature; None where the extractor does not tell.
    kind
        What the image was taken for.
    """

    layers: tuple[FeatureLayer, ...]
    names: tuple[str, ...]
    tissue: FeatureLayer | None = None
    kind: str = "color"

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return features (n, D) at points (n, 2) in the spots' own frame; those of the rim beyond the image."""
        return np.concatenate([_sample(layer, points) for layer in self.layers], axis=1)

    def covers(self, points: np.ndarray) -> np.ndarray:
        """Tell which points (n, 2) in the spots' own frame lie on the image, boolean, shape (n,)."""
        n_rows, n_cols = self.layers[0].values.shape[1:]
        place = apply_affine(self.layers[0].to_grid, points)
        return np.asarray(((place >= 0) & (place <= [n_cols, n_rows])).all(axis=1))

    def over(self, centers: np.ndarray, area: float, n_points: int = 16) -> np.ndarray:
        """Return features averaged over discs of an area around (n, 2) centers, shape (n, D)."""
        return np.asarray(sum(self.at(centers + offset) for offset in disc(area, n_points)) / n_points)

    def tissue_over(self, centers: np.ndarray, area: float, n_points: int = 16) -> np.ndarray:
        """Return the share of tissue of discs of an area around (n, 2) centers, shape (n,); 1 where unknown."""
        if self.tissue is None:
            return np.ones(len(centers))
        layer = self.tissue
        return np.asarray(np.mean([_sample(layer, centers + o)[:, 0] for o in disc(area, n_points)], axis=0))


class FeatureExtractor(Protocol):
    """Makes features of an image; bring your own, such as an encoder that you have the weights of."""

    @property
    def name(self) -> str:
        """Name for the provenance."""
        ...

    def extract(self, image: SlideImage, spots: np.ndarray, pitch: float) -> FeatureMap:
        """Return the features of an image around spots (N, 2) that lie ``pitch`` apart."""
        ...


@dataclass(frozen=True)
class StainTexture:
    """Stains, nuclei, tissue and gradients: their mean and their spread at several scales.

    Needs no training and no other slide. The scales follow the pitch: what is finer than a tenth of it enters as
    spread, what is coarser than half of it the counts say themselves.

    Parameters
    ----------
    scales
        Standard deviations of the Gaussian windows, in pitches.
    """

    scales: tuple[float, ...] = SCALES
    name: str = "stain-texture"

    def extract(self, image: SlideImage, spots: np.ndarray, pitch: float) -> FeatureMap:
        """Return the features of an image around spots (N, 2) that lie ``pitch`` apart."""
        moments = stream_image_statistics(image, spots, pitch)
        layers = [_at_scale(moments, scale * pitch) for scale in self.scales]
        names = tuple(
            f"{what}_{name}_{scale:g}"
            for scale in self.scales
            for what, channels in (("mean", moments.names), ("spread", _spreading(moments)))
            for name in channels
        )
        tissue = FeatureLayer(values=moments.mean[[moments.names.index("tissue")]], to_grid=moments.to_grid)
        return FeatureMap(layers=tuple(layers), names=names, tissue=tissue, kind=moments.reading.kind)


_cache: weakref.WeakKeyDictionary[SlideImage, dict[tuple[str, bytes], FeatureMap]] = weakref.WeakKeyDictionary()


def extract_features(
    image: SlideImage, spots: np.ndarray, pitch: float, extractor: FeatureExtractor | None = None
) -> FeatureMap:
    """Return an image's features; those of an earlier call for the same spots as long as the image lives."""
    extractor = extractor or StainTexture()
    known = _cache.setdefault(image, {})
    key = (extractor.name, np.append(spots.ravel(), pitch).astype(np.float64).tobytes())
    if key not in known:
        known[key] = extractor.extract(image, spots, pitch)
    return known[key]


def pixel_area(layout: SpotPixelMap) -> float:
    """Return the area of a pixel: the square of the distance to the next one, whichever part of a slide this is."""
    if layout.n_pixels < 2:
        return float(layout.pitch**2)
    some = layout.pixels[:: max(1, layout.n_pixels // _SOME_PIXELS)]
    distance, _ = cKDTree(layout.pixels).query(some, k=2)
    return float(np.median(distance[:, 1]) ** 2)


def disc(area: float, n_points: int) -> np.ndarray:
    """Return offsets (n_points, 2) spread evenly over a disc of an area (sunflower arrangement)."""
    i = np.arange(n_points) + 0.5
    radius = np.sqrt(area / np.pi) * np.sqrt(i / n_points)
    angle = np.pi * (3 - np.sqrt(5)) * i
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def _spreading(moments: ImageStatistics) -> tuple[str, ...]:
    """Return the channels whose spread is told: not that of masks, which their mean already gives."""
    return tuple(name for name in moments.names if name not in ("nuclei", "tissue"))


def _at_scale(moments: ImageStatistics, width: float) -> FeatureLayer:
    """Average the moments under a Gaussian window; keep as few places as its width allows."""
    sigma = width / moments.cell
    stride = max(1, int(sigma / 1.5))
    spreading = [moments.names.index(name) for name in _spreading(moments)]

    def smooth(plane: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.gaussian_filter(plane, sigma, mode="nearest", truncate=3.0)[::stride, ::stride])

    mean = np.stack([smooth(plane) for plane in moments.mean])
    square = np.stack([smooth(moments.square[i]) for i in spreading])
    spread = np.sqrt(np.maximum(square - mean[spreading] ** 2, 0.0))
    # Place [i] of the kept ones is the center of cell [i * stride].
    thin = np.diag([1 / stride, 1 / stride, 1.0])
    thin[:2, 2] = 0.5 - 0.5 / stride
    return FeatureLayer(values=np.concatenate([mean, spread]), to_grid=thin @ moments.to_grid)


def _sample(layer: FeatureLayer, points: np.ndarray) -> np.ndarray:
    """Interpolate linearly between places, shape (n, d)."""
    n_rows, n_cols = layer.values.shape[1:]
    place = apply_affine(layer.to_grid, points) - 0.5
    x, y = np.clip(place[:, 0], 0, n_cols - 1), np.clip(place[:, 1], 0, n_rows - 1)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, bottom = np.minimum(left + 1, n_cols - 1), np.minimum(top + 1, n_rows - 1)
    a, b = (x - left).astype(np.float32), (y - top).astype(np.float32)
    values = layer.values
    upper = values[:, top, left] * (1 - a) + values[:, top, right] * a
    lower = values[:, bottom, left] * (1 - a) + values[:, bottom, right] * a
    return np.asarray((upper * (1 - b) + lower * b).T)
