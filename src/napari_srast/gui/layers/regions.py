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
from napari.layers import Shapes
from shapely.geometry import Polygon

from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.factory import KEY, role_of, swap_axes

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
_MAX_UNDO = 50


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
        self._history: list[tuple[list[np.ndarray], list[str]]] = [([], [])]
        self._undoing = False
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def layer(self) -> Shapes | None:
        """The layer; None before the first shape."""
        return self._layer

    def draw(self, tool: Tool, line_width: float) -> None:
        """Activate a drawing tool.

        Parameters
        ----------
        tool
            The tool.
        line_width
            Width of outlines in world units.
        """
        layer = self._layer or self._create(line_width)
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

    def add(self, polygon: np.ndarray, line_width: float) -> None:
        """Add a polygon, shape (n, 2), with vertices (x, y) in world coordinates."""
        layer = self._layer or self._create(line_width)
        corners = np.asarray(polygon, dtype=float)[:, ::-1]
        layer.add_polygons(np.array([layer.world_to_data(corner) for corner in corners]))

    def set(self, region: Region, slide: Slide, line_width: float) -> None:
        """Replace the shapes with a region, in the slide's chosen coordinate system."""
        to_cs = slide.to_cs @ np.linalg.inv(slide.transforms[region.coordinate_system])
        self.clear()
        for polygon in without_holes(region):
            self.add(apply_affine(to_cs, np.asarray(polygon.exterior.coords)[:-1]), line_width)

    def take(self, other: Shapes, line_width: float) -> None:
        """Copy the closed shapes of another layer, and hide that layer."""
        for polygon in shape_polygons(other):
            self.add(polygon, line_width)
        other.visible = False

    def foreign_shapes(self) -> list[Shapes]:
        """Return visible layers other than the region layer in which closed shapes were drawn."""
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Shapes) and layer.visible and role_of(layer) != "region" and shape_polygons(layer)
        ]

    def clear(self) -> None:
        """Remove all shapes."""
        if self._layer is not None:
            self._layer.data = []

    @property
    def can_undo(self) -> bool:
        """Whether there is a change of the shapes to undo."""
        return self._layer is not None and len(self._history) > 1

    def undo(self) -> None:
        """Undo the last change of the shapes."""
        if self._layer is None or not self.can_undo:
            return
        self._history.pop()
        data, kinds = self._history[-1]
        self._undoing = True
        try:
            self._layer.data = []
            if data:
                self._layer.add([corners.copy() for corners in data], shape_type=kinds)
        finally:
            self._undoing = False
        self._changed()

    def disconnect(self) -> None:
        """Disconnect from the events of the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        if self._layer is not None:
            self._layer.events.data.disconnect(self._on_data)
            self._layer.events.affine.disconnect(self._on_data)

    def remove(self) -> None:
        """Remove the layer from the viewer."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)

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

    def _create(self, line_width: float) -> Shapes:
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
        if self._undoing:
            return
        if self._layer is not None:
            shapes = [np.array(corners) for corners in self._layer.data], [str(kind) for kind in self._layer.shape_type]
            if not _same_shapes(shapes, self._history[-1]):
                self._history = [*self._history[-_MAX_UNDO:], shapes]
        self._changed()

    def _on_removed(self, event: object) -> None:
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = None
            self._history = [([], [])]
            self._changed()


def _same_shapes(one: tuple[list[np.ndarray], list[str]], other: tuple[list[np.ndarray], list[str]]) -> bool:
    return one[1] == other[1] and all(np.array_equal(a, b) for a, b in zip(one[0], other[0], strict=True))


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
