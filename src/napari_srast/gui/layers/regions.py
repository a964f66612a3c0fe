"""Convert shapes that the user draws to a region of the slide.

The region is the union of the shapes. Ellipses are sampled, because napari stores only the corners of their bounding
box. Vertices are converted to world coordinates, so that a layer that was moved or rotated by hand gives the region
that is visible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import shapely
from napari.components import ViewerModel
from napari.layers import Layer, Shapes
from napari.layers.base import ActionType
from shapely.geometry import Polygon

from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.factory import KEY, REGION_ROLES, remove_layers, role_of, set_units, swap_axes
from napari_srast.gui.layers.region_outline import LINE_COLOR, RegionOutline
from napari_srast.gui.layers.shape_history import ShapeHistory

__all__ = ["REGION_LAYER", "RegionLayer", "Tool", "shape_polygons", "without_holes"]

REGION_LAYER = "SRast region"
Tool = Literal["rectangle", "ellipse", "polygon", "lasso", "edit"]
_MODES: dict[Tool, str] = {
    "rectangle": "add_rectangle",
    "ellipse": "add_ellipse",
    "polygon": "add_polygon",
    "lasso": "add_polygon_lasso",
    "edit": "select",
}
_ELLIPSE_VERTICES = 180
_UNFINISHED = (ActionType.ADDING, ActionType.CHANGING, ActionType.REMOVING)  # events before a change
_CLICK_PIXELS = 5.0  # a rectangle or ellipse that is smaller on the screen comes from a click without dragging


def shape_polygons(layer: Shapes) -> list[np.ndarray]:
    """Return the closed shapes of a layer as (n, 2) polygons, (x, y) in world coordinates; open lines are ignored."""
    origin, down, right = (np.array(layer.data_to_world(p))[-2:] for p in ((0, 0), (1, 0), (0, 1)))
    axes = np.stack([down - origin, right - origin])
    polygons = []
    for corners, kind in zip(layer.data, layer.shape_type, strict=True):
        points = np.asarray(corners, dtype=float)[:, -2:]
        if kind in ("line", "path"):
            continue
        if kind == "ellipse":
            middle = points.mean(axis=0)
            angle = np.linspace(0, 2 * np.pi, _ELLIPSE_VERTICES, endpoint=False)[:, None]
            points = middle + (np.cos(angle) * (points[1] - points[0]) + np.sin(angle) * (points[3] - points[0])) / 2
        polygons.append((origin + points @ axes)[:, ::-1])
    return polygons


class RegionLayer:
    """Creates the layer in which regions are drawn, and reads the region from it.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    changed
        Called after shapes were added, moved or removed.
    """

    def __init__(self, viewer: ViewerModel, changed: Callable[[], None]) -> None:
        self._viewer = viewer
        self._changed = changed
        self._layer: Shapes | None = None
        self._outline: RegionOutline | None = None
        self._history: ShapeHistory | None = None
        self._units = ("pixel", "pixel")
        self._left: list[Layer] = []  # layers to be removed
        self._adding = False  # True while this class, not the mouse, adds a shape
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def layer(self) -> Shapes | None:
        """The layer; None before the first shape."""
        return self._layer

    @property
    def layers(self) -> list[Layer]:
        """The layer and the one with the halo of its outlines; empty before the first shape."""
        return [] if self._layer is None or self._outline is None else [self._outline.halo, self._layer]

    @property
    def units(self) -> tuple[str, str]:
        """Units of the two world axes, such as "micrometer"."""
        return self._units

    @units.setter
    def units(self, units: tuple[str, str]) -> None:
        self._units = units
        if self._layer is not None:
            set_units(self._layer, units)

    def draw(self, tool: Tool) -> None:
        """Activate a drawing tool."""
        layer = self._layer or self._create()
        self._viewer.layers.selection.active = layer
        layer.visible = True
        layer.mode = _MODES[tool]

    @property
    def is_drawing(self) -> bool:
        """Whether a tool for new shapes is active."""
        return self._layer is not None and str(self._layer.mode).startswith("add_")

    def stop_drawing(self) -> None:
        """Deactivate the drawing tool, so that the mouse pans the canvas again."""
        if self._layer is not None:
            self._layer.mode = "pan_zoom"

    def add(self, polygon: np.ndarray) -> None:
        """Add a polygon, shape (n, 2), with vertices (x, y) in world coordinates."""
        layer = self._layer or self._create()
        corners = np.asarray(polygon, dtype=float)[:, ::-1]
        self._adding = True
        try:
            layer.add_polygons(np.array([layer.world_to_data(corner) for corner in corners]))
        finally:
            self._adding = False

    def set(self, region: Region, slide: Slide) -> None:
        """Replace the shapes with a region, in the slide's chosen coordinate system."""
        to_cs = slide.to_cs @ np.linalg.inv(slide.transforms[region.coordinate_system])
        self.clear()
        for polygon in without_holes(region):
            self.add(apply_affine(to_cs, np.asarray(polygon.exterior.coords)[:-1]))

    def take(self, other: Shapes) -> None:
        """Copy the closed shapes of another layer, and hide that layer."""
        for polygon in shape_polygons(other):
            self.add(polygon)
        other.visible = False

    def foreign_shapes(self) -> list[Shapes]:
        """Return visible layers other than the region layer in which closed shapes were drawn."""
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Shapes)
            and layer.visible
            and role_of(layer) not in REGION_ROLES
            and shape_polygons(layer)
        ]

    def clear(self) -> None:
        """Remove all shapes."""
        if self._layer is not None:
            self._layer.data = []

    @property
    def can_undo(self) -> bool:
        """Whether there is a change of the shapes to undo."""
        return self._history is not None and self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone change of the shapes."""
        return self._history is not None and self._history.can_redo

    def undo(self) -> None:
        """Undo the last change of the shapes."""
        if self._history is not None and self._history.undo():
            self._changed()

    def redo(self) -> None:
        """Repeat the change of the shapes that was undone last."""
        if self._history is not None and self._history.redo():
            self._changed()

    def disconnect(self) -> None:
        """Disconnect from the events of the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        if self._layer is not None:
            self._layer.events.data.disconnect(self._on_data)
            self._layer.events.affine.disconnect(self._on_data)
        if self._outline is not None:
            self._outline.disconnect()

    def remove(self) -> None:
        """Remove the layer from the viewer."""
        removed = [self._layer, None if self._outline is None else self._outline.halo, *self._left]
        remove_layers(self._viewer.layers, [layer for layer in removed if layer is not None])

    def move(self, matrix: np.ndarray) -> None:
        """Apply a (3, 3) affine, (x, y) order, to all shapes after another coordinate system was chosen."""
        if self._layer is not None:
            self._layer.affine = swap_axes(matrix) @ np.asarray(self._layer.affine.affine_matrix)

    def region(self, coordinate_system: str) -> Region | None:
        """Return the union of the shapes; None if nothing was drawn.

        Raises
        ------
        RegionError
            All shapes are open lines or have no area.
        """
        if self._layer is None or len(self._layer.data) == 0:
            return None
        return Region.from_polygons(shape_polygons(self._layer), coordinate_system)

    def _create(self) -> Shapes:
        layer = Shapes(
            ndim=2,
            name=REGION_LAYER,
            edge_color=LINE_COLOR,
            opacity=1.0,
            face_color="transparent",  # a fill would change the colors of the map below
            units=self._units,
            metadata={KEY: {"role": "region"}},
        )
        left, self._left = self._left, []
        remove_layers(self._viewer.layers, left)
        self._viewer.add_layer(layer)
        self._layer = layer
        self._outline = RegionOutline(self._viewer, layer)
        self._history = ShapeHistory(layer)
        layer.events.data.connect(self._on_data)
        layer.events.affine.connect(self._on_data)
        return layer

    def _on_data(self, event: object = None) -> None:
        layer, history = self._layer, self._history
        if layer is None or history is None or getattr(event, "action", None) in _UNFINISHED:
            return
        if self._is_click(event):
            layer.selected_data = {len(layer.data) - 1}
            layer.remove_selected()  # emits the event again
        elif history.record():
            self._changed()

    def _is_click(self, event: object) -> bool:
        """Return whether the last shape comes from a click with a tool that needs a drag."""
        layer = self._layer
        if layer is None or self._adding or getattr(event, "action", None) != ActionType.ADDED or not layer.data:
            return False
        if layer.mode not in ("add_rectangle", "add_ellipse"):
            return False
        corners = np.array([layer.data_to_world(corner) for corner in layer.data[-1]])
        return float(np.ptp(corners, axis=0).max()) * float(self._viewer.scene.camera.zoom) < _CLICK_PIXELS

    def _on_removed(self, event: object) -> None:
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = self._history = None
            if self._outline is not None:
                self._outline.disconnect()
                self._outline.halo.visible = False
                self._left.append(self._outline.halo)  # napari may iterate over the layers, so it is removed later
                self._outline = None
            self._changed()


def without_holes(region: Region) -> list[Polygon]:
    """Cut a region into polygons without holes, because napari shapes cannot have holes."""
    remaining, parts = list(shapely.get_parts(region.geometry)), []
    while remaining:
        polygon = remaining.pop()
        if not polygon.interiors:
            parts.append(polygon)
            continue
        x0, y0, x1, y1 = polygon.bounds
        middle = polygon.interiors[0].centroid.x
        for half in (shapely.box(x0, y0, middle, y1), shapely.box(middle, y0, x1, y1)):
            remaining += [p for p in shapely.get_parts(polygon.intersection(half)) if isinstance(p, Polygon)]
    return parts
