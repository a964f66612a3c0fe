"""Brings a part of the world into view where it is not, and goes back afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer

__all__ = ["CameraBookmark", "zoom_to_layers"]

_AROUND = 1.05  # of the size of what is brought into view


def zoom_to_layers(viewer: ViewerModel, layers: Sequence[Layer]) -> None:
    """Bring layers into view, whatever else there is, hidden or not."""
    viewer.reset_view()
    if not layers:
        return
    # By hand: napari 0.9.0 fits all that there is, and later ones fit flat layers only where all are flat.
    corners = np.concatenate([layer.extent.world[:, -2:] for layer in layers])
    _fit(viewer, corners.min(axis=0), corners.max(axis=0))


def _fit(viewer: Any, low: np.ndarray, high: np.ndarray) -> None:
    """Move the camera to the box from ``low`` to ``high``, (y, x) in world coordinates."""
    camera, canvas = viewer.scene.camera, np.asarray(viewer.canvas.size, dtype=float)
    camera.center = (*camera.center[:-2], *(low + high) / 2)
    camera.zoom = float(np.min(canvas / np.maximum(high - low, 1e-12))) / _AROUND


class CameraBookmark:
    """Where the camera of a viewer was, and where it was moved to.

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
        camera = self._viewer.scene.camera
        return tuple(camera.center), float(camera.zoom)

    def show(self, low: np.ndarray, high: np.ndarray) -> None:
        """Bring the box from ``low`` to ``high``, (x, y) in world coordinates, into view, unless all of it is seen."""
        camera, canvas = self._viewer.scene.camera, np.asarray(self._viewer.canvas.size, dtype=float)[::-1]
        half = canvas / 2 / camera.zoom
        middle = np.asarray(camera.center, dtype=float)[-2:][::-1]
        if (low >= middle - half).all() and (high <= middle + half).all():
            return
        self._before = self._now
        _fit(self._viewer, low[::-1], high[::-1])
        self._moved_to = self._now

    def go_back(self) -> None:
        """Look again at what was in view before, unless the camera was moved since."""
        if self._before is not None and self._now == self._moved_to:
            self._viewer.scene.camera.center, self._viewer.scene.camera.zoom = self._before
        self.forget()

    def forget(self) -> None:
        """Stay here."""
        self._before = self._moved_to = None
