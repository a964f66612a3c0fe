"""The region layer: shapes drawn by the user, turned into a region of the slide.

Several shapes make a union. Ellipses are sampled as ellipses (napari keeps only the corners of their box), and corners
are taken to world coordinates, so a layer that was moved or rotated by hand still says what is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from napari.components import ViewerModel
from napari.layers import Shapes

from napari_srast.gui.layers import KEY, swap_axes
from napari_srast.slide import Region

__all__ = ["REGION_LAYER", "RegionLayer", "Tool", "shape_polygons"]

REGION_LAYER = "SRast region"
Tool = Literal["rectangle", "ellipse", "polygon", "lasso", "edit"]
_MODES: dict[Tool, str] = {
    "rectangle": "add_rectangle",
    "ellipse": "add_ellipse",
    "polygon": "add_polygon",
    "lasso": "add_polygon_lasso",
    "edit": "select",
}
_ELLIPSE_CORNERS = 180


def shape_polygons(layer: Shapes) -> list[np.ndarray]:
    """Return the closed shapes of a layer as (n, 2) polygons, (x, y), in world coordinates; open lines are left out."""
    origin, down, right = (np.array(layer.data_to_world(p))[-2:] for p in ((0, 0), (1, 0), (0, 1)))
    axes = np.stack([down - origin, right - origin])
    polygons = []
    for corners, kind in zip(layer.data, layer.shape_type, strict=True):
        points = np.asarray(corners, dtype=float)[:, -2:]
        if kind in ("line", "path"):
            continue
        if kind == "ellipse":
            middle = points.mean(axis=0)
            angle = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)[:, None]
            points = middle + (np.cos(angle) * (points[1] - points[0]) + np.sin(angle) * (points[3] - points[0])) / 2
        polygons.append((origin + points @ axes)[:, ::-1])
    return polygons


class RegionLayer:
    """Finds or makes the layer that regions are drawn in, and reads the region from it.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    changed
        Called whenever shapes were added, moved or removed.
    """

    def __init__(self, viewer: ViewerModel, changed: Callable[[], None]) -> None:
        self._viewer = viewer
        self._changed = changed
        self._layer: Shapes | None = None
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def layer(self) -> Shapes | None:
        """The layer, if there is one."""
        return self._layer

    def draw(self, tool: Tool, line_width: float) -> None:
        """Make the layer active with a drawing tool; lines are ``line_width`` wide in world units."""
        layer = self._layer or self._make(line_width)
        self._viewer.layers.selection.active = layer
        layer.visible = True
        layer.mode = _MODES[tool]

    def add(self, polygon: np.ndarray, line_width: float) -> None:
        """Add an (n, 2) polygon of (x, y) world coordinates."""
        layer = self._layer or self._make(line_width)
        corners = np.asarray(polygon, dtype=float)[:, ::-1]
        layer.add_polygons(np.array([layer.world_to_data(corner) for corner in corners]))

    def clear(self) -> None:
        """Remove all shapes."""
        if self._layer is not None:
            self._layer.data = []

    def disconnect(self) -> None:
        """Stop listening to the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        if self._layer is not None:
            self._layer.events.data.disconnect(self._on_data)
            self._layer.events.affine.disconnect(self._on_data)

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)

    def move(self, matrix: np.ndarray) -> None:
        """Apply a (3, 3) affine, (x, y) order, to where the shapes lie: the coordinate system was switched."""
        if self._layer is not None:
            self._layer.affine = swap_axes(matrix) @ np.asarray(self._layer.affine.affine_matrix)

    def region(self, coordinate_system: str) -> Region | None:
        """Return the union of the shapes, or None if nothing was drawn.

        Raises
        ------
        RegionError
            Only open lines, or shapes without area, were drawn.
        """
        if self._layer is None or len(self._layer.data) == 0:
            return None
        return Region.from_polygons(shape_polygons(self._layer), coordinate_system)

    def _make(self, line_width: float) -> Shapes:
        layer = Shapes(
            ndim=2,
            name=REGION_LAYER,
            edge_color="#ffd400",
            face_color=[1.0, 0.83, 0.0, 0.08],
            edge_width=line_width,
            metadata={KEY: {"role": "region"}},
        )
        self._viewer.add_layer(layer)
        layer.events.data.connect(self._on_data)
        layer.events.affine.connect(self._on_data)
        self._layer = layer
        return layer

    def _on_data(self, event: object = None) -> None:
        self._changed()

    def _on_removed(self, event: object) -> None:
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = None
            self._changed()
