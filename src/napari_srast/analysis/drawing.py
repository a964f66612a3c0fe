"""Draw parts of figures with matplotlib: images in world coordinates, spots, scale bars, and colors of domains.

World coordinates (x, y) are those of the chosen coordinate system of a slide; y grows downwards. Shape legend: N spots.
"""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["domain_colors", "draw_image", "draw_scale_bar", "length_text", "round_length", "spot_outlines"]

_MAX_BAR = 0.3  # length of the scale bar, in widths of the panel
_GOLDEN = 0.618034
_CORNERS = 24  # of the polygon that draws a circle


def domain_colors(n_domains: int) -> list[tuple[float, float, float]]:
    """Return distinct colors (r, g, b) from 0 to 1: hues in steps of the golden ratio, of two brightnesses."""
    return [colorsys.hsv_to_rgb((0.6 + i * _GOLDEN) % 1, 0.75, 1.0 if i % 2 == 0 else 0.7) for i in range(n_domains)]


def round_length(longest: float) -> float:
    """Return the largest length that is 1, 2 or 5 times a power of ten and at most ``longest``: 200 for 270."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(power * max(step for step in (1, 2, 5) if step * power <= longest))


def draw_image(axes: Axes, pixels: np.ndarray, matrix: np.ndarray, interpolation: str, **style: Any) -> Any:
    """Draw an image and return its artist.

    Parameters
    ----------
    axes
        Where it is drawn.
    pixels
        Values, shape (rows, columns), or colors, shape (rows, columns, 3 or 4).
    matrix
        Transformation from pixel coordinates (column, row) to the world, shape (3, 3).
    interpolation
        Name of an interpolation of matplotlib.
    **style
        Colormap and limits of values.
    """
    from matplotlib.transforms import Affine2D

    rows, cols = pixels.shape[:2]
    picture = axes.imshow(pixels, extent=(0, cols, rows, 0), interpolation=interpolation, aspect="equal", **style)
    picture.set_transform(Affine2D(matrix) + axes.transData)
    return picture


def spot_outlines(slide: Slide, spots: np.ndarray, size: float) -> np.ndarray:
    """Return the corners of spots in the world: squares, or circles as polygons.

    Parameters
    ----------
    slide
        The slide.
    spots
        Indices of the spots, shape (N,).
    size
        Diameter or side, in units of the slide.

    Returns
    -------
    np.ndarray
        Coordinates (x, y), shape (N, number of corners, 2).
    """
    if slide.spot_shape == "square":
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float)
    else:
        angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        corners = np.column_stack([np.cos(angle), np.sin(angle)])
    outlines = slide.centers[spots][:, None] + 0.5 * size * corners
    return apply_affine(slide.to_cs, outlines.reshape(-1, 2)).reshape(outlines.shape)


def length_text(micrometers: float) -> str:
    """Return a length as a text: in millimeters from 1 mm on."""
    return f"{micrometers / 1000:g} mm" if micrometers >= 1000 else f"{micrometers:g} µm"


def draw_scale_bar(axes: Axes, slide: Slide, width: float) -> None:
    """Draw a scale bar in the lower right corner of a panel, unless the unit of the slide is no length.

    Parameters
    ----------
    axes
        The panel.
    slide
        The slide, whose unit the bar has.
    width
        Width of the panel in world units.
    """
    from matplotlib.patheffects import withStroke
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    if slide.unit != "um":
        return
    length = round_length(_MAX_BAR * width / slide.cs_scale)
    bar: Any = AnchoredSizeBar(
        axes.transData,
        length * slide.cs_scale,
        length_text(length),
        "lower right",
        frameon=False,
        color="white",
        pad=0.4,
        sep=3,
        size_vertical=0.008 * width,
    )
    outline = [withStroke(linewidth=2, foreground="black")]
    bar.txt_label._text.set_path_effects(outline)
    for patch in bar.size_bar.get_children():
        patch.set_path_effects(outline)
    axes.add_artist(bar)
