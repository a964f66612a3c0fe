"""Draw the pictures of a report as PNG.

Large maps are averaged over blocks of pixels before they are drawn, so that a picture needs no dense map. Shape legend:
Q pixels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.analysis.domains import Domains
from napari_srast.analysis.drawing import domain_colors, draw_image, draw_scale_bar, spot_outlines
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide, SlideImage
from napari_srast.evaluation.plots import figure_class
from napari_srast.geometry.affine import apply_affine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_domains", "draw_gene", "draw_overview"]

_MAX_SIDE = 800  # drawn pixels of the longer side of a map
_MAX_SPOTS = 20_000  # spots that are drawn one by one
_MAX_IMAGE = 1600  # pixels of the longer side of the histology
_PERCENTILE = 99.5  # of the values of the maps: the upper end of the color scale
_PANEL_INCHES = 3.1
_DPI = 110
_MARGIN = 0.03  # around the pixels, in units of their longer side
_BACKGROUND = "#20242a"
_STYLE: Any = {"font.size": 8, "text.parse_math": False}


def draw_overview(result: UpsampleResult) -> bytes:
    """Draw the whole slide, its histology, and the spots that were upsampled."""
    from matplotlib import rc_context
    from matplotlib.collections import PolyCollection

    slide = result.slide
    with rc_context(_STYLE):
        centers = apply_affine(slide.to_cs, slide.centers)
        figure, (axes,) = _panels([""], centers, slide)
        _draw_histology(axes, slide)
        used = result.raster.spots
        others = np.setdiff1d(np.arange(slide.n_spots), used)
        if slide.n_spots <= _MAX_SPOTS:
            for spots, color in ((others, "#9aa0a6"), (used, "#00a5e0")):
                outlines: Any = spot_outlines(slide, spots, _size(slide))  # the stubs accept no array here
                fill = "none" if slide.image is not None else color
                axes.add_collection(PolyCollection(outlines, edgecolors=color, facecolors=fill, linewidths=0.6))
        else:
            for spots, color in ((others, "#9aa0a6"), (used, "#00a5e0")):
                axes.plot(*centers[spots].T, ",", color=color, alpha=0.3)
        return _to_png(figure)


def draw_gene(result: UpsampleResult, gene: str) -> tuple[bytes, tuple[str, ...]]:
    """Draw the measured spots, the counts and, if the result has it, the expression of a gene, on one color scale.

    Returns
    -------
    tuple
        The picture, and the titles of its panels from left to right.
    """
    from matplotlib import rc_context
    from matplotlib.collections import PolyCollection

    slide, raster, column = result.slide, result.raster, result.gene_column(gene)
    maps = {"Upsampled counts": result.counts[:, [column]].toarray()[:, 0]}
    if result.expression is not None and column in result.expression_columns:
        maps["Expression"] = result.expression[:, [column]].toarray()[:, 0]
    counts = slide.select_counts(slide.gene_indices([gene]))[raster.spots].toarray()[:, 0]
    per_pixel = counts / raster.n_pixels_per_spot[raster.spots]
    shown = np.concatenate([per_pixel, *maps.values()])
    top = float(np.percentile(shown[shown > 0], _PERCENTILE)) if (shown > 0).any() else 1.0
    style: Any = {"cmap": "inferno", "clim": (0.0, top)}
    titles = ("Measured spots", *maps)
    with rc_context(_STYLE):
        figure, panels = _panels(titles, _corners(result), slide)
        if len(raster.spots) <= _MAX_SPOTS:
            outlines: Any = spot_outlines(slide, raster.spots, _size(slide))
            drawn: Any = PolyCollection(outlines, array=per_pixel, edgecolors="none", **style)
            panels[0].add_collection(drawn)
        else:
            of_spot = np.zeros(slide.n_spots)
            of_spot[raster.spots] = per_pixel
            _draw_map(panels[0], result, of_spot[raster.parent], top)
        for axes, values in zip(panels[1:], maps.values(), strict=True):
            drawn = _draw_map(axes, result, values, top)
        bar = figure.colorbar(drawn, ax=panels, shrink=0.8, aspect=30, pad=0.01, extend="max")
        bar.set_label("counts per pixel")
        return _to_png(figure), titles


def draw_domains(found: Domains) -> bytes:
    """Draw the domains of a result, in the colors of :func:`napari_srast.analysis.drawing.domain_colors`."""
    from matplotlib import rc_context

    result = found.result
    raster, step = result.raster, _step(result)
    colors = np.ones((len(found.sizes) + 1, 4))
    colors[0] = 0.0  # without a pixel
    colors[1:, :3] = domain_colors(len(found.sizes))
    codes = np.zeros((-(-raster.shape[0] // step), -(-raster.shape[1] // step)), dtype=np.int64)
    codes[raster.row // step, raster.col // step] = found.labels.codes + 1  # of a block, its last pixel
    with rc_context(_STYLE):
        figure, (axes,) = _panels([""], _corners(result), result.slide)
        draw_image(axes, colors[codes], _to_world(result, step), "nearest")
        return _to_png(figure)


def _panels(titles: Sequence[str], points: np.ndarray, slide: Slide) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels of the area around points of the world; a single one is larger."""
    margin = _MARGIN * float(np.ptp(points, axis=0).max()) + _size(slide) * slide.cs_scale / 2
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    width, height = high - low
    inches = _PANEL_INCHES * (2.0 if len(titles) == 1 else 1.0)
    size = (inches * len(titles), inches * float(np.clip(height / width, 0.3, 2.0)) + 0.25)
    figure = figure_class()(figsize=size, layout="constrained")
    panels = [figure.add_subplot(1, len(titles), i + 1) for i in range(len(titles))]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=9)
        axes.set_facecolor(_BACKGROUND)
        axes.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), xticks=[], yticks=[], aspect="equal")
        draw_scale_bar(axes, slide, float(width))
    return figure, panels


