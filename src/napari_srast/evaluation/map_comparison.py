"""Compare gene maps pixel by pixel: correlation, structural similarity, seams between spots, log-normalization.

Shape legend: Q pixels, F genes of a block, E pairs of touching pixels.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, sparse

from napari_srast.geometry.raster import Raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["Seams", "correlate", "correlate_maps", "log_normalize", "log_scale", "noise_ceiling", "similarity"]

_TARGET = 10_000.0  # counts that a pixel's total is scaled to


def log_normalize(values: np.ndarray, pixel_totals: np.ndarray) -> np.ndarray:
    """Return ``log(1 + 10,000 values / total of the pixel)``, 0 in pixels without counts, shape (Q, F).

    Parameters
    ----------
    values
        Non-negative counts or rates, shape (Q, F).
    pixel_totals
        Total of each pixel over all genes, of which a block may hold only some, shape (Q,).
    """
    scale = np.divide(_TARGET, pixel_totals, out=np.zeros(len(pixel_totals)), where=np.asarray(pixel_totals) > 0)
    return np.log1p(np.maximum(values, 0.0) * scale[:, None])


def log_scale(values: np.ndarray, pixel_totals: np.ndarray) -> np.ndarray:
    """Return ``log(1 + 10,000 values / mean total of the pixels)``, shape (Q, F).

    Unlike :func:`log_normalize` it has one factor for all pixels, so that the map keeps its totals. Arguments are the
    same.
    """
    return np.log1p(np.maximum(values, 0.0) * (_TARGET / max(float(np.mean(pixel_totals)), 1e-300)))


def correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate the columns of two centered (Q, F) arrays: NaN if the first is flat, 0 if the second is."""
    power_a, power_b = np.sum(a * a, axis=0), np.sum(b * b, axis=0)
    flat = 1e-12 * len(a)
    both = np.sqrt(np.where(power_b > flat, power_a * power_b, 1.0))
    value = np.where(
        power_b > flat, np.divide(np.sum(a * b, axis=0), both, out=np.zeros_like(both), where=both > 0), 0.0
    )
    return np.where(power_a > flat, value, np.nan)


def correlate_maps(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Correlate the columns of two (Q, F) maps; see :func:`correlate`."""
    return correlate(truth - truth.mean(axis=0), prediction - prediction.mean(axis=0))


def noise_ceiling(half: np.ndarray, other_half: np.ndarray) -> np.ndarray:
    """Return the largest correlation with ``half`` that a prediction can reach on average, shape (F,).

    If two maps are the same signal with independent noise of the same size, their correlation c is the fraction of
    their variance that is signal, and the signal itself correlates with each of them by sqrt(c) (Spearman's correction
    for attenuation, 1904). NaN for a flat map, 0 if the halves are uncorrelated.

    Parameters
    ----------
    half, other_half
        Maps of two halves of the counts, shape (Q, F).
    """
    value = correlate_maps(half, other_half)
    return np.sqrt(np.where(np.isnan(value), np.nan, np.maximum(value, 0.0)))


def similarity(raster: Raster, truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return the structural similarity of two gene maps over pixels with a parent; other pixels are 0.

    SSIM after Wang et al. 2004 (doi:10.1109/TIP.2003.819861) with a Gaussian window of 1.5 pixels and the range of the
    truth.

    Parameters
    ----------
    raster
        Raster of the pixels.
    truth, prediction
        Values of the pixels, shape (Q,).
    """
    a, b = np.zeros(raster.shape), np.zeros(raster.shape)
    a[raster.row, raster.col], b[raster.row, raster.col] = truth, prediction

    def blur(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, 1.5, truncate=3.5)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, both = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    span = np.ptp(truth) or 1.0
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    image = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(image[raster.row, raster.col].mean())


class Seams:
    """Differences between touching pixels, across the borders of spots and inside spots.

    Parameters
    ----------
    layout
        Spots and pixels.
    """

    def __init__(self, layout: SpotPixelMap) -> None:
        first, second = layout.adjacent_pixels
        inside = layout.parent[first] == layout.parent[second]
        size = len(first)
        jump = sparse.csr_matrix(
            (np.repeat([1.0, -1.0], size), (np.tile(np.arange(size), 2), np.concatenate([first, second]))),
            shape=(size, layout.n_pixels),
        )
        self._across, self._within = jump[~inside], jump[inside]

    def jumps(self, values: np.ndarray) -> np.ndarray:
        """Return the mean absolute differences across and inside spots, added up over the columns of (Q, F): (2,)."""
        return np.array(
            [np.abs(pairs @ values).sum() / max(pairs.shape[0], 1) for pairs in (self._across, self._within)]
        )
