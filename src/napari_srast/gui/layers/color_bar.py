"""The color bar of a gene while its own layer is hidden: napari draws a color bar only with a visible layer."""

from __future__ import annotations

from collections.abc import Callable, Container

import numpy as np
from napari.layers import Image, Layer

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.layers.factory import KEY, image_affine, world_units
from napari_srast.gui.layers.gene_colors import GeneStyle, stops_colormap

__all__ = ["ColorBar", "show_color_bar"]

_SIZE = (22, 220)  # canvas pixels; a shorter bar has one labeled tick or none
_GRAY = "#333333"  # about the gray of dimmed histology, on which transparent colors look as they do on the slide


def show_color_bar(layer: Image, *, visible: bool) -> None:
    """Show or hide the color bar of a layer: on gray in any theme, and with several labeled ticks."""
    bar = layer.colorbar
    if bar.visible != visible:
        bar.box, bar.box_color, bar.size = True, _GRAY, _SIZE
        bar.visible = visible


class ColorBar:
    """A layer without visible pixels, whose color bar is on the canvas.

    Attributes
    ----------
    layer
        The layer; None before it is created.
    """

    def __init__(self) -> None:
        self.layer: Image | None = None
        self._stops: tuple[str, ...] = ()

    def show(self, style: GeneStyle, result: UpsampleResult, slide: Slide, add: Callable[[Layer], None]) -> None:
        """Give the bar the colors and limits of a gene; its layer is created, hidden, and passed to ``add``."""
        if self.layer is None:
            self.layer = self._create(style, result, slide)
            add(self.layer)
        if style.colormap_stops != self._stops:
            self._stops = style.colormap_stops
            self.layer.colormap = stops_colormap(self._stops, "SRast color bar")
        if tuple(self.layer.contrast_limits) != style.limits:
            self.layer.contrast_limits_range = (min(0.0, style.limits[0]), 2 * style.limits[1])
            self.layer.contrast_limits = style.limits

    def keep(self, layers: Container[Layer]) -> None:
        """Forget the layer if it is not in ``layers``."""
        if self.layer not in layers:
            self.layer, self._stops = None, ()

    @staticmethod
    def _create(style: GeneStyle, result: UpsampleResult, slide: Slide) -> Image:
        matrix = result.raster.affine  # one pixel of the result, so that the layer does not extend the picture
        layer = Image(
            np.full((1, 1), np.nan, dtype=np.float32),
            name="SRast color bar",
            affine=image_affine(slide.to_cs @ matrix),
            units=world_units(slide),
            contrast_limits=style.limits,
            visible=False,
            metadata={KEY: {"role": "color_bar", "to_intrinsic": matrix}},
        )
        show_color_bar(layer, visible=True)
        return layer
