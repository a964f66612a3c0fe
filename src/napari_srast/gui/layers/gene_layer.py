"""One displayed gene: its image layer and its style."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from napari.layers import Image
from scipy import sparse

from napari_srast.core.result import UpsampleResult
from napari_srast.gui.layers.factory import PALETTE, gene_colormap, gene_layer_kwargs

__all__ = ["GeneImage", "GeneLayer", "GeneStyle", "default_genes", "render_gene"]

_HIGH_PERCENTILE = 99.5  # of the pixels with counts: a few bright pixels must not darken the others
_LOW_PERCENTILE = 20.0  # of all pixels: a ubiquitous gene must not wash out the others
_N_DEFAULT_GENES = 3

GeneImage = tuple[np.ndarray, tuple[float, float]]
"""Raster image of a gene, NaN outside the pixels, and its contrast limits in counts per pixel."""


@dataclass(frozen=True)
class GeneStyle:
    """Style of one displayed gene.

    Parameters
    ----------
    gene
        Name of the gene.
    color
        Color as "#rrggbb".
    limits
        Contrast limits in counts per pixel: the color begins at the first and is full at the second.
    opacity
        Opacity relative to the other genes, 0 to 1.
    """

    gene: str
    color: str
    limits: tuple[float, float]
    opacity: float = 1.0

    @property
    def scale(self) -> str:
        """The contrast limits as text, with three significant figures of the upper one."""
        low, high = self.limits
        decimals = max(0, 2 - int(np.floor(np.log10(high)))) if 0 < high < 1000 else 0

        def write(value: float) -> str:
            text = f"{value:,.{decimals}f}"
            return text.rstrip("0").rstrip(".") if decimals else text

        return f"{write(low)} to {write(high)}"


def render_gene(result: UpsampleResult, columns: sparse.csc_matrix, gene: str, view: str) -> GeneImage:
    """Render one gene of a result as an image.

    Parameters
    ----------
    result
        The result.
    columns
        ``result.counts`` in column-compressed format, shape (Q, G).
    gene
        Name of the gene.
    view
        "std" renders the standard deviation, any other view the counts.
    """
    if view == "std":
        image = result.gene_image(gene, "std")
        values = image[np.isfinite(image)]
    else:
        values = columns[:, [result.gene_column(gene)]].toarray()[:, 0]
        image = result.raster.to_image(values)
    positive = values[values > 0]
    if not positive.size:
        return image, (0.0, 1.0)
    low, high = float(np.percentile(values, _LOW_PERCENTILE)), float(np.percentile(positive, _HIGH_PERCENTILE))
    return image, (low if low < high else 0.0, high)


@dataclass(eq=False)
class GeneLayer:
    """An image layer that shows one gene at a time.

    Parameters
    ----------
    gene
        Name of the gene; empty if the layer shows none.
    layer
        The image layer.
    color, limits, opacity
        See :class:`GeneStyle`.
    shown
        Whether the gene is displayed.
    """

    gene: str
    layer: Image
    color: str
    limits: tuple[float, float]
    opacity: float = 1.0
    shown: bool = False

    @classmethod
    def create(cls, gene: str, color: str, image: GeneImage, result: UpsampleResult) -> GeneLayer:
        """Create a gene layer that is hidden and not yet in the viewer."""
        pixels, limits = image
        options = {"name": gene, "colormap": gene_colormap(color), "contrast_limits": limits, "visible": False}
        layer = Image(pixels, **options, **gene_layer_kwargs(result))
        layer.contrast_limits_range = _contrast_range(limits)
        return cls(gene, layer, color, limits)

    @property
    def style(self) -> GeneStyle:
        """Style of the gene."""
        return GeneStyle(self.gene, self.color, self.limits, self.opacity)

    def set_image(self, image: GeneImage) -> None:
        """Replace the image; set ``gene`` before."""
        self.layer.data, self.limits = image
        self.layer.name = self.gene
        self.layer.contrast_limits_range = _contrast_range(self.limits)
        self.layer.contrast_limits = self.limits

    def release(self) -> None:
        """Mark the layer as unused; without a new name, napari would number the next layer of this gene."""
        self.shown, self.gene = False, ""
        self.layer.name = "SRast unused"

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
            self.layer.colormap = gene_colormap(color)
        if limits is not None:
            self.layer.contrast_limits = limits
        if opacity is not None:
            self.layer.opacity = opacity * shared_opacity

    def read_style(self, shared_opacity: float) -> None:
        """Read color, contrast limits and opacity from the napari layer."""
        self.limits = (float(self.layer.contrast_limits[0]), float(self.layer.contrast_limits[1]))
        self.opacity = float(min(self.layer.opacity / shared_opacity, 1.0))
        red, green, blue = (round(255 * float(c)) for c in self.layer.colormap.colors[-1][:3])
        self.color = f"#{red:02x}{green:02x}{blue:02x}"


def _contrast_range(limits: tuple[float, float]) -> list[float]:
    """Return the range of the contrast slider: from zero to twice the initial upper limit."""
    return [0.0, 2 * limits[1]]


def default_genes(result: UpsampleResult, totals: np.ndarray) -> list[str]:
    """Return the genes to display first: all genes if they are few, else the three with the largest total gain.

    Skill is a gain per count, so by chance it is highest in genes with a handful of counts. The total gain, skill times
    counts, is not.

    Parameters
    ----------
    result
        The result.
    totals
        Counts of each gene, shape (G,).
    """
    genes = [str(g) for g in result.genes]
    if len(genes) <= len(PALETTE):
        return genes
    gained = np.nan_to_num(result.skill, nan=0.0) * totals
    order = np.argsort(-gained, kind="stable")
    return [genes[i] for i in order[:_N_DEFAULT_GENES]]
