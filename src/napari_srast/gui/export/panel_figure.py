"""Write a figure of the displayed genes for a publication: PNG, PDF or SVG, laid out by matplotlib.

One panel for each view, on the same area with the same colors: histology, genes, a scale bar, and a color bar for each
gene. It is drawn from the data, not from the canvas, so that size and resolution do not depend on the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from napari_srast.analysis.drawing import draw_image, draw_scale_bar, spot_outlines
from napari_srast.core.progress import CancelCheck
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled, OutputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.backdrop import blended_histology
from napari_srast.gui.layers.compared_layer import ColorOptions, pixel_colors, spot_colors
from napari_srast.gui.layers.factory import spot_size
from napari_srast.gui.layers.gene_colors import GeneStyle, shared_opacity
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.gene_values import SCALE_UNITS, Quantity, Scale, ValueView
from napari_srast.io.atomic import atomic_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FIGURE_FORMATS",
    "FIGURE_VIEWS",
    "VIEW_TITLES",
    "FigureOptions",
    "FigureView",
    "draw_figure",
    "panels_of",
    "write_figure",
]

FigureView = Literal["measured", "counts", "expression"]
FIGURE_VIEWS: tuple[FigureView, ...] = get_args(FigureView)
FIGURE_FORMATS = ("png", "pdf", "svg")
VIEW_TITLES: dict[FigureView, str] = {
    "measured": "Measured, per spot",
    "counts": "Upsampled counts",
    "expression": "Expression",
}
_MARGIN = 0.04  # around the pixels of the result, in units of their longer side
_PANEL_INCHES = 3.4
_BAR_INCHES = 0.55  # height of the row with a color bar
_MAX_IMAGE_PIXELS = 2400  # longer side of the histology in a panel: enough for 600 dpi
_INSET = (0.015, 0.735, 0.25, 0.25)  # position of the overview in the panel, in units of the panel
_FONT_SIZE = 8
# Text stays text, so that it can be edited in PDF and SVG; equal figures have equal bytes.
_STYLE: Any = {
    "font.size": _FONT_SIZE,
    "text.parse_math": False,  # a title may have dollar signs
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "napari-srast",
}
_NO_DATE = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


@dataclass(frozen=True, kw_only=True)
class FigureOptions:
    """Layout of a figure.

    Parameters
    ----------
    views
        The panels, from left to right.
    title
        Title above the panels; empty for none.
    dpi
        Resolution in dots per inch: of PNG, and of the images in PDF and SVG.
    brightness
        Brightness of the histology, 0 (black) to 1 (unchanged).
    scale
        Scale of the values: as they are, per 10,000, or log1p of that.
    smooth
        Whether the values are interpolated between the centers of the pixels.
    overview
        Whether the first panel has an inset with the whole slide, if the result covers only a part of it.
    """

    views: tuple[FigureView, ...] = FIGURE_VIEWS
    title: str = ""
    dpi: int = 300
    brightness: float = 0.3
    scale: Scale = "as_is"
    smooth: bool = False
    overview: bool = True


def write_figure(
    displayed: DisplayedResult,
    slide: Slide,
    styles: Sequence[GeneStyle],
    options: FigureOptions,
    path: Path,
    *,
    should_stop: CancelCheck | None = None,
) -> None:
    """Write a figure; the suffix of the path is the format, and an existing file is replaced.

    Parameters
    ----------
    displayed
        The result.
    slide
        Its slide, in the chosen coordinate system.
    styles
        Styles of the genes, at least one.
    options
        Layout.
    path
        The file to write: .png, .pdf or .svg.
    should_stop
        Asked before the file gets its name. None: nobody cancels.

    Raises
    ------
    Cancelled
        ``should_stop`` has returned True.
    OutputError
        The format is not supported, no gene is shown, or the file cannot be written.
    """
    if path.suffix.lower().lstrip(".") not in FIGURE_FORMATS:
        raise OutputError(f"A figure cannot be written as '{path.name}'; choose .png, .pdf or .svg.")
    if not styles:
        raise OutputError("No gene is shown; tick a gene and write the figure again.")
    from matplotlib import rc_context

    with atomic_output(path, replace=True) as partial:
        figure = draw_figure(displayed, slide, styles, options)
        with rc_context(_STYLE):
            figure.savefig(partial, dpi=options.dpi, metadata=_NO_DATE.get(path.suffix.lower()))
        if should_stop is not None and should_stop():
            raise Cancelled


def draw_figure(
    displayed: DisplayedResult, slide: Slide, styles: Sequence[GeneStyle], options: FigureOptions
) -> Figure:
    """Return the figure; see :func:`write_figure` for the parameters."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    low, high = _area(displayed, slide)
    width, height = high - low
    n_panels, n_bars = len(options.views), len(styles)
    panel_height = _PANEL_INCHES * float(np.clip(height / width, 0.4, 2.0))
    rows = -(-n_bars // max(2 * n_panels, 1))
    title_inches = 0.35 if options.title else 0.0
    size = (n_panels * _PANEL_INCHES + 0.2, panel_height + rows * _BAR_INCHES + title_inches + 0.45)
    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        if options.title:
            figure.suptitle(options.title, fontsize=_FONT_SIZE + 3)
        grid = figure.add_gridspec(2, 1, height_ratios=[panel_height, rows * _BAR_INCHES])
        panels = grid[0].subgridspec(1, n_panels)
        for column, view in enumerate(options.views):
            axes = figure.add_subplot(panels[column])
            axes.set_title(_panel_title(view, displayed, styles), fontsize=_FONT_SIZE + 1)
            _draw_view(axes, view, displayed, slide, styles, options)
            axes.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), xticks=[], yticks=[])
            draw_scale_bar(axes, slide, float(width))
            if column == 0 and options.overview and _is_part(low, high, slide):
                _draw_overview(axes, low, high, slide)
        bars = grid[1].subgridspec(rows, -(-n_bars // rows), hspace=0.0)
        for index, style in enumerate(styles):
            _draw_color_bar(figure.add_subplot(bars[index]), style, options.scale)
        if slide.source.synthetic:
            figure.text(0.995, 0.005, "Synthetic slide", ha="right", va="bottom", fontsize=_FONT_SIZE - 1)
    return figure


def panels_of(displayed: DisplayedResult, genes: Sequence[str]) -> tuple[FigureView, ...]:
    """Return the panels that a figure of some genes can have; without expression, it would equal the counts."""
    has_expression = any(displayed.values.quantity(gene, ValueView()) == "expression" for gene in genes)
    return FIGURE_VIEWS if has_expression else FIGURE_VIEWS[:-1]


def _panel_title(view: FigureView, displayed: DisplayedResult, styles: Sequence[GeneStyle]) -> str:
    """Return the title of a panel; it names the genes that are counts because they have no expression."""
    if view != "expression":
        return VIEW_TITLES[view]
    without = [s.gene for s in styles if displayed.values.quantity(s.gene, ValueView()) == "counts"]
    if not without:
        return VIEW_TITLES[view]
    return f"{VIEW_TITLES[view]} ({', '.join(without)}: counts)"


def _draw_view(
    axes: Axes,
    view: FigureView,
    displayed: DisplayedResult,
    slide: Slide,
    styles: Sequence[GeneStyle],
    options: FigureOptions,
) -> None:
    """Draw histology and genes in world coordinates."""
    result, values = displayed.result, displayed.values
    # Measured spots have the total over the genes of the values that they are compared with.
    quantity: Quantity = "counts" if view == "counts" or "expression" not in options.views else "expression"
    shown = values.allowed(ValueView(quantity, options.scale, options.smooth))
    coloring = ColorOptions(tuple(styles), shared_opacity(len(styles)), shown)
    axes.set_facecolor("black")
    _draw_histology(axes, slide, options.brightness)
    adds = len(styles) != 1 or styles[0].is_additive
    if view == "measured":
        colors = spot_colors(values, coloring)
        spots = np.flatnonzero(result.raster.n_pixels_per_spot > 0)
        _draw_spots(axes, slide, spots, _over_black(colors[spots]) if adds else colors[spots])
        return
    image = pixel_colors(values, coloring)
    if adds:
        inside = np.isfinite(result.raster.to_image(np.ones(result.n_pixels)))
        image = _over_black(image)
        image[~inside] = 0.0
    interpolation = "bilinear" if options.smooth else "nearest"
    draw_image(axes, image, slide.to_cs @ result.raster.affine, interpolation)


def _over_black(colors: np.ndarray) -> np.ndarray:
    """Turn colors that are added to the histology into colors that cover it, as opaque as they are bright."""
    strength = colors[..., :3].max(axis=-1, keepdims=True)
    return np.concatenate([colors[..., :3] / np.maximum(strength, 1e-9), strength], axis=-1)


def _draw_histology(axes: Axes, slide: Slide, brightness: float) -> None:
    image = slide.image
    if image is None:
        return
    sizes = [max(level.shape[-2:]) for level in image.levels]
    level = max((i for i, size in enumerate(sizes) if size >= _MAX_IMAGE_PIXELS), default=0)
    step = max(1, -(-sizes[level] // (2 * _MAX_IMAGE_PIXELS)))
    crop = np.asarray(image.levels[level][:, ::step, ::step])
    matrix = slide.to_cs @ image.to_intrinsic[level] @ np.diag([float(step), float(step), 1.0])
    pixels = blended_histology(crop, brightness, is_color=image.is_color)
    draw_image(axes, pixels, matrix, "antialiased", cmap="gray", vmin=0, vmax=1)


def _draw_spots(axes: Axes, slide: Slide, spots: np.ndarray, colors: np.ndarray) -> None:
    from matplotlib.collections import PolyCollection

    outlines: Any = spot_outlines(slide, spots, spot_size(slide))  # the stubs accept no array here
    axes.add_collection(PolyCollection(outlines, facecolors=colors, edgecolors="none"))


def _area(displayed: DisplayedResult, slide: Slide) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest (x, y) of a panel in world coordinates."""
    rows, cols = displayed.result.raster.shape
    corners = np.array([[0, 0], [cols, 0], [cols, rows], [0, rows]], dtype=float)
    world = apply_affine(slide.to_cs @ displayed.result.raster.affine, corners)
    margin = _MARGIN * np.ptp(world, axis=0).max()
    return world.min(axis=0) - margin, world.max(axis=0) + margin


def _is_part(low: np.ndarray, high: np.ndarray, slide: Slide) -> bool:
    """Return whether an area misses spots of the slide."""
    centers = apply_affine(slide.to_cs, slide.centers)
    return bool(((centers < low) | (centers > high)).any())


def _draw_overview(axes: Axes, low: np.ndarray, high: np.ndarray, slide: Slide) -> None:
    """Draw the whole slide with a frame around the area of the panel."""
    from matplotlib.patches import Rectangle

    inset = axes.inset_axes(_INSET)
    inset.set_facecolor("black")
    _draw_histology(inset, slide, 1.0)
    centers = apply_affine(slide.to_cs, slide.centers)
    if slide.image is None:
        inset.plot(*centers.T, ",", color="white")
    margin = 0.04 * np.ptp(centers, axis=0).max()
    (x0, y0), (x1, y1) = centers.min(axis=0) - margin, centers.max(axis=0) + margin
    inset.set(xlim=(x0, x1), ylim=(y1, y0), xticks=[], yticks=[])
    for color, width in (("black", 2.4), ("#ffd400", 1.2)):
        inset.add_patch(Rectangle((low[0], low[1]), *(high - low), fill=False, edgecolor=color, linewidth=width))


def _draw_color_bar(axes: Axes, style: GeneStyle, scale: Scale) -> None:
    """Draw the colors of a gene over the gray of a dimmed histology, with its contrast limits."""
    low, high = style.limits
    colors = style.rgba(np.linspace(low, high, 256))
    alpha = colors[:, 3:] * style.opacity
    covered = colors[:, :3] * alpha + (0.0 if style.is_additive else 0.2) * (1 - alpha)
    axes.imshow(covered[None], extent=(low, high, 0, 1), aspect="auto")
    axes.set(yticks=[], xlabel=SCALE_UNITS[scale])
    axes.set_title(style.gene, fontsize=_FONT_SIZE, fontstyle="italic", pad=2)
    axes.set_box_aspect(0.06)
    axes.tick_params(length=2, pad=1)
    axes.locator_params(axis="x", nbins=4)
