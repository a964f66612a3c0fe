"""What a result is compared with, in the colors and on the scale of its genes: before, to their after.

That is the measured counts on their spots, or another result on the same pixels, such as one made without the
histology. Side by side, a second picture stands to the right of the region: the same piece of histology with that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from napari.layers import Image, Layer, Points
from scipy import sparse

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.factory import (
    KEY,
    image_affine,
    is_color_image,
    measured_layer,
    place_layers,
    points_placing,
    swap_axes,
)

__all__ = [
    "GeneStyle",
    "side_by_side_bounds",
    "side_by_side_layers",
    "side_by_side_offset",
    "paint_compared",
    "pixel_colors",
    "pixels_layer",
    "same_pixels",
    "spot_colors",
]

_GAP = 1.05  # widths of the region from one picture to the other
_FRAME = 0.03  # black around the second picture, of its width: it may lie over the rest of the slide
_CROP_PIXELS = 1024  # longer side of the repeated piece of histology


@dataclass(frozen=True)
class GeneStyle:
    """How one gene is painted: its color, the counts per pixel at which it begins and is full, and its opacity."""

    gene: str
    color: str
    limits: tuple[float, float]
    opacity: float = 1.0

    @property
    def scale(self) -> str:
        """The limits in words, to three figures of the upper one."""
        low, high = self.limits
        decimals = max(0, 2 - int(np.floor(np.log10(high)))) if 0 < high < 1000 else 0

        def write(value: float) -> str:
            text = f"{value:,.{decimals}f}"
            return text.rstrip("0").rstrip(".") if decimals else text

        return f"{write(low)} to {write(high)}"


def spot_colors(result: UpsampleResult, paints: Sequence[GeneStyle], strength: float) -> np.ndarray:
    """Return the colors of all spots, shape (N, 4): measured counts spread evenly over the spots' pixels.

    Spots without pixels are transparent. ``strength`` is the opacity that all genes share.
    """
    per_spot = result.raster.n_pixels_per_spot
    inside = per_spot > 0
    colors = np.zeros((len(per_spot), 4))
    colors[inside, 3] = 1.0
    columns = result.slide.gene_indices([p.gene for p in paints])
    counts = result.slide.counts[:, columns].toarray()[inside] / per_spot[inside, None]
    colors[inside, :3] = _added_up(counts, paints, strength)
    return colors


def pixel_colors(
    result: UpsampleResult, columns: sparse.csc_matrix, paints: Sequence[GeneStyle], strength: float
) -> np.ndarray:
    """Return the colors of a result's raster, shape (rows, columns, 4): transparent where no pixel has a parent.

    ``columns`` holds the result's counts by columns; ``strength`` is the opacity that all genes share.
    """
    counts = columns[:, [result.gene_column(p.gene) for p in paints]].toarray()
    colors = np.column_stack([_added_up(counts, paints, strength), np.ones(len(counts))])
    return np.nan_to_num(np.stack([result.raster.to_image(channel) for channel in colors.T], axis=-1))


def _added_up(counts: np.ndarray, paints: Sequence[GeneStyle], strength: float) -> np.ndarray:
    """Return red, green and blue (n, 3) of counts (n, genes), added up as napari adds up the genes' layers."""
    colors = np.zeros((len(counts), 3))
    for paint, values in zip(paints, counts.T, strict=True):
        rgb = np.array([int(paint.color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        low, high = paint.limits
        share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
        colors += share[:, None] * rgb * strength * paint.opacity
    return np.minimum(colors, 1)


def same_pixels(one: UpsampleResult, other: UpsampleResult) -> bool:
    """Tell whether two results of a slide have the same pixels, and the second all genes of the first."""
    first, second = one.raster, other.raster
    return (
        first.shape == second.shape
        and np.allclose(first.affine, second.affine)
        and np.array_equal(first.row, second.row)
        and np.array_equal(first.col, second.col)
        and set(one.genes) <= set(other.genes)
    )


def paint_compared(layer: Layer, colors: np.ndarray) -> None:
    """Color a layer of pixels, or one of spots: all of them, or only those that have pixels."""
    if isinstance(layer, Points):
        layer.face_color = colors if len(layer.data) == len(colors) else colors[colors[:, 3] > 0]
    else:
        layer.data = colors


def pixels_layer(result: UpsampleResult, slide: Slide) -> Image:
    """Return a layer for the colors of another result's pixels, hidden at first."""
    return Image(
        np.zeros((*result.raster.shape, 4), dtype=np.float32),
        rgb=True,
        name="SRast compared pixels",
        affine=image_affine(slide.to_cs @ result.raster.affine),
        blending="additive",
        visible=False,
        metadata={KEY: {"role": "measured", "to_intrinsic": result.raster.affine}},
    )


def side_by_side_offset(slide: Slide, result: UpsampleResult) -> np.ndarray:
    """Return how far the second picture lies from the first, (x, y) in world coordinates."""
    corners = apply_affine(slide.to_cs, _box_corners(*_box(slide, result)))
    return np.array([_GAP * float(np.ptp(corners[:, 0])), 0.0])


def side_by_side_bounds(slide: Slide, result: UpsampleResult) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest corner, (x, y) in world coordinates, of both pictures together."""
    corners = apply_affine(slide.to_cs, _box_corners(*_box(slide, result)))
    low, high = corners.min(axis=0), corners.max(axis=0)
    return low, high + side_by_side_offset(slide, result)


def side_by_side_layers(
    slide: Slide, result: UpsampleResult, dimming: float, compared: UpsampleResult | None = None
) -> list[Layer]:
    """Return the layers of the second picture, bottom first: a black frame, histology with its dimmer, the spots.

    In place of the spots the pixels of another result, ``compared``, where there is one.
    """
    shift = side_by_side_offset(slide, result)
    move = np.eye(3)
    move[:2, 2] = shift
    low, high = _box(slide, result)
    ground = np.array([[high[0] - low[0], 0.0, low[0]], [0.0, high[1] - low[1], low[1]], [0.0, 0.0, 1.0]])
    crop: list[Layer] = []
    if slide.image is not None:
        level, cut, to_intrinsic = _crop(slide, low, high)
        color = is_color_image(slide.image)
        pixels = slide.image.levels[level]
        crop.append(
            Image(
                np.moveaxis(np.asarray(pixels[(slice(None), *cut)]), 0, -1) if color else np.asarray(pixels[(0, *cut)]),
                name="SRast side-by-side histology",
                rgb=color,
                affine=image_affine(move @ slide.to_cs @ to_intrinsic),
                metadata={KEY: {"role": "side_by_side"}},
            )
        )
        rows, cols = crop[0].data.shape[:2]
        ground = to_intrinsic @ np.diag([float(cols), float(rows), 1.0])
        crop.append(_sheet("SRast side-by-side dimmer", move @ slide.to_cs @ ground, dimming))
    wider = np.array([[1 + 2 * _FRAME, 0.0, -_FRAME], [0.0, 1 + 2 * _FRAME, -_FRAME], [0.0, 0.0, 1.0]])
    layers = [_sheet("SRast side-by-side frame", move @ slide.to_cs @ ground @ wider, 1.0), *crop]
    if compared is None:
        last: Layer = measured_layer(slide, result.raster.spots)
        place_layers([last], slide)
        last.affine = swap_axes(move) @ points_placing(slide)["affine"]
        last.name = "SRast side-by-side spots"
    else:
        last = pixels_layer(compared, slide)
        last.affine = image_affine(move @ slide.to_cs @ compared.raster.affine)
        last.name = "SRast side-by-side pixels"
    last.visible = True
    last.metadata = {KEY: {"role": "side_by_side"}}
    layers.append(last)
    return layers


def _sheet(name: str, matrix: np.ndarray, opacity: float) -> Image:
    """Return a black sheet over the unit square that ``matrix`` takes to the world, (x, y) order."""
    return Image(
        np.zeros((1, 1), dtype=np.uint8),
        name=name,
        affine=image_affine(matrix),
        opacity=opacity,
        contrast_limits=(0, 1),
        blending="translucent_no_depth",
        metadata={KEY: {"role": "side_by_side"}},
    )


def _box(slide: Slide, result: UpsampleResult) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest corner of the pixels in the spots' own frame, (x, y)."""
    rows, cols = result.raster.shape
    corners = apply_affine(result.raster.affine, np.array([[0, 0], [cols, 0], [cols, rows], [0, rows]], dtype=float))
    return corners.min(axis=0), corners.max(axis=0)


def _box_corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])


def _crop(slide: Slide, low: np.ndarray, high: np.ndarray) -> tuple[int, tuple[slice, slice], np.ndarray]:
    """Return which level and which rows and columns show a box, and the affine from them to the spots' own frame."""
    image = slide.image
    assert image is not None
    for level, (pixels, matrix) in enumerate(zip(image.levels, image.to_intrinsic, strict=True)):
        place = apply_affine(np.linalg.inv(matrix), _box_corners(low, high))
        rows, cols = pixels.shape[-2:]
        first = np.clip(np.floor(place.min(axis=0)), 0, [cols - 1, rows - 1]).astype(int)
        last = np.clip(np.ceil(place.max(axis=0)), first + 1, [cols, rows]).astype(int)
        if (last - first).max() <= _CROP_PIXELS or level == len(image.levels) - 1:
            break
    step = max(1, -(-int((last - first).max()) // _CROP_PIXELS))  # an image without a pyramid is thinned
    to_intrinsic = matrix @ np.array([[step, 0.0, first[0]], [0.0, step, first[1]], [0.0, 0.0, 1.0]])
    return level, (slice(first[1], last[1], step), slice(first[0], last[0], step)), to_intrinsic
