"""One displayed gene: its image layer and its style."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap

from napari_srast.analysis.traffic_lights import gene_lights
from napari_srast.core.result import UpsampleResult
from napari_srast.gui.layers.color_bar import show_color_bar
from napari_srast.gui.layers.factory import KEY, gene_layer_kwargs
from napari_srast.gui.layers.gene_colors import (
    GeneStyle,
    color_stops,
    colormap_stops,
    gene_colormap,
    is_additive,
    map_colormap,
    stops_colormap,
)
from napari_srast.gui.state.gene_values import STD_UNIT, GeneValues, ValueView, unit_of

__all__ = ["GeneImage", "GeneLayer", "GeneStyle", "default_genes", "render_gene", "typical_limits"]

_HIGH_PERCENTILE = 99.5  # of the pixels with counts: a few bright pixels must not darken the others
_LOW_PERCENTILE = 20.0  # of all pixels: a ubiquitous gene must not wash out the others
_MAX_DEFAULT_GENES = 3  # of a run with more genes, one is shown
_TYPICAL_STOP = -9  # of a colormap whose high end is nearly white


class GeneImage(NamedTuple):
    """Image of a gene.

    Parameters
    ----------
    pixels
        Raster image, NaN outside the pixels.
    limits
        Contrast limits in the unit of the image.
    unit
        Name of the values with their unit.
    """

    pixels: np.ndarray
    limits: tuple[float, float]
    unit: str


def render_gene(values: GeneValues, gene: str, view: str, value_view: ValueView) -> GeneImage:
    """Render one gene of a result as an image.

    Parameters
    ----------
    values
        Values of the result.
    gene
        Name of the gene.
    view
        "std" renders the standard deviation of the counts, any other view the values.
    value_view
        Which values, and their scale.
    """
    if view == "std":
        unit = STD_UNIT
        image = values.result.gene_image(gene, "std")
        pixels = image[np.isfinite(image)]
    else:
        unit = unit_of(values.quantity(gene, value_view), value_view.scale)
        pixels = values.of_pixels(gene, value_view)
        image = values.result.raster.to_image(pixels)
    return GeneImage(image, typical_limits(pixels), unit)


def typical_limits(values: np.ndarray) -> tuple[float, float]:
    """Return contrast limits for values, shape (n,), that neither a few high nor many low ones spoil."""
    positive = values[values > 0]
    if not positive.size:
        return 0.0, 1.0
    low, high = float(np.percentile(values, _LOW_PERCENTILE)), float(np.percentile(positive, _HIGH_PERCENTILE))
    return low if low < high else 0.0, high


@dataclass(eq=False)
class GeneLayer:
    """An image layer that shows one gene at a time.

    Parameters
    ----------
    gene
        Name of the gene; empty if the layer shows none.
    layer
        The image layer.
    color
        Color of the gene among several ones, as "#rrggbb".
    limits, opacity
        See :class:`GeneStyle`.
    shown
        Whether the gene is displayed.
    chosen
        Colormap that the user has chosen; None for the usual one.
    """

    gene: str
    layer: Image
    color: str
    limits: tuple[float, float]
    opacity: float = 1.0
    shown: bool = False
    chosen: Colormap | None = None

    def __post_init__(self) -> None:
        self._stops = colormap_stops(self.layer.colormap)  # as this class has set them

    @classmethod
    def create(cls, gene: str, color: str, image: GeneImage, result: UpsampleResult) -> GeneLayer:
        """Create a gene layer that is hidden and not yet in the viewer."""
        limits = image.limits
        options = {"name": gene, "colormap": gene_colormap(color), "contrast_limits": limits, "visible": False}
        layer = Image(image.pixels, **options, **gene_layer_kwargs(result, image.unit))
        layer.metadata[KEY]["gene"] = gene
        layer.contrast_limits_range = _contrast_range(limits)
        return cls(gene, layer, color, limits)

    @property
    def style(self) -> GeneStyle:
        """Style of the gene."""
        own = self._stops == color_stops(self.color)
        color = self.color if own else self._stops[-1 if self.chosen is not None else _TYPICAL_STOP][:7]
        return GeneStyle(self.gene, color, self.limits, self.opacity, () if own else self._stops)

    def set_image(self, image: GeneImage) -> None:
        """Replace the image; set ``gene`` before."""
        self.layer.data, self.limits = image.pixels, image.limits
        self.layer.name = self.gene
        self.layer.metadata[KEY] |= {"role": "gene", "gene": self.gene, "unit": image.unit}
        self.layer.contrast_limits_range = _contrast_range(self.limits)
        self.layer.contrast_limits = self.limits

    def release(self) -> None:
        """Mark the layer as unused; without a new name, napari would number the next layer of this gene."""
        self.shown, self.gene, self.chosen = False, "", None
        self.layer.name = "SRast unused"
        self.layer.metadata[KEY]["role"] = "unused"

    def set_alone(self, *, alone: bool) -> None:
        """Use the colormap for one gene, or the color of this gene among several ones."""
        usual = map_colormap() if alone else gene_colormap(self.color)
        self._set_colormap(self.chosen or usual)
        blending = "additive" if not alone or is_additive(self.layer.colormap) else "translucent_no_depth"
        if self.layer.blending != blending:
            self.layer.blending = blending
        show_color_bar(self.layer, visible=alone and self.shown)

    def _set_colormap(self, colormap: Colormap) -> None:
        stops = colormap_stops(colormap)
        if stops != self._stops:
            self.layer.colormap, self._stops = colormap, stops

    def set_style(
        self,
        *,
        color: str | None,
        limits: tuple[float, float] | None,
        opacity: float | None,
        shared_opacity: float,
    ) -> None:
        """Change the style.

        Parameters
        ----------
        color, limits, opacity
            See :class:`GeneStyle`; None leaves the current value.
        shared_opacity
            Factor on the opacity of all genes.
        """
        if color is not None:
            self.color, self.chosen = color, gene_colormap(color)
            self._set_colormap(self.chosen)
        if limits is not None:
            self.layer.contrast_limits = limits
        if opacity is not None:
            self.layer.opacity = opacity * shared_opacity

    def read_style(self, shared_opacity: float) -> None:
        """Read colormap, contrast limits and opacity from the napari layer."""
        self.limits = (float(self.layer.contrast_limits[0]), float(self.layer.contrast_limits[1]))
        self.opacity = float(min(self.layer.opacity / shared_opacity, 1.0))
        stops = colormap_stops(self.layer.colormap)
        if stops != self._stops:
            self._stops, self.chosen = stops, stops_colormap(stops, self.layer.colormap.name)


def _contrast_range(limits: tuple[float, float]) -> list[float]:
    """Return the range of the contrast slider: from zero to twice the initial upper limit."""
    return [0.0, 2 * limits[1]]


def default_genes(result: UpsampleResult, totals: np.ndarray) -> list[str]:
    """Return the genes to display first: all genes if they are at most three, else the one with the largest total gain.

    Skill is a gain per count, so by chance it is highest in genes with a handful of counts. The total gain, skill times
    counts, is not. A gene whose map is better than interpolation precedes all others.

    Parameters
    ----------
    result
        The result.
    totals
        Counts of each gene, shape (G,).
    """
    genes = [str(g) for g in result.genes]
    if len(genes) <= _MAX_DEFAULT_GENES:
        return genes
    gained = np.nan_to_num(result.skill, nan=0.0) * totals
    is_better = np.array([light.light == "better" for light in gene_lights(result)])
    return [genes[np.lexsort((-gained, ~is_better))[0]]]
