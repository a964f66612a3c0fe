"""A second picture to the right of the region: the same part of the histology with what a result is compared with."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.backdrop import Backdrop
from napari_srast.gui.layers.camera import CameraBookmark
from napari_srast.gui.layers.compared_layer import compared_pixels_layer
from napari_srast.gui.layers.factory import (
    KEY,
    black_layer,
    image_affine,
    measured_layer,
    remove_layers,
    swap_axes,
    update_transforms,
    world_units,
)

__all__ = ["SideBySide", "raster_bounds", "side_by_side_bounds", "side_by_side_layers", "side_by_side_offset"]

_DISTANCE = 1.05  # between the two pictures, in widths of the region
_FRAME = 0.03  # width of the black frame, in widths of the picture: the picture may cover other parts of the slide
_CROP_PIXELS = 1024  # largest side of the repeated part of the histology


class SideBySide:
    """Layers of the second picture and the camera movement that brings both pictures into view.

    Parameters
    ----------
    viewer
        The viewer, or its model.

    Attributes
    ----------
    layers
        Layers of the picture, bottom first; empty while it is closed. The last one shows the counts.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.layers: list[Layer] = []
        self._viewer = viewer
        self._pending: list[Layer] = []
        self._camera = CameraBookmark(viewer)
        self._backdrop: Backdrop | None = None

    @property
    def has_pending(self) -> bool:
        """Whether there are layers that were not yet added to the viewer."""
        return bool(self._pending)

    @property
    def is_incomplete(self) -> bool:
        """Whether the user removed a layer of the picture from the viewer."""
        layers = list(self._viewer.layers)
        return any(layer not in layers and layer not in self._pending for layer in self.layers)

    def open(self, slide: Slide, result: UpsampleResult, brightness: float, compared: UpsampleResult | None) -> None:
        """Create the layers, to be added with :meth:`next_layer`, and move the camera."""
        self.layers, self._backdrop = side_by_side_layers(slide, result, brightness, compared)
        self._pending = self.layers
        self._camera.show(*side_by_side_bounds(slide, result))

    def next_layer(self) -> Layer:
        """Return the next layer to add to the viewer."""
        layer, *self._pending = self._pending
        return layer

    def close(self) -> None:
        """Remove the layers and move the camera back."""
        removed, self.layers, self._pending, self._backdrop = self.layers, [], [], None
        remove_layers(self._viewer.layers, removed)
        self._camera.go_back()

    def close_incomplete(self) -> None:
        """Close the picture if the user removed a layer of it."""
        if self.is_incomplete:
            self.close()

    def forget_camera(self) -> None:
        """Leave the camera where it is when the picture is closed."""
        self._camera.forget()

    def offset_at(self, world: np.ndarray, slide: Slide, result: UpsampleResult) -> np.ndarray:
        """Return the offset (x, y) of the picture if a world position (x, y) is in it, else zeros."""
        if not self.layers:
            return np.zeros(2)
        offset = side_by_side_offset(slide, result)
        to_pixels = np.linalg.inv(slide.to_cs @ result.raster.affine)
        position = apply_affine(to_pixels, (world - offset)[None])[0]
        is_inside = (position >= 0).all() and (position < result.raster.shape[::-1]).all()
        return offset if is_inside else np.zeros(2)

    def set_brightness(self, brightness: float) -> None:
        """Set the brightness of the histology, 0 (black) to 1 (unchanged)."""
        if self._backdrop is not None:
            self._backdrop.set_brightness(brightness)


def side_by_side_offset(slide: Slide, result: UpsampleResult) -> np.ndarray:
    """Return the offset of the second picture from the first, (x, y) in world coordinates."""
    corners = apply_affine(slide.to_cs, _box_corners(*_raster_box(result)))
    return np.array([_DISTANCE * float(np.ptp(corners[:, 0])), 0.0])


def raster_bounds(slide: Slide, result: UpsampleResult) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest (x, y) of the raster in world coordinates."""
    corners = apply_affine(slide.to_cs, _box_corners(*_raster_box(result)))
    return corners.min(axis=0), corners.max(axis=0)


def side_by_side_bounds(slide: Slide, result: UpsampleResult) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest (x, y) of both pictures in world coordinates."""
    low, high = raster_bounds(slide, result)
    return low, high + side_by_side_offset(slide, result)


