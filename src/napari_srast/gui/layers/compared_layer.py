"""The layer that a result is compared with, in the colors and on the scale of the displayed genes.

It shows the measured counts on their spots, or another result on the same pixels, such as one made without the
histology.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from napari.layers import Image, Layer, Points

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.layers.color_bar import ColorBar
from napari_srast.gui.layers.factory import KEY, image_affine, measured_layer, update_transforms, world_units
from napari_srast.gui.layers.gene_colors import GeneStyle
from napari_srast.gui.layers.spot_image import set_image
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.gene_values import GeneValues, ValueView
from napari_srast.gui.state.spot_grid import SpotGrid

__all__ = [
    "ColorOptions",
    "ComparedLayer",
    "blend_colors",
    "compared_pixels_layer",
    "pixel_colors",
    "same_pixels",
    "spot_colors",
]


@dataclass(frozen=True)
class ColorOptions:
    """How values become colors.

    Parameters
    ----------
    styles
        Styles of the displayed genes.
    shared_opacity
        Factor on the opacity of all genes.
    view
        Which values are shown, and their scale.
    kind
        "values", or "std" for the standard deviation of the counts of pixels.
    """

    styles: tuple[GeneStyle, ...]
    shared_opacity: float
    view: ValueView
    kind: Literal["values", "std"] = "values"


class ComparedLayer:
    """The layer of the view "before", and the colors of any layer that shows what a result is compared with.

    Attributes
    ----------
    layer
        The layer of the view "before"; None before it is created.
    color_bar
        The color bar of this view, for one gene.
    """

    def __init__(self) -> None:
        self.layer: Layer | None = None
        self.color_bar = ColorBar()
        self._colored: tuple[Any, ...] = ()  # the layer that was colored last, and all that its colors depend on

    @property
    def layers(self) -> list[Layer]:
        """The layers of the view "before" that have been created."""
        return [layer for layer in (self.layer, self.color_bar.layer) if layer is not None]

    def visible(self, n_genes: int) -> dict[Layer, bool]:
        """Return whether each layer is visible while the view "before" shows some genes; 0 for another view."""
        return {layer: n_genes == 1 if layer is self.color_bar.layer else n_genes > 0 for layer in self.layers}

    def keep(self, layers: Container[Layer]) -> None:
        """Forget layers that are not in ``layers``."""
        self.layer = self.layer if self.layer in layers else None
        self.color_bar.keep(layers)

    def create(self, result: UpsampleResult, other: DisplayedResult | None, slide: Slide) -> Layer:
        """Create the layer for measured spots, or (with ``other``) for the pixels of another result."""
        layer = measured_layer(result.slide) if other is None else compared_pixels_layer(other.result, slide)
        update_transforms([layer], slide)
        self.layer = layer
        return layer

    def set_colors(
        self,
        layer: Layer,
        values: GeneValues,
        other: DisplayedResult | None,
        colors: ColorOptions,
    ) -> None:
        """Set the colors of a layer unless it has them already, so that switching between before and after is quick.

        Parameters
        ----------
        layer
            A layer of spots or pixels.
        values
            Values of the displayed result.
        other
            The result that it is compared with; None for the measured counts.
        colors
            How values become colors.
        """
        key = (layer, values, other, colors)
        if key == self._colored:
            return
        rgba = spot_colors(values, colors) if other is None else pixel_colors(other.values, colors)
        grid = _grid_of(layer)
        if other is None and _n_spots(layer, grid) < len(rgba):
            rgba = rgba[values.result.raster.n_pixels_per_spot > 0]
        _set_colors(layer, rgba, "additive" if _adds(colors.styles) else "translucent_no_depth", grid)
        if isinstance(layer, Image) and grid is None and layer.interpolation2d != colors.view.interpolation:
            layer.interpolation2d = colors.view.interpolation
        self._colored = key

    def forget_colors(self) -> None:
        """Color the next layer in any case."""
        self._colored = ()


def spot_colors(values: GeneValues, colors: ColorOptions) -> np.ndarray:
    """Return the colors of all spots, shape (N, 4): measured counts divided evenly among the pixels of each spot.

    Spots without pixels are transparent.

    Parameters
    ----------
    values
        Values of the result whose slide holds the measured counts.
    colors
        How values become colors.
    """
    has_pixels = values.result.raster.n_pixels_per_spot > 0
    rgba = np.zeros((len(has_pixels), 4))
    measured = [values.of_spots(style.gene, colors.view)[has_pixels] for style in colors.styles]
    rgba[has_pixels] = blend_colors(measured, colors)
    return rgba


def pixel_colors(values: GeneValues, colors: ColorOptions) -> np.ndarray:
    """Return the colors of a raster, shape (rows, columns, 4); positions without a pixel are transparent."""
    rgba = blend_colors([_of_pixels(values, style.gene, colors) for style in colors.styles], colors)
    return np.nan_to_num(np.stack([values.result.raster.to_image(channel) for channel in rgba.T], axis=-1))


def _of_pixels(values: GeneValues, gene: str, colors: ColorOptions) -> np.ndarray:
    """Return what is shown of a gene in all pixels, shape (Q,)."""
    if colors.kind == "values":
        return values.of_pixels(gene, colors.view)
    raster = values.result.raster
    std: np.ndarray = values.result.gene_image(gene, "std")[raster.row, raster.col]
    return std


def blend_colors(values: Sequence[np.ndarray], options: ColorOptions) -> np.ndarray:
    """Return the colors, shape (n, 4), of values as napari blends the layers of genes.

    Parameters
    ----------
    values
        Values of each gene, shape (n,).
    options
        How values become colors.
    """
    styles, shared_opacity = options.styles, options.shared_opacity
    if not _adds(styles):
        colors = styles[0].rgba(values[0])
        colors[:, 3] *= shared_opacity * styles[0].opacity
        return colors
    total = np.zeros((len(values[0]) if values else 0, 4))
    for style, of_gene in zip(styles, values, strict=True):
        colors = style.rgba(of_gene)
        total[:, :3] += colors[:, :3] * colors[:, 3:] * shared_opacity * style.opacity
    total[:, 3] = 1.0
    return np.minimum(total, 1)


def _adds(styles: Sequence[GeneStyle]) -> bool:
    """Return whether the colors of genes are added to the histology; those of one gene may cover it instead."""
    return len(styles) != 1 or styles[0].is_additive


def same_pixels(one: UpsampleResult, other: UpsampleResult) -> bool:
    """Return whether two results of a slide have the same pixels and the second has all genes of the first."""
    first, second = one.raster, other.raster
    return (
        first.shape == second.shape
        and np.allclose(first.affine, second.affine)
        and np.array_equal(first.row, second.row)
        and np.array_equal(first.col, second.col)
        and set(one.genes) <= set(other.genes)
    )


def _grid_of(layer: Layer) -> SpotGrid | None:
    """Return the grid of spots that are shown as an image; None for points, and for the pixels of a result."""
    grid = layer.metadata[KEY].get("grid")
    return grid if isinstance(grid, SpotGrid) else None


def _n_spots(layer: Layer, grid: SpotGrid | None) -> int:
    """Return the number of spots that a layer shows."""
    return len(grid.row) if grid is not None else len(layer.data)


def _set_colors(layer: Layer, colors: np.ndarray, blending: str, grid: SpotGrid | None) -> None:
    """Set the colors of a layer of pixels or spots."""
    if layer.blending != blending:
        layer.blending = blending
    if isinstance(layer, Points):
        layer.face_color = colors
    elif isinstance(layer, Image) and grid is not None:
        set_image(layer, grid.levels(colors))
    else:
        layer.data = colors


def compared_pixels_layer(result: UpsampleResult, slide: Slide) -> Image:
    """Return a hidden layer for the pixel colors of the result that is compared with."""
    return Image(
        np.zeros((*result.raster.shape, 4), dtype=np.float32),
        rgb=True,
        name="SRast compared pixels",
        affine=image_affine(slide.to_cs @ result.raster.affine),
        units=world_units(slide),
        blending="additive",
        visible=False,
        metadata={KEY: {"role": "measured", "to_intrinsic": result.raster.affine}},
    )
