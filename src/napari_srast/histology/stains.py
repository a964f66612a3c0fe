"""Convert image pixels to channels on a physical scale: optical density and stains, or fluorescence.

Bright-field images are converted to optical density, which is linear in the amount of stain (Beer-Lambert law), and
color images also to hematoxylin and eosin (color deconvolution of Ruifrok and Johnston, 2001). Images on a dark
background, and those with other numbers of channels, are treated as fluorescence: the logarithm of the intensity above
the background, channel by channel.

Shape legend: C channels of the file, C' channels in use, S channels computed from them, y rows, x columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

__all__ = ["StainModel", "fit_stain_model", "to_stain_channels"]

ImageKind = Literal["color", "gray", "fluorescence"]

_MIN_TRANSMISSION = 1 / 255  # relative to the background: cameras do not resolve less
_MAX_VOID = 0.02  # relative brightness in every channel, darker than any stain: left by rotation and masking
_MAX_GRAY_DIFFERENCE = 0.02  # relative difference of channels in a gray image that is stored as color
_MAX_CHANNELS = 6  # of fluorescence: those that vary most
_N_RGB = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class StainModel:
    """Hold how the pixel values of an image are converted, estimated once from a sample of its pixels.

    Parameters
    ----------
    kind
        "color" (bright background, red, green and blue), "gray" (bright background) or "fluorescence" (dark
        background).
    channels
        Indices of the file's channels in use, shape (C',).
    background
        Value of each channel without stain (bright field) or without signal (fluorescence), shape (C',).
    signal_range
        Fluorescence: 99th percentile minus background, shape (C',); 1 for other kinds.
    nuclei_threshold
        Value of the nuclear channel above which a pixel is a nucleus.
    tissue_threshold
        Mean density above which a pixel is tissue.
    """

    kind: ImageKind
    channels: np.ndarray
    background: np.ndarray
    signal_range: np.ndarray
    nuclei_threshold: float = 0.0
    tissue_threshold: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels that :func:`to_stain_channels` returns, length S."""
        if self.kind == "color":
            return ("red", "green", "blue", "hematoxylin", "eosin")
        return ("density",) if self.kind == "gray" else tuple(f"channel_{i}" for i in self.channels)


def fit_stain_model(sample: np.ndarray, names: Sequence[str] = ()) -> StainModel:
    """Estimate kind, background and thresholds of an image from a sample of its pixels.

    Parameters
    ----------
    sample
        Pixels from the whole area of the image, shape (C, y, x), as stored: any integer or float type.
    names
        Channel names, or none; a channel named "a" or "alpha" is excluded. Without names, the fourth of four channels
        is excluded as opacity.
    """
    n_channels = sample.shape[0]
    opaque = [i for i in range(n_channels) if not (i < len(names) and str(names[i]).casefold() in ("a", "alpha"))]
    if n_channels == 4 and len(opaque) == 4 and not names:
        opaque = opaque[:_N_RGB]
    flat = sample[opaque].reshape(len(opaque), -1).astype(np.float64)
    flat = np.where(np.isfinite(flat), flat, 0.0)
    low, high = np.percentile(flat, [1, 99], axis=1)
    bright = len(opaque) in (1, _N_RGB) and _is_bright_field(flat / np.maximum(high, 1e-12)[:, None])
    if bright:
        kind: ImageKind = "color" if len(opaque) == _N_RGB else "gray"
        stain_model = StainModel(
            kind=kind, channels=np.array(opaque), background=np.maximum(high, 1e-12), signal_range=np.ones(len(opaque))
        )
    else:
        chosen = np.sort(np.argsort(-(high - low) / np.maximum(high, 1e-12), kind="stable")[:_MAX_CHANNELS])
        stain_model = StainModel(
            kind="fluorescence",
            channels=np.array(opaque)[chosen],
            background=low[chosen],
            signal_range=np.maximum(high - low, 1e-12)[chosen],
        )
    stains = to_stain_channels(sample, stain_model)
    density = _overall_density(stains, stain_model)
    tissue = _otsu_threshold(density)
    nuclear = stains[_nuclear_channel(stain_model)]
    stained = nuclear[density > tissue]
    return StainModel(
        kind=stain_model.kind,
        channels=stain_model.channels,
        background=stain_model.background,
        signal_range=stain_model.signal_range,
        nuclei_threshold=_otsu_threshold(stained if stained.size else nuclear),
        tissue_threshold=tissue,
    )


def _is_bright_field(brightness: np.ndarray) -> bool:
    """Distinguish bright field from fluorescence.

    Much of a bright-field image is bare glass, as bright as its brightest pixels in every channel. Much of a
    fluorescence image is dark.

    Parameters
    ----------
    brightness
        Brightness of n pixels relative to the 99th percentile of the channel, shape (C, n) with C = 1 or 3.
    """
    darkest_channel = brightness.min(axis=0)
    gray = len(brightness) == 1 or bool(np.percentile(np.ptp(brightness, axis=0), 99) < _MAX_GRAY_DIFFERENCE)
    if gray:
        darkest = np.percentile(darkest_channel, 1)  # cameras add a constant to dark pixels
        return bool(np.mean(darkest_channel > 0.8) > np.mean(darkest_channel < darkest + 0.2 * (1 - darkest)))
    darkest_channel = darkest_channel[
        (brightness > _MAX_VOID).any(axis=0)
    ]  # an image may be masked, or rotated on black
    return darkest_channel.size > 0 and bool(np.mean(darkest_channel > 0.8) > 0.1)


def to_stain_channels(pixels: np.ndarray, stain_model: StainModel) -> np.ndarray:
    """Convert pixels to channels: optical density and stains, or log fluorescence.

    Parameters
    ----------
    pixels
        Pixels as stored, shape (C, y, x). Pixels that are not finite count as bare glass or as no signal.
    stain_model
        Conversion of this image.

    Returns
    -------
    np.ndarray
        Channels in the order of :attr:`StainModel.names`, float32, shape (S, y, x).
    """
    values = pixels[stain_model.channels].astype(np.float32)
    finite = np.isfinite(values)
    values = np.where(finite, values, 0.0)
    background = stain_model.background.astype(np.float32)[:, None, None]
    if stain_model.kind == "fluorescence":
        signal = np.maximum(values - background, 0.0) / stain_model.signal_range.astype(np.float32)[:, None, None]
        return np.log1p(10 * signal)
    transmission = np.clip(values / background, _MIN_TRANSMISSION, 1.0)
    transmission = np.where(
        (transmission <= _MAX_VOID).all(axis=0) | ~finite.all(axis=0), np.float32(1.0), transmission
    )
    density = -np.log(transmission)
    if stain_model.kind == "gray":
        return density
    # skimage clips stains at 0: negative amounts of stain are noise.
    stains = rgb2hed(np.moveaxis(transmission, 0, -1))[..., :2].astype(np.float32)
    return np.concatenate([density, np.moveaxis(stains, -1, 0)])


def density_and_masks(stains: np.ndarray, stain_model: StainModel) -> tuple[np.ndarray, np.ndarray]:
    """Compute the overall density, and the masks of nuclei and tissue.

    Parameters
    ----------
    stains
        Channels from :func:`to_stain_channels`, shape (S, y, x).
    stain_model
        Conversion of this image.

    Returns
    -------
    density
        Mean optical density or mean signal, shape (y, x).
    masks
        Nuclei and tissue, 0 or 1, float32, shape (2, y, x).
    """
    density = _overall_density(stains, stain_model)
    nuclei = stains[_nuclear_channel(stain_model)] > stain_model.nuclei_threshold
    tissue = density > stain_model.tissue_threshold
    return density, np.stack([nuclei & tissue, tissue]).astype(np.float32)


def _overall_density(stains: np.ndarray, stain_model: StainModel) -> np.ndarray:
    """Return the mean optical density over red, green and blue, or the mean over all channels, shape (y, x)."""
    return np.asarray(stains[:_N_RGB].mean(axis=0) if stain_model.kind == "color" else stains.mean(axis=0))


def _nuclear_channel(stain_model: StainModel) -> int:
    """Return the index of the channel that shows nuclei: hematoxylin, otherwise the first (DAPI by convention)."""
    return _N_RGB if stain_model.kind == "color" else 0


def _otsu_threshold(values: np.ndarray) -> float:
    """Return Otsu's threshold, or infinity if all values are equal."""
    flat = values.ravel()
    return float(threshold_otsu(flat)) if flat.size and np.ptp(flat) > 0 else float("inf")
