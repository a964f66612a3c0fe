"""Compute image features and sample them at any position of a slide.

Shape legend: n points, D features, d features of one layer, M channels, N spots, y rows and x columns of a grid.
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

__all__ = [
    "FeatureExtractor",
    "FeatureLayer",
    "FeatureMap",
    "StainTexture",
    "disk_offsets",
    "extract_features",
    "pixel_area",
]

SCALES = (0.1, 0.2, 0.4)  # standard deviations of the Gaussian windows, in pitches
_AREA_SAMPLE_PIXELS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureLayer:
    """Hold some features on one grid.

    Parameters
    ----------
    values
        Features, float32, shape (d, y, x).
    to_grid
        Affine from the spots' own frame to grid coordinates, shape (3, 3); the center of cell [0, 0] is at (0.5, 0.5).
    """

    values: np.ndarray
    to_grid: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureMap:
    """Sample the features of an image at any position.

    Parameters
    ----------
    layers
        Features on separate grids, each as coarse as its scale allows.
    names
        Feature names, length D.
    tissue
        Tissue fraction as a single feature; None if the extractor does not provide it.
    kind
        Kind of the image, such as "color", "gray", "fluorescence" or "encoded".
    """

    layers: tuple[FeatureLayer, ...]
    names: tuple[str, ...]
    tissue: FeatureLayer | None = None
    kind: str = "color"

    def sample(self, points: np.ndarray) -> np.ndarray:
        """Interpolate the features at points; outside the image, those of its edge.

        Parameters
        ----------
        points
            Points in the spots' own frame, shape (n, 2).

        Returns
        -------
        np.ndarray
            Shape (n, D).
        """
        return np.concatenate([_interpolate(layer, points) for layer in self.layers], axis=1)

    def covers(self, points: np.ndarray) -> np.ndarray:
        """Return which points (n, 2) in the spots' own frame are on the image, boolean, shape (n,)."""
        n_rows, n_cols = self.layers[0].values.shape[1:]
        on_grid = apply_affine(self.layers[0].to_grid, points)
        return np.asarray(((on_grid >= 0) & (on_grid <= [n_cols, n_rows])).all(axis=1))

    def disk_mean(self, centers: np.ndarray, area: float, n_points: int = 16) -> np.ndarray:
        """Average the features over disks.

        Parameters
        ----------
        centers
            Disk centers in the spots' own frame, shape (n, 2).
        area
            Area of a disk, in squared units of ``centers``.
        n_points
            Number of sample points per disk.

        Returns
        -------
        np.ndarray
            Shape (n, D).
        """
        return np.asarray(sum(self.sample(centers + offset) for offset in disk_offsets(area, n_points)) / n_points)

    def tissue_fraction(self, centers: np.ndarray, area: float, n_points: int = 16) -> np.ndarray:
        """Return the tissue fraction of disks around centers (n, 2), shape (n,); 1 if it is unknown.

        The parameters are those of :meth:`disk_mean`.
        """
        if self.tissue is None:
            return np.ones(len(centers))
        layer = self.tissue
        return np.asarray(
            np.mean([_interpolate(layer, centers + o)[:, 0] for o in disk_offsets(area, n_points)], axis=0)
        )


class FeatureExtractor(Protocol):
    """Protocol of classes that compute features of an image, such as an encoder with the user's own weights."""

    @property
    def name(self) -> str:
        """Name of the extractor in the provenance of a result."""
        ...

    def extract(self, image: SlideImage, spots: np.ndarray, pitch: float) -> FeatureMap:
        """Extract the features of an image around the spots.

        Parameters
        ----------
        image
            Multiscale, possibly lazy image.
        spots
            Spot centers in the spots' own frame, shape (N, 2).
        pitch
            Distance between neighboring spots.
        """
        ...


@dataclass(frozen=True)
class StainTexture:
    """Extract mean and standard deviation of stains, nuclei, tissue and gradient at several scales.

    This needs neither training nor other slides. The scales are relative to the pitch: detail finer than a tenth of the
    pitch enters as standard deviation, and structure coarser than half of it is in the counts already.

    Parameters
    ----------
    scales
        Standard deviations of the Gaussian windows, in pitches.
    name
        Name in the provenance of a result.
    """

    scales: tuple[float, ...] = SCALES
    name: str = "stain-texture"

    def extract(self, image: SlideImage, spots: np.ndarray, pitch: float) -> FeatureMap:
        """Extract the features of an image around spots (N, 2) at a distance of ``pitch``."""
        statistics = stream_image_statistics(image, spots, pitch)
        layers = [_smooth_to_scale(statistics, scale * pitch) for scale in self.scales]
        names = tuple(
            f"{what}_{name}_{scale:g}"
            for scale in self.scales
            for what, channels in (("mean", statistics.names), ("spread", _spread_channels(statistics)))
            for name in channels
        )
        tissue = FeatureLayer(values=statistics.mean[[statistics.names.index("tissue")]], to_grid=statistics.to_grid)
        return FeatureMap(layers=tuple(layers), names=names, tissue=tissue, kind=statistics.stain_model.kind)