def side_by_side_layers(
    slide: Slide, result: UpsampleResult, brightness: float, compared: UpsampleResult | None = None
) -> tuple[list[Layer], Backdrop | None]:
    """Create the layers of the second picture, bottom first: a black frame, dimmed histology and the counts.

    Parameters
    ----------
    slide
        The slide.
    result
        The displayed result.
    brightness
        Brightness of the histology, 0 (black) to 1 (unchanged).
    compared
        The result whose pixels are shown; None shows the measured spots.

    Returns
    -------
    list[Layer], Backdrop | None
        The layers, and the one that dims the histology; None without histology.
    """
    shift = np.eye(3)
    shift[:2, 2] = side_by_side_offset(slide, result)
    low, high = _raster_box(result)
    extent = np.array([[high[0] - low[0], 0.0, low[0]], [0.0, high[1] - low[1], low[1]], [0.0, 0.0, 1.0]])
    metadata = {"role": "side_by_side"}
    histology: list[Layer] = []
    backdrop: Backdrop | None = None
    if slide.image is not None:
        level, window, to_intrinsic = _histology_crop(slide, low, high)
        is_color = slide.image.is_color
        crop = np.asarray(slide.image.levels[level][(slice(None) if is_color else 0, *window)])
        pixels = np.moveaxis(crop, 0, -1) if is_color else crop
        to_world = shift @ slide.to_cs @ to_intrinsic
        picture = Image(
            pixels,
            name="SRast side-by-side histology",
            rgb=is_color,
            affine=image_affine(to_world),
            units=world_units(slide),
            metadata={KEY: metadata},
        )
        rows, cols = pixels.shape[:2]
        scale = np.diag([float(cols), float(rows), 1.0])
        extent = to_intrinsic @ scale
        if is_color:
            backdrop = Backdrop.of_crop(pixels, slide, to_world, brightness)
        else:
            black = black_layer("SRast side-by-side backdrop", slide, to_world @ scale, 1.0, metadata)
            backdrop = Backdrop.black(black, brightness)
        histology = [picture, backdrop.layer]
    enlarge = np.array([[1 + 2 * _FRAME, 0.0, -_FRAME], [0.0, 1 + 2 * _FRAME, -_FRAME], [0.0, 0.0, 1.0]])
    frame = black_layer("SRast side-by-side frame", slide, shift @ slide.to_cs @ extent @ enlarge, 1.0, metadata)
    return [frame, *histology, _counts_layer(slide, result, compared, shift)], backdrop


def _counts_layer(slide: Slide, result: UpsampleResult, compared: UpsampleResult | None, shift: np.ndarray) -> Layer:
    """Create the layer of the measured spots or of the pixels of ``compared``, moved by a (3, 3) affine."""
    layer: Layer
    if compared is None:
        layer = measured_layer(slide, result.raster.spots)
        update_transforms([layer], slide)
        layer.affine = swap_axes(shift) @ np.asarray(layer.affine.affine_matrix)
        layer.name = "SRast side-by-side spots"
    else:
        layer = compared_pixels_layer(compared, slide)
        layer.affine = image_affine(shift @ slide.to_cs @ compared.raster.affine)
        layer.name = "SRast side-by-side pixels"
    layer.visible = True
    grid = layer.metadata[KEY].get("grid")
    layer.metadata = {KEY: {"role": "side_by_side", "grid": grid}}
    return layer


def _raster_box(result: UpsampleResult) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest (x, y) of the raster in intrinsic coordinates."""
    rows, cols = result.raster.shape
    corners = apply_affine(result.raster.affine, np.array([[0, 0], [cols, 0], [cols, rows], [0, rows]], dtype=float))
    return corners.min(axis=0), corners.max(axis=0)


def _box_corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])


def _histology_crop(slide: Slide, low: np.ndarray, high: np.ndarray) -> tuple[int, tuple[slice, slice], np.ndarray]:
    """Return the pyramid level and the rows and columns that show a box, and their affine to intrinsic coordinates."""
    image = slide.image
    assert image is not None
    for level, (pixels, matrix) in enumerate(zip(image.levels, image.to_intrinsic, strict=True)):
        corners = apply_affine(np.linalg.inv(matrix), _box_corners(low, high))
        rows, cols = pixels.shape[-2:]
        first = np.clip(np.floor(corners.min(axis=0)), 0, [cols - 1, rows - 1]).astype(int)
        last = np.clip(np.ceil(corners.max(axis=0)), first + 1, [cols, rows]).astype(int)
        if (last - first).max() <= _CROP_PIXELS or level == len(image.levels) - 1:
            break
    step = max(1, -(-int((last - first).max()) // _CROP_PIXELS))  # subsample an image without a pyramid
    to_intrinsic = matrix @ np.array([[step, 0.0, first[0]], [0.0, step, first[1]], [0.0, 0.0, 1.0]])
    return level, (slice(first[1], last[1], step), slice(first[0], last[0], step)), to_intrinsic
