"""The layer that shows cells, each in one color.

Shape legend: C cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer
from napari.utils.colormaps import Colormap

from napari_srast.core.slide import Slide
from napari_srast.gui.layers.factory import KEY, image_affine, remove_layers, update_transforms, world_units
from napari_srast.gui.layers.layer_stack import LayerStack
from napari_srast.gui.layers.own_changes import OwnChanges
from napari_srast.gui.state.cell_raster import CellRaster

__all__ = ["CellLayer"]

_NAME = "SRast cells"


class CellLayer:
    """An image layer of cells: one with the colors of several genes, or one with values, a colormap and a color bar.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    raster
        Which pixel shows which cell.
    slide
        The slide, in its chosen coordinate system.
    stack
        Places the layer among those of the slide.
    layers_below
        Returns the layers of the result, which are below it.
    on_limits
        Called with the contrast limits that the user has set in napari's layer controls.
    on_visible
        Called after the user has shown or hidden the layer in napari's layer list.

    Attributes
    ----------
    layer
        The layer; None before it is colored, and after the user has removed it.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        raster: CellRaster,
        slide: Slide,
        stack: LayerStack,
        layers_below: Callable[[], list[Layer]],
        on_limits: Callable[[tuple[float, float]], None],
        on_visible: Callable[[], None],
    ) -> None:
        self.layer: Image | None = None
        self.raster = raster
        self._viewer = viewer
        self._slide = slide
        self._stack = stack
        self._layers_below = layers_below
        self._on_limits = on_limits
        self._on_visible = on_visible
        self._own_changes = OwnChanges()
        self._outlines: np.ndarray | None = None

    def show_colors(self, colors: np.ndarray, *, is_added: bool = False, outlines: bool = False) -> None:
        """Show a color for each cell.

        Parameters
        ----------
        colors
            Red, green, blue and opacity of each cell, 0 to 1, shape (C, 4).
        is_added
            Whether they are added to the histology instead of covering it.
        outlines
            Whether only the edges of the cells are shown.
        """
        table = np.zeros((len(colors) + 1, 4), dtype=np.uint8)
        table[1:] = np.rint(255 * np.clip(colors, 0, 1)).astype(np.uint8)
        numbers = self._numbers(outlines)
        # One lookup of 32 bits instead of four of 8.
        pixels = table.view(np.uint32)[:, 0][numbers].view(np.uint8).reshape(*numbers.shape, 4)
        self._set(pixels, rgb=True, is_added=is_added)

    def show_values(
        self, values: np.ndarray, limits: tuple[float, float], colormap: Colormap, *, is_added: bool = False
    ) -> None:
        """Show a value for each cell, with a color bar.

        Parameters
        ----------
        values
            Value of each cell, shape (C,); NaN is transparent.
        limits
            Contrast limits.
        colormap
            Their colors.
        is_added
            Whether they are added to the histology instead of covering it.
        """
        table = np.concatenate([[np.nan], values]).astype(np.float32)
        layer = self._set(table[self.raster.numbers], rgb=False, is_added=is_added)
        with self._own_changes:
            layer.colormap = colormap
            layer.contrast_limits_range = (min(0.0, limits[0]), 2 * limits[1])
            layer.contrast_limits = limits

    def set_visible(self, *, is_visible: bool) -> None:
        """Show or hide the layer."""
        if self.layer is not None and bool(self.layer.visible) != is_visible:
            with self._own_changes:
                self.layer.visible = is_visible

    def _numbers(self, outlines: bool) -> np.ndarray:
        if not outlines:
            return self.raster.numbers
        if self._outlines is None:
            self._outlines = self.raster.outlines()
        return self._outlines

    def _set(self, data: np.ndarray, *, rgb: bool, is_added: bool) -> Image:
        """Replace the data of the layer; a layer of the other kind is replaced, too."""
        blending = "additive" if is_added else "translucent_no_depth"
        if self.layer is not None and bool(self.layer.rgb) == rgb:
            self.layer.data = data
            if self.layer.blending != blending:
                self.layer.blending = blending
            return self.layer
        self.remove()
        options: dict[str, Any] = {} if rgb else {"contrast_limits": (0.0, 1.0)}
        self.layer = layer = Image(
            data,
            rgb=rgb,
            name=_NAME,
            affine=image_affine(self._slide.to_cs @ self.raster.to_intrinsic),
            units=world_units(self._slide),
            blending=blending,
            metadata={KEY: {"role": "cells", "to_intrinsic": self.raster.to_intrinsic}},
            **options,
        )
        if not rgb:
            layer.colorbar.box = True  # readable over the histology
            layer.colorbar.visible = True
            layer.events.contrast_limits.connect(self._on_contrast)
        layer.events.visible.connect(self._on_visibility)
        self._stack.insert(layer, above=self._layers_below())
        return layer

    def _on_contrast(self, event: object = None) -> None:
        if not self._own_changes and self.layer is not None:
            low, high = self.layer.contrast_limits
            self._on_limits((float(low), float(high)))

    def _on_visibility(self, event: object = None) -> None:
        if not self._own_changes:
            self._on_visible()

    def move(self, slide: Slide) -> None:
        """Move the layer to the coordinate system that was chosen for the slide."""
        self._slide = slide
        if self.layer is not None:
            update_transforms([self.layer], slide)

    def remove(self) -> None:
        """Remove the layer from the viewer."""
        layer, self.layer = self.layer, None
        if layer is not None:
            remove_layers(self._viewer.layers, [layer])
