"""One gene on show: its layer, and how it is painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from napari.layers import Image
from scipy import sparse

from napari_srast.core.result import UpsampleResult
from napari_srast.gui.layers.factory import PALETTE, gene_colormap, gene_layer_kwargs
from napari_srast.gui.layers.measured_spots import GeneStyle

__all__ = ["GeneLayer", "Picture", "first_genes", "gene_picture"]

_HIGH = 99.5  # percentile of the pixels that have any counts: a few bright ones must not darken the rest
_LOW = 20.0  # percentile of all pixels: a gene that is everywhere must not wash the others out
_AT_FIRST = 3

Picture = tuple[np.ndarray, tuple[float, float]]
"""A gene's image, NaN outside, and the counts per pixel at which its color begins and is full."""


def gene_picture(result: UpsampleResult, columns: sparse.csc_matrix, gene: str, view: str) -> Picture:
    """Paint a gene's counts, or for the view "std" their standard deviation; ``columns`` holds the counts."""
    if view == "std":
        image = result.gene_image(gene, "std")
        values = image[np.isfinite(image)]
    else:
        values = columns[:, [result.gene_column(gene)]].toarray()[:, 0]
        image = result.raster.to_image(values)
    positive = values[values > 0]
    if not positive.size:
        return image, (0.0, 1.0)
    low, high = float(np.percentile(values, _LOW)), float(np.percentile(positive, _HIGH))
    return image, (low if low < high else 0.0, high)


@dataclass(eq=False)
class GeneLayer:
    """A layer for one gene at a time."""

    gene: str
    layer: Image
    color: str
    limits: tuple[float, float]
    opacity: float = 1.0
    shown: bool = False

    @classmethod
    def make(cls, gene: str, color: str, picture: Picture, result: UpsampleResult) -> GeneLayer:
        """Return a slot that does not show yet, with its layer, hidden and not in the viewer yet."""
        image, limits = picture
        options = {"name": gene, "colormap": gene_colormap(color), "contrast_limits": limits, "visible": False}
        layer = Image(image, **options, **gene_layer_kwargs(result))
        layer.contrast_limits_range = _slack(limits)
        return cls(gene, layer, color, limits)

    @property
    def paint(self) -> GeneStyle:
        """How the gene is painted."""
        return GeneStyle(self.gene, self.color, self.limits, self.opacity)

    def fill(self, picture: Picture) -> None:
        """Show another image; the slot's gene was set before."""
        self.layer.data, self.limits = picture
        self.layer.name = self.gene
        self.layer.contrast_limits_range = _slack(self.limits)
        self.layer.contrast_limits = self.limits

    def empty(self) -> None:
        """Free the slot, whose image is of no use any more; its name goes, too, or its next layer gets a number."""
        self.shown, self.gene = False, ""
        self.layer.name = "SRast unused"

    def set(
        self,
        *,
        color: str | None,
        limits: tuple[float, float] | None,
        opacity: float | None,
        strength: float,
    ) -> None:
        """Paint differently; None leaves as it is. ``strength`` is the opacity that all genes share."""
        if color is not None:
            self.layer.colormap = gene_colormap(color)
        if limits is not None:
            self.layer.contrast_limits = limits
        if opacity is not None:
            self.layer.opacity = opacity * strength

    def read(self, strength: float) -> None:
        """Take over what the layer says."""
        self.limits = (float(self.layer.contrast_limits[0]), float(self.layer.contrast_limits[1]))
        self.opacity = float(min(self.layer.opacity / strength, 1.0))
        red, green, blue = (round(255 * float(c)) for c in self.layer.colormap.colors[-1][:3])
        self.color = f"#{red:02x}{green:02x}{blue:02x}"


def _slack(limits: tuple[float, float]) -> list[float]:
    """Return the range that contrast may be set in: from nothing to twice what is full at first."""
    return [0.0, 2 * limits[1]]


def first_genes(result: UpsampleResult, totals: np.ndarray) -> list[str]:
    """Return what to show first: all genes if they are few, else the three whose maps gain the most in all.

    ``totals`` holds the counts of each gene, shape (G,): skill is per count, and is highest by chance in genes with a
    handful of counts.
    """
    genes = [str(g) for g in result.genes]
    if len(genes) <= len(PALETTE):
        return genes
    gained = np.nan_to_num(result.skill, nan=0.0) * totals
    order = np.argsort(-gained, kind="stable")
    return [genes[i] for i in order[:_AT_FIRST]]
