"""Arrange several slides in rows and columns around the current one, at the same scale where their units are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.factory import spot_size

__all__ = ["Place", "arrange", "micrometers", "world_box"]

_MICROMETERS = {"nm": 1e-3, "um": 1.0, "µm": 1.0, "mm": 1e3}
_COLUMN_GAP = 0.06  # in widths of the widest slide
_ROW_GAP = 0.12  # in heights of the tallest slide; the names of the slides are in it

Box = tuple[np.ndarray, np.ndarray]
"""Smallest and largest (x, y)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Where a slide is shown.

    Parameters
    ----------
    matrix
        Affine from the world coordinates of the slide to those of the current slide, (x, y) order, shape (3, 3).
    low, high
        Smallest and largest (x, y) of the slide, in world coordinates of the current slide, shape (2,).
    is_to_scale
        Whether lengths can be compared with those of the current slide. Otherwise the unit of one of them is unknown,
        and the spots of both extend equally far.
    """

    matrix: np.ndarray
    low: np.ndarray
    high: np.ndarray
    is_to_scale: bool


def arrange(slides: Sequence[Slide], current: int, canvas: tuple[float, float]) -> list[Place]:
    """Return the place of each slide; the current one stays where it is.

    Parameters
    ----------
    slides
        The slides, in the order of rows.
    current
        Index of the current slide.
    canvas
        Width and height of the canvas; the number of columns is the one that shows the slides largest.
    """
    reference = slides[current]
    scales = [_scale(slide, reference) for slide in slides]
    boxes = [
        (scale * low, scale * high) for (scale, _), (low, high) in zip(scales, map(world_box, slides), strict=True)
    ]
    corners = _corners(np.array([high - low for low, high in boxes]), canvas)
    places = []
    for slide, (scale, is_to_scale), (low, high), corner in zip(slides, scales, boxes, corners, strict=True):
        shift = np.zeros(2) if slide is reference else corner - corners[current] + boxes[current][0] - low
        matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]], [0.0, 0.0, 1.0]])
        places.append(Place(matrix=matrix, low=low + shift, high=high + shift, is_to_scale=is_to_scale))
    return places


def world_box(slide: Slide) -> Box:
    """Return the smallest and largest (x, y) of spots and histology in world coordinates."""
    low, high = _spot_box(slide)
    if slide.image is not None:
        rows, cols = slide.image.levels[0].shape[-2:]
        edges = np.array([[0, 0], [cols, 0], [cols, rows], [0, rows]], dtype=float)
        edges = apply_affine(slide.to_cs @ slide.image.to_intrinsic[0], edges)
        low, high = np.minimum(low, edges.min(axis=0)), np.maximum(high, edges.max(axis=0))
    return low, high


def _spot_box(slide: Slide) -> Box:
    points = apply_affine(slide.to_cs, slide.centers)
    radius = spot_size(slide) * slide.cs_scale / 2
    return points.min(axis=0) - radius, points.max(axis=0) + radius


def _scale(slide: Slide, reference: Slide) -> tuple[float, bool]:
    """Return the factor on world coordinates of a slide, and whether it follows from its unit."""
    if slide is reference:
        return 1.0, True
    own, other = _world_unit(slide), _world_unit(reference)
    if own is not None and other is not None:
        return own / other, True
    extents = [float(np.subtract(*_spot_box(one)[::-1]).max()) for one in (slide, reference)]
    return extents[1] / max(extents[0], 1e-12), False


def micrometers(unit: str) -> float | None:
    """Return a unit of length in micrometers; None for an unknown one, such as pixels."""
    return _MICROMETERS.get(unit)


def _world_unit(slide: Slide) -> float | None:
    """Return the micrometers in one unit of the world coordinates of a slide; None if unknown."""
    unit = micrometers(slide.unit)
    return None if unit is None else unit / slide.cs_scale


def _corners(sizes: np.ndarray, canvas: tuple[float, float]) -> np.ndarray:
    """Return the corner with the smallest (x, y) of each box, shape (n, 2), for boxes of sizes (x, y)."""
    gaps = np.array([_COLUMN_GAP, _ROW_GAP]) * sizes.max(axis=0)
    best, best_zoom = np.zeros_like(sizes), -1.0
    for n_columns in range(1, len(sizes) + 1):
        column, row = np.arange(len(sizes)) % n_columns, np.arange(len(sizes)) // n_columns
        widths = np.array([sizes[column == i, 0].max() for i in range(column.max() + 1)]) + gaps[0]
        heights = np.array([sizes[row == i, 1].max() for i in range(row.max() + 1)]) + gaps[1]
        zoom = float(min(canvas[0] / widths.sum(), canvas[1] / heights.sum()))
        if zoom > best_zoom:
            starts = np.column_stack([(np.cumsum(widths) - widths)[column], (np.cumsum(heights) - heights)[row]])
            cells = np.column_stack([widths[column], heights[row]]) - gaps
            best, best_zoom = starts + (cells - sizes) / 2, zoom
    return best