_cache: weakref.WeakKeyDictionary[SlideImage, dict[tuple[str, bytes], FeatureMap]] = weakref.WeakKeyDictionary()


def extract_features(
    image: SlideImage, spots: np.ndarray, pitch: float, extractor: FeatureExtractor | None = None
) -> FeatureMap:
    """Extract the features of an image, cached for the same extractor and spots as long as the image exists.

    Parameters
    ----------
    image
        Multiscale, possibly lazy image.
    spots
        Spot centers in the spots' own frame, shape (N, 2).
    pitch
        Distance between neighboring spots.
    extractor
        Feature extractor; None for :class:`StainTexture`.
    """
    extractor = extractor or StainTexture()
    cached = _cache.setdefault(image, {})
    key = (extractor.name, np.append(spots.ravel(), pitch).astype(np.float64).tobytes())
    if key not in cached:
        cached[key] = extractor.extract(image, spots, pitch)
    return cached[key]


def pixel_area(layout: SpotPixelMap) -> float:
    """Return the area of a pixel, the squared median distance to the next pixel; valid for any part of a slide."""
    if layout.n_pixels < 2:
        return float(layout.pitch**2)
    sample = layout.pixels[:: max(1, layout.n_pixels // _AREA_SAMPLE_PIXELS)]
    distance, _ = cKDTree(layout.pixels).query(sample, k=2)
    return float(np.median(distance[:, 1]) ** 2)


def disk_offsets(area: float, n_points: int) -> np.ndarray:
    """Return offsets (n_points, 2) that are evenly distributed over a disk of an area (sunflower arrangement)."""
    i = np.arange(n_points) + 0.5
    radius = np.sqrt(area / np.pi) * np.sqrt(i / n_points)
    angle = np.pi * (3 - np.sqrt(5)) * i
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def _spread_channels(statistics: ImageStatistics) -> tuple[str, ...]:
    """Return the channels whose standard deviation is a feature: all but masks, whose mean determines it."""
    return tuple(name for name in statistics.names if name not in ("nuclei", "tissue"))


def _smooth_to_scale(statistics: ImageStatistics, width: float) -> FeatureLayer:
    """Average the moments under a Gaussian window, on as coarse a grid as its width allows."""
    sigma = width / statistics.cell_size
    stride = max(1, int(sigma / 1.5))
    spread_index = [statistics.names.index(name) for name in _spread_channels(statistics)]

    def smooth(plane: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.gaussian_filter(plane, sigma, mode="nearest", truncate=3.0)[::stride, ::stride])

    mean = np.stack([smooth(plane) for plane in statistics.mean])
    square = np.stack([smooth(statistics.square[i]) for i in spread_index])
    spread = np.sqrt(np.maximum(square - mean[spread_index] ** 2, 0.0))
    # Cell [i] of the coarse grid has the center of cell [i * stride].
    to_coarse = np.diag([1 / stride, 1 / stride, 1.0])
    to_coarse[:2, 2] = 0.5 - 0.5 / stride
    return FeatureLayer(values=np.concatenate([mean, spread]), to_grid=to_coarse @ statistics.to_grid)


def _interpolate(layer: FeatureLayer, points: np.ndarray) -> np.ndarray:
    """Interpolate a layer bilinearly at points (n, 2), shape (n, d)."""
    n_rows, n_cols = layer.values.shape[1:]
    position = apply_affine(layer.to_grid, points) - 0.5
    x, y = np.clip(position[:, 0], 0, n_cols - 1), np.clip(position[:, 1], 0, n_rows - 1)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, bottom = np.minimum(left + 1, n_cols - 1), np.minimum(top + 1, n_rows - 1)
    a, b = (x - left).astype(np.float32), (y - top).astype(np.float32)
    values = layer.values
    upper = values[:, top, left] * (1 - a) + values[:, top, right] * a
    lower = values[:, bottom, left] * (1 - a) + values[:, bottom, right] * a
    return np.asarray((upper * (1 - b) + lower * b).T)
