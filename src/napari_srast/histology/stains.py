"""Pixels of any image as channels on a physical scale: optical density and stains, or fluorescence.

Bright-field images are read as optical density, which is linear in the amount of stain (Beer-Lambert), and color ones
also as hematoxylin and eosin (Ruifrok and Johnston 2001). Images on a dark ground, and those with other numbers of
channels, are read as fluorescence: the logarithm of the intensity above the ground, channel by channel.

Shape legend: C channels of the file, S channels made of them, y rows, x columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

__all__ = ["StainModel", "choose_stain_model", "read_channels"]

ImageKind = Literal["color", "gray", "fluorescence"]

_DARKEST = 1 / 255  # of the ground's brightness: beyond, the camera sees nothing
_VOID = 0.02  # of the ground, in every channel: darker than any stain; what turning and masking leave at the rim
_ALIKE = 0.02  # of the ground, by which channels differ in a gray picture that is stored as a color one
_MOST_CHANNELS = 6  # of fluorescence: the ones that vary most
_RGB = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class StainModel:
    """How an image's values are to be read, decided once on a sample of its pixels.

    Parameters
    ----------
    kind
        "color" (bright ground, red, green and blue), "gray" (bright ground) or "fluorescence" (dark ground).
    channels
        Channels of the file that are read, shape (C',).
    ground
        Value of each at no stain (bright field) or no signal (fluorescence), shape (C',).
    span
        Fluorescence: from the ground to the brightest hundredth, shape (C',); 1 elsewhere.
    nuclei
        Threshold above which a value of the nuclear channel counts as a nucleus, and
    tissue
        above which the mean density counts as tissue.
    """

    kind: ImageKind
    channels: np.ndarray
    ground: np.ndarray
    span: np.ndarray
    nuclei: float = 0.0
    tissue: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels that :func:`read_channels` returns, length S."""
        if self.kind == "color":
            return ("red", "green", "blue", "hematoxylin", "eosin")
        return ("density",) if self.kind == "gray" else tuple(f"channel_{i}" for i in self.channels)


def choose_stain_model(sample: np.ndarray, names: Sequence[str] = ()) -> StainModel:
    """Decide how an image is to be read.

    Parameters
    ----------
    sample
        Some of its pixels over all of its area, shape (C, y, x), as stored: any integer or float type.
    names
        Names of its channels; one called "a" or "alpha" is left out.
    """
    n_channels = sample.shape[0]
    opaque = [i for i in range(n_channels) if not (i < len(names) and str(names[i]).casefold() in ("a", "alpha"))]
    if n_channels == 4 and len(opaque) == 4 and not names:
        opaque = opaque[:_RGB]
    flat = sample[opaque].reshape(len(opaque), -1).astype(np.float64)
    flat = np.where(np.isfinite(flat), flat, 0.0)
    low, high = np.percentile(flat, [1, 99], axis=1)
    bright = len(opaque) in (1, _RGB) and _bright(flat / np.maximum(high, 1e-12)[:, None])
    if bright:
        kind: ImageKind = "color" if len(opaque) == _RGB else "gray"
        reading = StainModel(
            kind=kind, channels=np.array(opaque), ground=np.maximum(high, 1e-12), span=np.ones(len(opaque))
        )
    else:
        chosen = np.sort(np.argsort(-(high - low) / np.maximum(high, 1e-12), kind="stable")[:_MOST_CHANNELS])
        reading = StainModel(
            kind="fluorescence",
            channels=np.array(opaque)[chosen],
            ground=low[chosen],
            span=np.maximum(high - low, 1e-12)[chosen],
        )
    stains = read_channels(sample, reading)
    density = _overall(stains, reading)
    tissue = _split(density)
    nuclear = stains[_nuclear(reading)]
    stained = nuclear[density > tissue]
    return StainModel(
        kind=reading.kind,
        channels=reading.channels,
        ground=reading.ground,
        span=reading.span,
        nuclei=_split(stained if stained.size else nuclear),
        tissue=tissue,
    )


def _bright(shares: np.ndarray) -> bool:
    """Tell a bright field from fluorescence by the pixels' shares of the brightest, shape (C, n), C being 1 or 3.

    Of a bright field much is bare glass, in every channel as bright as anything; of fluorescence much is dark.
    """
    least = shares.min(axis=0)
    gray = len(shares) == 1 or bool(np.percentile(np.ptp(shares, axis=0), 99) < _ALIKE)
    if gray:
        darkest = np.percentile(least, 1)  # cameras add a constant to darkness
        return bool(np.mean(least > 0.8) > np.mean(least < darkest + 0.2 * (1 - darkest)))
    least = least[(shares > _VOID).any(axis=0)]  # a color picture may be masked, or turned on a black ground
    return least.size > 0 and bool(np.mean(least > 0.8) > 0.1)


def read_channels(pixels: np.ndarray, reading: StainModel) -> np.ndarray:
    """Turn pixels (C, y, x), as stored, into channels, float32 (S, y, x)."""
    values = pixels[reading.channels].astype(np.float32)
    known = np.isfinite(values)
    values = np.where(known, values, 0.0)
    ground = reading.ground.astype(np.float32)[:, None, None]
    if reading.kind == "fluorescence":
        signal = np.maximum(values - ground, 0.0) / reading.span.astype(np.float32)[:, None, None]
        return np.log1p(10 * signal)
    share = np.clip(values / ground, _DARKEST, 1.0)
    share = np.where((share <= _VOID).all(axis=0) | ~known.all(axis=0), np.float32(1.0), share)
    density = -np.log(share)
    if reading.kind == "gray":
        return density
    # skimage warns of nothing and clips stains at 0, which is what is wanted: less than no stain is noise.
    stains = rgb2hed(np.moveaxis(share, 0, -1))[..., :2].astype(np.float32)
    return np.concatenate([density, np.moveaxis(stains, -1, 0)])


def derived(stains: np.ndarray, reading: StainModel) -> tuple[np.ndarray, np.ndarray]:
    """Return overall density (y, x), and the masks of nuclei and tissue, float32 (2, y, x)."""
    density = _overall(stains, reading)
    nuclei = stains[_nuclear(reading)] > reading.nuclei
    tissue = density > reading.tissue
    return density, np.stack([nuclei & tissue, tissue]).astype(np.float32)


def _overall(stains: np.ndarray, reading: StainModel) -> np.ndarray:
    """Return how much there is of anything: mean optical density, or mean signal."""
    return np.asarray(stains[:_RGB].mean(axis=0) if reading.kind == "color" else stains.mean(axis=0))


def _nuclear(reading: StainModel) -> int:
    """Return the channel that shows nuclei: hematoxylin, else the first (DAPI by custom)."""
    return _RGB if reading.kind == "color" else 0


def _split(values: np.ndarray) -> float:
    """Return Otsu's threshold, or a value that nothing exceeds where all are the same."""
    flat = values.ravel()
    return float(threshold_otsu(flat)) if flat.size and np.ptp(flat) > 0 else float("inf")
