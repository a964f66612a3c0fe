"""The layer that a result is compared with, in the colors and on the scale of the displayed genes.

It shows the measured counts on their spots, or another result on the same pixels, such as one made without the
histology.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Layer, Points
from scipy import sparse

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.layers.factory import KEY, image_affine, measured_layer, update_transforms, world_units
from napari_srast.gui.layers.gene_colors import GeneStyle
from napari_srast.gui.state.displayed_result import DisplayedResult

__all__ = ["ComparedLayer", "compared_pixels_layer", "pixel_colors", "same_pixels", "spot_colors"]


class ComparedLayer:
    """The layer of the view "before", and the colors of any layer that shows what a result is compared with.

    Attributes
    ----------
    layer
        The layer of the view "before"; None before it is created.
    """

    def __init__(self) -> None:
        self.layer: Layer | None = None
        self._colored: tuple[Any, ...] = ()  # the layer that was colored last, and all that its colors depend on

    def create(self, result: UpsampleResult, other: DisplayedResult | None, slide: Slide) -> Layer:
        """Create the layer for measured spots, or (with ``other``) for the pixels of another result."""
        layer = measured_layer(result.slide) if other is None else compared_pixels_layer(other.result, slide)
        update_transforms([layer], slide)
        self.layer = layer
        return layer

    def set_colors(
        self,
        layer: Layer,
        result: UpsampleResult,
        other: DisplayedResult | None,
        styles: Sequence[GeneStyle],
        shared_opacity: float,
    ) -> None:
        """Set the colors of a layer unless it has them already, so that switching between before and after is quick.

        Parameters
        ----------
        layer
            A layer of spots or pixels.
        result
            The displayed result.
        other
            The result that it is compared with; None for the measured counts.
        styles
            Styles of the displayed genes.
        shared_opacity
            Factor on the opacity of all genes.
        """
        key = (layer, result, *styles, shared_opacity)
        if key == self._colored:
            return
        if other is None:
            colors = spot_colors(result, styles, shared_opacity)
        else:
            colors = pixel_colors(other.result, other.columns, styles, shared_opacity)
        if isinstance(layer, Points) and len(layer.data) < len(colors):
            colors = colors[result.raster.n_pixels_per_spot > 0]
        _set_colors(layer, colors, "additive" if _adds(styles) else "translucent_no_depth")
        self._colored = key

    def forget_colors(self) -> None:
        """Color the next layer in any case."""
        self._colored = ()


def spot_colors(result: UpsampleResult, styles: Sequence[GeneStyle], shared_opacity: float) -> np.ndarray:
    """Return the colors of all spots, shape (N, 4): measured counts divided evenly among the pixels of each spot.

    Spots without pixels are transparent.

    Parameters
    ----------
    result
        The result whose slide holds the measured counts.
    styles
        Styles of the displayed genes.
    shared_opacity
        Factor on the opacity of all genes.
    """
    per_spot = result.raster.n_pixels_per_spot
    has_pixels = per_spot > 0
    colors = np.zeros((len(per_spot), 4))
    columns = result.slide.gene_indices([style.gene for style in styles])
    counts = result.slide.counts[:, columns].toarray()[has_pixels] / per_spot[has_pixels, None]
    colors[has_pixels] = _blend(counts, styles, shared_opacity)
    return colors


def pixel_colors(
    result: UpsampleResult, columns: sparse.csc_matrix, styles: Sequence[GeneStyle], shared_opacity: float
) -> np.ndarray:
    """Return the colors of a raster, shape (rows, columns, 4); positions without a pixel are transparent.

    Parameters
    ----------
    result
        The result.
    columns
        ``result.counts`` in column-compressed format, shape (Q, G).
    styles
        Styles of the displayed genes.
    shared_opacity
        Factor on the opacity of all genes.
    """
    counts = columns[:, [result.gene_column(style.gene) for style in styles]].toarray()
    colors = _blend(counts, styles, shared_opacity)
    return np.nan_to_num(np.stack([result.raster.to_image(channel) for channel in colors.T], axis=-1))


def _blend(counts: np.ndarray, styles: Sequence[GeneStyle], shared_opacity: float) -> np.ndarray:
    """Return the colors, shape (n, 4), of counts, shape (n, genes), as napari blends the layers of the genes."""
    if not _adds(styles):
        colors = styles[0].rgba(counts[:, 0])
        colors[:, 3] *= shared_opacity * styles[0].opacity
        return colors
    total = np.zeros((len(counts), 4))
    for style, values in zip(styles, counts.T, strict=True):
        colors = style.rgba(values)
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


def _set_colors(layer: Layer, colors: np.ndarray, blending: str) -> None:
    """Set the colors of a layer of pixels or spots."""
    if layer.blending != blending:
        layer.blending = blending
    if isinstance(layer, Points):
        layer.face_color = colors
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
