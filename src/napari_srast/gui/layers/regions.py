"""The region layer: shapes drawn by the user, turned into a region of the slide.

Several shapes make a union. Ellipses are sampled as ellipses (napari keeps only the corners of their box), and corners
are taken to world coordinates, so a layer that was moved or rotated by hand still says what is seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import shapely
from napari.components import ViewerModel
from napari.layers import Shapes
from shapely.geometry import Polygon

from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.errors import OutputError, RegionError
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.factory import KEY, role_of, swap_axes

__all__ = ["REGION_LAYER", "RegionLayer", "Tool", "load_geojson", "save_geojson", "shape_polygons", "without_holes"]

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
_MOST_UNDONE = 50


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
        self._past: list[tuple[list[np.ndarray], list[str]]] = [([], [])]
        self._undoing = False
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

    @property
    def is_drawing(self) -> bool:
        """Whether a tool for new shapes is in hand."""
        return self._layer is not None and str(self._layer.mode).startswith("add_")

    def rest(self) -> None:
        """Stop drawing, so that the mouse moves the picture again."""
        if self._layer is not None:
            self._layer.mode = "pan_zoom"

    def add(self, polygon: np.ndarray, line_width: float) -> None:
        """Add an (n, 2) polygon of (x, y) world coordinates."""
        layer = self._layer or self._make(line_width)
        corners = np.asarray(polygon, dtype=float)[:, ::-1]
        layer.add_polygons(np.array([layer.world_to_data(corner) for corner in corners]))

    def set(self, region: Region, slide: Slide, line_width: float) -> None:
        """Draw a region in place of what is drawn, in the slide's chosen coordinate system."""
        to_cs = slide.to_cs @ np.linalg.inv(slide.transforms[region.coordinate_system])
        self.clear()
        for polygon in without_holes(region):
            self.add(apply_affine(to_cs, np.asarray(polygon.exterior.coords)[:-1]), line_width)

    def take(self, other: Shapes, line_width: float) -> None:
        """Take over the closed shapes of another layer, which is hidden then."""
        for polygon in shape_polygons(other):
            self.add(polygon, line_width)
        other.visible = False

    def strays(self) -> list[Shapes]:
        """Return visible layers in which closed shapes were drawn that are not the region."""
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
        return self._layer is not None and len(self._past) > 1

    def undo(self) -> None:
        """Take back the last change of the shapes."""
        if self._layer is None or not self.can_undo:
            return
        self._past.pop()
        data, kinds = self._past[-1]
        self._undoing = True
        try:
            self._layer.data = []
            if data:
                self._layer.add([corners.copy() for corners in data], shape_type=kinds)
        finally:
            self._undoing = False
        self._changed()

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
        if self._undoing:
            return
        if self._layer is not None:
            now = [np.array(corners) for corners in self._layer.data], [str(kind) for kind in self._layer.shape_type]
            if not _same_shapes(now, self._past[-1]):
                self._past = [*self._past[-_MOST_UNDONE:], now]
        self._changed()

    def _on_removed(self, event: object) -> None:
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = None
            self._past = [([], [])]
            self._changed()


def _same_shapes(one: tuple[list[np.ndarray], list[str]], other: tuple[list[np.ndarray], list[str]]) -> bool:
    return one[1] == other[1] and all(np.array_equal(a, b) for a, b in zip(one[0], other[0], strict=True))


def save_geojson(region: Region, path: Path) -> None:
    """Write a region as a GeoJSON feature that says its coordinate system.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    feature = {
        "type": "Feature",
        "properties": {"coordinate_system": region.coordinate_system},
        "geometry": json.loads(shapely.to_geojson(region.geometry)),
    }
    try:
        path.write_text(json.dumps(feature), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"The region cannot be written to '{path}' ({error.strerror}); choose another place."
        ) from error


def load_geojson(path: Path, coordinate_system: str) -> Region:
    """Read a region in a coordinate system.

    Raises
    ------
    RegionError
        The file cannot be read, or holds no polygon.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RegionError(f"'{path.name}' cannot be read as a region; save it as GeoJSON.") from error
    return Region.from_geojson(text, coordinate_system)


def without_holes(region: Region) -> list[Polygon]:
    """Cut a region into polygons without holes, which is all that shapes can be."""
    whole, parts = list(shapely.get_parts(region.geometry)), []
    while whole:
        polygon = whole.pop()
        if not polygon.interiors:
            parts.append(polygon)
            continue
        x0, y0, x1, y1 = polygon.bounds
        middle = polygon.interiors[0].centroid.x
        for half in (shapely.box(x0, y0, middle, y1), shapely.box(middle, y0, x1, y1)):
            whole += [p for p in shapely.get_parts(polygon.intersection(half)) if isinstance(p, Polygon)]
    return parts
