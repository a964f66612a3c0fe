"""Move the camera to layers or boxes, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer

__all__ = ["MARGIN", "CameraBookmark", "FittedView", "zoom_to_box", "zoom_to_layers"]

MARGIN = 1.12  # visible size divided by the size of the box


def zoom_to_layers(viewer: ViewerModel, layers: Sequence[Layer]) -> None:
    """Fit the view to some layers, visible or hidden, and ignore all others."""
    viewer.reset_view()
    if not layers:
        return
    # napari 0.9.0 can only fit all layers, and later versions fit 2D layers only if all layers are 2D.
    corners = np.concatenate([layer.extent.world[:, -2:] for layer in layers])
    _fit(viewer, corners.min(axis=0), corners.max(axis=0))


def zoom_to_box(viewer: ViewerModel, low: np.ndarray, high: np.ndarray) -> None:
    """Fit the view to the box from ``low`` to ``high``, (x, y) in world coordinates."""
    _fit(viewer, low[::-1], high[::-1])


def _fit(viewer: Any, low: np.ndarray, high: np.ndarray) -> None:
    """Fit the view to the box from ``low`` to ``high``, (y, x) in world coordinates."""
    camera, canvas = viewer.scene.camera, np.asarray(viewer.canvas.size, dtype=float)
    camera.center = (*camera.center[:-2], *(low + high) / 2)
    camera.zoom = float(np.min(canvas / np.maximum(high - low, 1e-12))) / MARGIN


class FittedView:
    """Fits the view to layers, and once more after the canvas has changed its size.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer: Any = viewer
        self._layers: list[Layer] = []
        self._position: tuple[tuple[float, ...], float] | None = None

    def fit(self, layers: Sequence[Layer]) -> None:
        """Fit the view to some layers, visible or hidden."""
        zoom_to_layers(self._viewer, layers)
        self._layers, self._position = list(layers), _position(self._viewer)

    def fit_again(self) -> None:
        """Fit the view to the same layers, unless one was removed or the user has moved the camera since."""
        is_shown = all(layer in self._viewer.layers for layer in self._layers)
        if self._layers and is_shown and _position(self._viewer) == self._position:
            self.fit(self._layers)


def _position(viewer: Any) -> tuple[tuple[float, ...], float]:
    return tuple(viewer.scene.camera.center), float(viewer.scene.camera.zoom)


class CameraBookmark:
    """Moves the camera of a viewer and restores its previous position.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer: Any = viewer
        self._before: tuple[tuple[float, ...], float] | None = None
        self._moved_to: tuple[tuple[float, ...], float] | None = None

    @property
    def _now(self) -> tuple[tuple[float, ...], float]:
        return _position(self._viewer)

    def show(self, low: np.ndarray, high: np.ndarray) -> None:
        """Fit the view to the box from ``low`` to ``high``, (x, y) in world coordinates, unless it is fully visible."""
        camera, canvas = self._viewer.scene.camera, np.asarray(self._viewer.canvas.size, dtype=float)[::-1]
        half = canvas / 2 / camera.zoom
        middle = np.asarray(camera.center, dtype=float)[-2:][::-1]
        if (low >= middle - half).all() and (high <= middle + half).all():
            return
        self._before = self._now
        _fit(self._viewer, low[::-1], high[::-1])
        self._moved_to = self._now

    def go_back(self) -> None:
        """Restore the previous view, unless the user has moved the camera since."""
        if self._before is not None and self._now == self._moved_to:
            self._viewer.scene.camera.center, self._viewer.scene.camera.zoom = self._before
        self.forget()

    def forget(self) -> None:
        """Discard the previous view."""
        self._before = self._moved_to = None
