"""Convert shapes that the user draws to regions of the slide.

The region that is run is the union of the ticked ones. Ellipses are sampled, because napari stores only the corners of
their bounding box. Vertices are converted to world coordinates, so that a layer that was moved or rotated by hand gives
the region that is visible.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal

import numpy as np
import shapely
from napari.components import ViewerModel
from napari.layers import Layer, Shapes
from napari.layers.base import ActionType
from shapely.geometry import Polygon

from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.errors import RegionError
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.drawn_regions import LINE_COLOR, DrawnRegion, RegionFeatures, closed_shapes
from napari_srast.gui.layers.factory import (
    HELPER_ROLES,
    KEY,
    REGION_ROLES,
    remove_layers,
    role_of,
    set_units,
    swap_axes,
)
from napari_srast.gui.layers.region_outline import RegionOutline
from napari_srast.gui.layers.shape_history import ShapeHistory
from napari_srast.io.annotations import Annotation

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
_UNFINISHED = (ActionType.ADDING, ActionType.CHANGING, ActionType.REMOVING)  # events before a change
_CLICK_PIXELS = 5.0  # a rectangle or ellipse that is smaller on the screen comes from a click without dragging


def shape_polygons(layer: Shapes) -> list[np.ndarray]:
    """Return the closed shapes of a layer as (n, 2) polygons, (x, y) in world coordinates; open lines are ignored."""
    return list(closed_shapes(layer).values())


class RegionLayer:
    """Creates the layer in which regions are drawn, and reads the region from it.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    changed
        Called after shapes were added, moved or removed, or what is known about a region has changed.
    tool_changed
        Called after another tool became active, or none.
    """

    def __init__(
        self, viewer: ViewerModel, changed: Callable[[], None], tool_changed: Callable[[], None] = lambda: None
    ) -> None:
        self._viewer = viewer
        self._changed = changed
        self._tool_changed = tool_changed
        self._layer: Shapes | None = None
        self._outline: RegionOutline | None = None
        self._history: ShapeHistory | None = None
        self._features: RegionFeatures | None = None
        self._added: list[tuple[Annotation, int]] = []  # that this class is adding, with the number of their shapes
        self._units = ("pixel", "pixel")
        self._left: list[Layer] = []  # layers to be removed
        self._adding = False  # True while this class, not the mouse, adds a shape
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_mode)

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
    def tool(self) -> Tool | None:
        """The active tool; None while the mouse pans the canvas or is used on another layer."""
        active = self._viewer.layers.selection.active  # napari may wrap it, so that it is equal but not identical
        if self._layer is None or active is None or active != self._layer:
            return None
        return next((tool for tool, mode in _MODES.items() if mode == str(self._layer.mode)), None)

    def stop_drawing(self) -> None:
        """Deactivate the drawing tool, so that the mouse pans the canvas again."""
        if self._layer is not None:
            self._layer.mode = "pan_zoom"

    def add(self, polygon: np.ndarray) -> None:
        """Add a polygon, shape (n, 2), with vertices (x, y) in world coordinates."""
        self._add([np.asarray(polygon, dtype=float)], [])

    def add_annotations(self, annotations: Iterable[Annotation], slide: Slide | None = None) -> None:
        """Add regions and tick only them.

        Parameters
        ----------
        annotations
            The regions.
        slide
            The slide, in one of whose coordinate systems each region is. None: all are in world coordinates.

        Raises
        ------
        RegionError
            napari cannot draw an outline.
        """
        polygons, added = [], []
        for annotation in annotations:
            system = annotation.region.coordinate_system
            to_cs = np.eye(3) if slide is None else slide.to_cs @ np.linalg.inv(slide.transforms[system])
            parts = without_holes(annotation.region)
            polygons += [apply_affine(to_cs, np.asarray(part.exterior.coords)[:-1]) for part in parts]
            added.append((annotation, len(parts)))
        if polygons:
            features, used = self._features, {region.key for region in self.regions("") if region.is_used}
            if features is not None:
                features.edit(used, used=False)
            try:
                self._add(polygons, added)
            except RegionError:
                if features is not None:
                    features.edit(used, used=True)
                raise

    def _add(self, polygons: list[np.ndarray], added: list[tuple[Annotation, int]]) -> None:
        layer = self._layer or self._create()
        corners = [np.array([layer.world_to_data(corner) for corner in polygon[:, ::-1]]) for polygon in polygons]
        self._adding, self._added = True, added
        try:
            layer.add_polygons(corners if len(corners) > 1 else corners[0])
        except RuntimeError as error:  # napari's slow triangulation fails for outlines of thousands of corners
            raise RegionError(
                "napari cannot draw an outline with so many corners; simplify it, or install napari's faster "
                "triangulation (pip install 'napari[bermuda]')."
            ) from error
        finally:
            self._adding, self._added = False, []

    def regions(self, coordinate_system: str) -> list[DrawnRegion]:
        """Return the regions with their names and classes, in the order in which they were drawn."""
        return [] if self._features is None else self._features.regions(coordinate_system)

    @property
    def content(self) -> tuple[object, ...] | None:
        """What saving the regions would save, to be compared; None before the first shape and without any."""
        return None if self._features is None or not self._layer or not self._layer.data else self._features.content()

    def edit(self, keys: Collection[int], **values: Any) -> None:
        """Set ``name``, ``classification``, ``color`` or ``used`` of regions."""
        if self._features is not None and self._history is not None:
            self._features.edit(keys, **values)
            if self._history.record():
                self._changed()

    def use(self, keys: Collection[int]) -> None:
        """Use only these regions."""
        if self._features is not None and self._layer is not None:
            others = {region.key for region in self.regions("")} - set(keys)
            self._features.edit(keys, used=True)
            self.edit(others, used=False)

    def select(self, keys: Collection[int]) -> None:
        """Mark regions on the canvas."""
        if self._features is not None and self._layer is not None:
            self._features.select(keys)
            self._layer.selected_data = self._features.rows(keys)

    def delete(self, keys: Collection[int]) -> None:
        """Remove regions."""
        if self._features is not None and self._layer is not None:
            self._layer.selected_data = self._features.rows(keys)
            self._layer.remove_selected()

    def foreign_shapes(self) -> list[Shapes]:
        """Return visible layers other than the region layer in which closed shapes were drawn."""
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Shapes)
            and layer.visible
            and role_of(layer) not in REGION_ROLES | HELPER_ROLES
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
            self._on_restored()

    def redo(self) -> None:
        """Repeat the change of the shapes that was undone last."""
        if self._history is not None and self._history.redo():
            self._on_restored()

    def _on_restored(self) -> None:
        if self._features is not None:
            self._features.restored()
        self._changed()

    def disconnect(self) -> None:
        """Disconnect from the events of the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.layers.selection.events.active.disconnect(self._on_mode)
        if self._layer is not None:
            self._layer.events.mode.disconnect(self._on_mode)
            self._layer.events.features.disconnect(self._on_features)
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
        """Return the union of the ticked regions; None if nothing was drawn, or no region is ticked.

        Raises
        ------
        RegionError
            All shapes are open lines or have no area.
        """
        polygons = None if self._features is None else self._features.used_polygons()
        return None if polygons is None else Region.from_polygons(polygons, coordinate_system)

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
        self._features = RegionFeatures(layer)
        layer.events.data.connect(self._on_data)
        layer.events.affine.connect(self._on_data)
        layer.events.features.connect(self._on_features)
        layer.events.mode.connect(self._on_mode)
        return layer

    def _on_data(self, event: object = None) -> None:
        layer, history, features = self._layer, self._history, self._features
        if layer is None or history is None or features is None or getattr(event, "action", None) in _UNFINISHED:
            return
        if self._is_click(event):
            layer.selected_data = {len(layer.data) - 1}
            layer.remove_selected()  # emits the event again
            return
        if not history.is_restoring:
            features.complete(self._added)
        if history.record():
            self._changed()

    def _on_features(self, event: object = None) -> None:
        """Follow shapes that were pasted, for which napari emits no event of the data."""
        is_drawing = self._layer is not None and str(self._layer.mode).startswith("add_")
        if self._features is not None and not self._features.is_changing and not is_drawing and not self._adding:
            self._on_data()

    def _on_mode(self, event: object = None) -> None:
        self._tool_changed()

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
            self._layer = self._history = self._features = None
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
