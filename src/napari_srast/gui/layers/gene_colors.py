"""Colors of genes: a perceptual map for one gene, and colors to be added for several.

One gene is drawn in a perceptual map that is transparent where there is little of it. Several genes are drawn from
black to one color each, and added. The colors differ for color-blind people, and are saturated and rise slowly, because
sums of pale colors are white. The sums of two of the first three colors have hues of their own, and the more genes
there are, the less each adds.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from napari.utils.colormaps import Colormap, ensure_colormap

__all__ = [
    "MAP_NAME",
    "PALETTE",
    "GeneStyle",
    "color_stops",
    "colormap_stops",
    "gene_colormap",
    "is_additive",
    "map_colormap",
    "shared_opacity",
    "stops_colormap",
]

PALETTE = ("#1e90ff", "#e0321a", "#00e0a0", "#ff9a1a", "#ff6ad0", "#fff04a")
MAP_NAME = "SRast inferno"
_GAMMA = 1.6  # of the colors of several genes: medium counts of three genes must not add up to white
_FADING = 0.5  # a compromise: with 0, bright pixels of three genes are white; with 1, single genes are too dark
_MAX_ALPHA, _ALPHA_FULL, _ALPHA_GAMMA = 0.92, 0.5, 0.8  # opacity of the map, and the level at which it is reached
_N_STOPS = 33
_DARK = 0.03  # a colormap that begins darker adds nothing where there are no counts


@functools.cache
def map_colormap() -> Colormap:
    """Return the colormap for one gene: inferno, transparent at its low end; NaN is transparent."""
    colors = np.array(ensure_colormap("inferno").colors)
    level = np.linspace(0, 1, len(colors))
    colors[:, 3] = _MAX_ALPHA * np.clip(level / _ALPHA_FULL, 0, 1) ** _ALPHA_GAMMA
    return Colormap(colors, name=MAP_NAME, nan_color=[0.0, 0.0, 0.0, 0.0])


@functools.cache
def gene_colormap(color: str) -> Colormap:
    """Return a colormap from black to a color "#rrggbb", for additive blending; NaN is transparent."""
    level = np.linspace(0, 1, _N_STOPS)
    colors = np.column_stack([level[:, None] ** _GAMMA * _rgb(color), np.ones(_N_STOPS)])
    return Colormap(colors, name=color, nan_color=[0.0, 0.0, 0.0, 0.0])


def shared_opacity(n_genes: int) -> float:
    """Return the factor on the opacity of each of some genes: it decreases with their number."""
    return float(max(n_genes, 1) ** -_FADING)


def colormap_stops(colormap: Colormap) -> tuple[str, ...]:
    """Return colors "#rrggbbaa" at equal steps of a colormap, from its low to its high end."""
    rgba = np.clip(colormap.map(np.linspace(0, 1, _N_STOPS, dtype=np.float32)), 0, 1)
    digits = np.rint(255 * rgba.astype(np.float64)).astype(np.uint8).tobytes().hex()
    return tuple(f"#{digits[i : i + 8]}" for i in range(0, len(digits), 8))


@functools.lru_cache(maxsize=128)
def color_stops(color: str) -> tuple[str, ...]:
    """Return the stops of the colormap of one gene among several ones; see :func:`colormap_stops`."""
    return colormap_stops(gene_colormap(color))


def stops_colormap(stops: tuple[str, ...], name: str) -> Colormap:
    """Return the colormap of some stops."""
    return Colormap(_rgba(stops), name=name, nan_color=[0.0, 0.0, 0.0, 0.0])


def is_additive(colormap: Colormap) -> bool:
    """Return whether a colormap begins with opaque black, so that it must be added to the histology."""
    low = np.asarray(colormap.map(np.zeros(1, dtype=np.float32)))[0]
    return bool(low[:3].max() < _DARK and low[3] == 1)


@dataclass(frozen=True)
class GeneStyle:
    """Style of one displayed gene.

    Parameters
    ----------
    gene
        Name of the gene.
    color
        Color as "#rrggbb": the color of the gene among several ones, or the high end of its colormap.
    limits
        Contrast limits in counts per pixel: the low and the high end of the colormap.
    opacity
        Opacity relative to the other genes, 0 to 1.
    stops
        Colors "#rrggbbaa" at equal steps of the colormap. Empty: from black to ``color``.
    """

    gene: str
    color: str
    limits: tuple[float, float]
    opacity: float = 1.0
    stops: tuple[str, ...] = ()

    @property
    def colormap_stops(self) -> tuple[str, ...]:
        """Colors "#rrggbbaa" at equal steps of the colormap."""
        return self.stops or color_stops(self.color)

    def rgba(self, counts: np.ndarray) -> np.ndarray:
        """Return the colors of counts per pixel, shape (n,), as (n, 4); opacity is not included."""
        low, high = self.limits
        colors = _rgba(self.colormap_stops)
        level = np.clip((counts - low) / max(high - low, 1e-12), 0, 1)
        steps = np.linspace(0, 1, len(colors))
        return np.column_stack([np.interp(level, steps, channel) for channel in colors.T])

    @property
    def is_additive(self) -> bool:
        """Whether the colormap begins with opaque black, so that it must be added to the histology."""
        low = _rgba(self.colormap_stops)[0]
        return bool(low[:3].max() < _DARK and low[3] == 1)

    @property
    def scale(self) -> str:
        """The contrast limits as text, with three significant figures of the upper one; below 0.1 with two."""
        low, high = self.limits
        n_more = 2 if high >= 0.1 else 1
        decimals = max(0, n_more - int(np.floor(np.log10(high)))) if 0 < high < 1000 else 0

        def write(value: float) -> str:
            text = f"{value:,.{decimals}f}"
            return text.rstrip("0").rstrip(".") if decimals else text

        return f"{write(low)} to {write(high)}"


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def _rgba(stops: tuple[str, ...]) -> np.ndarray:
    return np.array([[int(stop[i : i + 2], 16) / 255 for i in (1, 3, 5, 7)] for stop in stops])