def _corners(result: UpsampleResult) -> np.ndarray:
    """Return the corners of the raster in the world, shape (4, 2)."""
    rows, cols = result.raster.shape
    corners = np.array([[0, 0], [cols, 0], [cols, rows], [0, rows]], dtype=float)
    return apply_affine(result.slide.to_cs @ result.raster.affine, corners)


def _step(result: UpsampleResult) -> int:
    """Return the side of the blocks of pixels that are drawn as one."""
    return max(1, -(-max(result.raster.shape) // _MAX_SIDE))


def _to_world(result: UpsampleResult, step: int) -> np.ndarray:
    matrix: np.ndarray = result.slide.to_cs @ result.raster.affine @ np.diag([float(step), float(step), 1.0])
    return matrix


def _draw_map(axes: Axes, result: UpsampleResult, values: np.ndarray, top: float) -> Any:
    """Draw values (Q,), averaged over blocks of pixels."""
    raster, step = result.raster, _step(result)
    rows, cols = (-(-side // step) for side in raster.shape)
    block = (raster.row // step).astype(np.int64) * cols + raster.col // step
    sums, n = (np.bincount(block, weights=w, minlength=rows * cols) for w in (values, None))
    with np.errstate(invalid="ignore"):
        image = (sums / n).reshape(rows, cols)
    return draw_image(axes, image, _to_world(result, step), "nearest", cmap="inferno", vmin=0, vmax=top)


def _draw_histology(axes: Axes, slide: Slide) -> None:
    image = slide.image
    if image is None:
        return
    sizes = [max(level.shape[-2:]) for level in image.levels]
    level = max((i for i, size in enumerate(sizes) if size >= _MAX_IMAGE), default=0)
    step = max(1, -(-sizes[level] // _MAX_IMAGE))
    matrix = slide.to_cs @ image.to_intrinsic[level] @ np.diag([float(step), float(step), 1.0])
    pixels = _to_colors(image, np.asarray(image.levels[level][:, ::step, ::step]))
    draw_image(axes, pixels, matrix, "antialiased", cmap="gray", vmin=0, vmax=1)


def _to_colors(image: SlideImage, crop: np.ndarray) -> np.ndarray:
    """Return an image as colors, or the mean of its stains as gray, from 0 to 1."""
    scale = float(np.iinfo(crop.dtype).max) if np.issubdtype(crop.dtype, np.integer) else 1.0
    values = np.moveaxis(crop.astype(np.float32) / scale, 0, -1)
    if image.is_color:
        return np.clip(values[..., :3], 0, 1)
    gray = np.nan_to_num(values.mean(axis=-1))
    low, high = np.percentile(gray, (1.0, 99.5))
    return np.clip((gray - low) / max(high - low, 1e-9), 0, 1)


def _size(slide: Slide) -> float:
    """Return the diameter of the spots, or a size at which their centers can be seen."""
    if slide.spot_diameter:
        return float(slide.spot_diameter)
    return float(np.ptp(slide.centers, axis=0).max()) / max(np.sqrt(slide.n_spots), 1.0) / 2


def _to_png(figure: Figure) -> bytes:
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.06, metadata={"Software": None})
        return file.getvalue()
