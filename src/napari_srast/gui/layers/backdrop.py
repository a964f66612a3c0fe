"""What is below the genes: the histology as dimmed luminance, so that the colors of genes stay clean.

At full brightness the histology is unchanged; below, its luminance covers the colored image, and becomes darker.
Histology of several stains is darkened by a black layer instead. Without histology the background is black, because
colors that are added need one in any theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Layer

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.layers.factory import KEY, black_layer, dimmer_extent, image_affine, world_units

__all__ = ["Backdrop", "luminance"]

_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
_COLORLESS = 0.6  # brightness up to which only the luminance is visible
_PERCENTILES = (1.0, 99.5)  # of the luminance: its black and its white
_TOE = 0.15  # gray of the darkest tissue
_GAMMA = 0.8
_MAX_SAMPLED = 4_000_000  # pixels of the coarsest level from which the percentiles are computed


class Backdrop:
    """The layer between histology and genes.

    Parameters
    ----------
    layer
        The layer.
    contrast
        Black and white of the luminance that it shows; None if it is black.
    histology
        Layers that it covers: if the user hides all of them, the backdrop is black.
    brightness
        Brightness of the histology, 0 (black) to 1 (unchanged).
    has_histology
        Whether there is histology; without it the backdrop is always black.
    """

    def __init__(
        self,
        layer: Image,
        contrast: tuple[float, float] | None,
        histology: Sequence[Layer],
        brightness: float,
        has_histology: bool = True,
    ) -> None:
        self.layer = layer
        self._has_histology = has_histology
        self._contrast = contrast
        self._histology = histology
        self._brightness = brightness
        for other in histology:
            other.events.visible.connect(self._update)
        self._update()

    @classmethod
    def of_slide(
        cls, slide: Slide, result: UpsampleResult, brightness: float, histology: Sequence[Layer] = ()
    ) -> Backdrop:
        """Create the backdrop of a slide; the hidden layer is not yet in the viewer."""
        to_intrinsic = dimmer_extent(slide, result)
        metadata = {"role": "dimmer", "to_intrinsic": to_intrinsic}
        if slide.image is None or not slide.image.is_color:
            layer = black_layer("SRast backdrop", slide, slide.to_cs @ to_intrinsic, 1.0, metadata)
            return cls(layer, None, histology, brightness, has_histology=slide.image is not None)
        metadata["to_intrinsic"] = slide.image.to_intrinsic[0]
        levels = [luminance(level) for level in slide.image.levels]
        to_world = slide.to_cs @ slide.image.to_intrinsic[0]
        return cls(_gray_layer(levels, slide, to_world, metadata), _contrast(levels[-1]), histology, brightness)

    @classmethod
    def of_crop(cls, pixels: np.ndarray, slide: Slide, to_world: np.ndarray, brightness: float) -> Backdrop:
        """Create the backdrop of a color image, shape (rows, columns, channels), with its (3, 3) affine, (x, y)."""
        gray = luminance(np.moveaxis(pixels, -1, 0))
        assert slide.image is not None
        contrast = _contrast(luminance(slide.image.levels[-1]))
        return cls(_gray_layer([gray], slide, to_world, {"role": "side_by_side"}), contrast, (), brightness)

    @classmethod
    def black(cls, layer: Image, brightness: float) -> Backdrop:
        """Use a black layer that darkens what is below it."""
        return cls(layer, None, (), brightness)

    def set_brightness(self, brightness: float) -> None:
        """Set the brightness of the histology, 0 (black) to 1 (unchanged)."""
        self._brightness = brightness
        self._update()

    def fit(self, slide: Slide, result: UpsampleResult) -> None:
        """Cover another result of the slide; call ``update_transforms`` afterwards."""
        if slide.image is None:
            self.layer.metadata[KEY]["to_intrinsic"] = dimmer_extent(slide, result)

    def disconnect(self) -> None:
        """Disconnect from the layers of the histology."""
        for other in self._histology:
            other.events.visible.disconnect(self._update)

    def _update(self, event: object = None) -> None:
        hidden = bool(self._histology) and not any(other.visible for other in self._histology)
        brightness = 0.0 if hidden else self._brightness
        if self._contrast is None:
            self.layer.opacity = 1.0 - brightness if self._has_histology else 1.0
            return
        black, white = self._contrast
        self.layer.opacity = min(1.0, (1.0 - brightness) / (1.0 - _COLORLESS))
        self.layer.contrast_limits = (black, black + (white - black) / max(_level(brightness), 1e-3))


def luminance(channels: Any) -> Any:
    """Return the luminance of a color image, shape (channels, rows, columns), in its type; Dask arrays stay lazy."""
    total = sum(weight * channels[i] for i, weight in enumerate(_WEIGHTS))
    return total.astype(channels.dtype)


def _contrast(gray: Any) -> tuple[float, float]:
    """Return the black and the white of a luminance."""
    step = max(1, int(np.ceil(np.sqrt(gray.size / _MAX_SAMPLED))))
    if step > 1 and not isinstance(gray, np.ndarray):  # to read it would take long
        return (0.0, float(np.iinfo(gray.dtype).max) if np.issubdtype(gray.dtype, np.integer) else 1.0)
    black, white = np.percentile(np.asarray(gray)[::step, ::step], _PERCENTILES)
    black = max(0.0, black - _TOE * (white - black))
    return float(black), float(max(white, black + 1e-6))


def _level(brightness: float) -> float:
    """Return the gray of the brightest tissue: medium brightness is raised, because dark tissue is hard to read."""
    return float(brightness**_GAMMA)


def _gray_layer(levels: list[Any], slide: Slide, to_world: np.ndarray, metadata: dict[str, Any]) -> Image:
    return Image(
        levels if len(levels) > 1 else levels[0],
        multiscale=len(levels) > 1,
        name="SRast backdrop",
        colormap="gray",
        contrast_limits=(0, 1),
        affine=image_affine(to_world),
        units=world_units(slide),
        blending="translucent_no_depth",
        metadata={KEY: metadata},
    )


def blended_histology(channels: np.ndarray, brightness: float, *, is_color: bool) -> np.ndarray:
    """Return the histology as the backdrop shows it: shape (rows, columns, 3), or (rows, columns) for stains.

    Parameters
    ----------
    channels
        Channels of the image, shape (channels, rows, columns); of several stains the first is used.
    brightness
        Brightness, 0 (black) to 1 (unchanged).
    is_color
        Whether the channels are red, green and blue.
    """
    white = float(np.iinfo(channels.dtype).max) if np.issubdtype(channels.dtype, np.integer) else 1.0
    if not is_color:
        return np.clip(channels[0] / max(float(channels[0].max()), 1e-12), 0, 1) * brightness
    gray = luminance(channels).astype(float)
    low, high = _contrast(gray)
    gray = np.clip((gray - low) / (high - low), 0, 1) * _level(brightness)
    covered = min(1.0, (1.0 - brightness) / (1.0 - _COLORLESS))
    colors = np.moveaxis(channels[:3], 0, -1) / white
    return np.asarray(covered * gray[..., None] + (1 - covered) * colors)
