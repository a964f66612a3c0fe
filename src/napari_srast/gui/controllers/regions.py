"""Draw and edit the regions of the current slide.

Every method runs in the GUI thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import shapely
from napari.layers import Shapes

from napari_srast.core.region import Region
from napari_srast.errors import RegionError
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.region_files import TOLERANCE, RegionFiles, is_same, transformed
from napari_srast.gui.controllers.region_recovery import RegionRecovery
from napari_srast.gui.layers.camera import zoom_to_box
from napari_srast.gui.layers.drawn_regions import DrawnRegion, RegionFeatures
from napari_srast.gui.layers.regions import Tool
from napari_srast.gui.state.workspace import Workspace
from napari_srast.io.annotations import Annotation

__all__ = ["Regions"]

_MARGIN = 0.1  # around a region that the view shows, in its size


class Regions:
    """Edit the regions of the current slide.

    Parameters
    ----------
    workspace
        The open slides.
    messages
        Receives status and error messages.

    Attributes
    ----------
    recovery
        Regions that were not saved, on the disk.
    files
        Saving and loading of regions.
    """

    def __init__(self, workspace: Workspace, messages: Messages) -> None:
        self.region_changed = workspace.region_changed
        self.tool_changed = workspace.tool_changed
        self.recovery = RegionRecovery(workspace, messages)
        self.files = RegionFiles(workspace, self.recovery, messages)
        self._workspace = workspace
        self._messages = messages
        # On the canvas: the keys of the active layer, such as the undo of a labels layer, have priority over these.
        self._bind_keys(lambda _: self.undo(), lambda _: self.redo())

    def _bind_keys(self, undo: Callable[[Any], None] | None, redo: Callable[[Any], None] | None) -> None:
        for keys, action in (("Control-Z", undo), ("Control-Shift-Z", redo)):
            self._workspace.viewer.bind_key(keys, action, overwrite=True)

    def disconnect(self) -> None:
        """Release the keys of the viewer, and write unsaved regions."""
        self.recovery.write_changed()
        self._bind_keys(None, None)

    @property
    def layer(self) -> Shapes | None:
        """The layer in which the regions are drawn; None before the first shape."""
        return self._workspace.region_layer.layer

    @property
    def can_undo(self) -> bool:
        """Whether there is a change of the regions to undo."""
        return self._workspace.region_layer.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone change of the regions."""
        return self._workspace.region_layer.can_redo

    def region(self) -> Region | None:
        """Return the union of the ticked regions; None if nothing was drawn, or no region is ticked.

        Raises
        ------
        RegionError
            Only open lines, or shapes without area, were drawn.
        """
        slide = self._workspace.slide
        return None if slide is None else self._workspace.region_layer.region(slide.coordinate_system)

    def n_spots_inside(self) -> int | None:
        """Return the number of spots in the ticked regions; None if nothing was drawn, or no region is ticked.

        Raises
        ------
        RegionError
            The shapes enclose no area.
        """
        region, slide = self.region(), self._workspace.slide
        if region is None or slide is None:
            return None
        try:
            return int(region.spots(slide).sum())
        except RegionError:
            return 0

    def all(self) -> list[tuple[DrawnRegion, int]]:
        """Return all regions of the current slide, each with the number of its spots."""
        slide = self._workspace.slide
        if slide is None:
            return []
        drawn = self._workspace.region_layer.regions(slide.coordinate_system)
        points = apply_affine(slide.to_cs, slide.centers) if drawn else np.empty((0, 2))
        return [(one, 0 if one.region is None else _n_inside(one.region, points)) for one in drawn]

    # ----------------------------------------------------------------- drawing

    @property
    def tool(self) -> Tool | None:
        """The active tool; None while the mouse pans the canvas."""
        return self._workspace.region_layer.tool

    def draw(self, tool: Tool) -> None:
        """Activate a tool to draw or edit shapes."""
        if self._workspace.slide is not None:
            self._workspace.region_layer.draw(tool)

    def switch_tool(self, tool: Tool) -> None:
        """Activate a tool, or deactivate it if it is active."""
        if self.tool == tool:
            self.stop_drawing()
        else:
            self.draw(tool)

    def stop_drawing(self) -> None:
        """Deactivate the drawing tool, so that the mouse pans the canvas again."""
        self._workspace.region_layer.stop_drawing()

    def add(self, polygon: np.ndarray) -> None:
        """Add a region: (n, 2) vertices (x, y) of a polygon in the chosen coordinate system."""
        self._workspace.region_layer.add(polygon)

    def set(self, region: Region | None) -> None:
        """Use the drawn regions that make up a region, or add it; None uses none of them."""
        slide = self._workspace.slide
        if slide is None:
            return
        layer = self._workspace.region_layer
        if region is None:
            layer.use(())
            return
        to_cs = slide.to_cs @ np.linalg.inv(slide.transforms[region.coordinate_system])
        geometry = transformed(region, to_cs, slide)
        parts = [
            one
            for one, _ in self.all()
            if one.region is not None
            and one.region.geometry.difference(geometry.geometry).area <= TOLERANCE * one.region.geometry.area
        ]
        union = shapely.union_all([one.region.geometry for one in parts if one.region is not None])
        if parts and is_same(union, geometry.geometry):
            layer.use([one.key for one in parts])
        else:
            try:
                layer.add_annotations([Annotation(region)], slide)
            except RegionError as error:
                self._messages.error_message.emit(str(error))

    def foreign_shapes(self) -> list[Shapes]:
        """Return visible layers other than the region layer in which closed shapes were drawn."""
        return self._workspace.region_layer.foreign_shapes()

    def take(self, layer: Shapes) -> None:
        """Copy the closed shapes of another layer with their names and classes, and hide that layer."""
        annotations = [region.annotation() for region in RegionFeatures(layer).regions("")]
        try:
            self._workspace.region_layer.add_annotations(one for one in annotations if one is not None)
        except RegionError as error:
            self._messages.error_message.emit(str(error))
            return
        layer.visible = False

    def undo(self) -> None:
        """Undo the last change of the regions."""
        self._workspace.region_layer.undo()

    def redo(self) -> None:
        """Repeat the change of the regions that was undone last."""
        self._workspace.region_layer.redo()

    def clear(self) -> None:
        """Remove all regions."""
        self._workspace.region_layer.clear()

    # -------------------------------------------------------------- one by one

    def edit(self, keys: Collection[int], **values: Any) -> None:
        """Set ``name``, ``classification``, ``color`` or ``used`` of regions; classes share their color."""
        self._workspace.region_layer.edit(keys, **values)

    def use(self, keys: Collection[int]) -> None:
        """Tick only these regions."""
        self._workspace.region_layer.use(keys)

    def select(self, keys: Collection[int]) -> None:
        """Mark regions on the canvas."""
        self._workspace.region_layer.select(keys)

    def delete(self, keys: Collection[int]) -> None:
        """Remove regions."""
        self._workspace.region_layer.delete(keys)

    def show(self, key: int) -> None:
        """Move the view to a region."""
        found = next((one.region for one, _ in self.all() if one.key == key), None)
        if found is not None:
            x0, y0, x1, y1 = found.geometry.bounds
            margin = _MARGIN * max(x1 - x0, y1 - y0)
            low, high = np.array([x0, y0]) - margin, np.array([x1, y1]) + margin
            zoom_to_box(self._workspace.viewer, low, high)


def _n_inside(region: Region, points: np.ndarray) -> int:
    x0, y0, x1, y1 = region.geometry.bounds
    x, y = points.T
    return int(region.contains(points[(x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)]).sum())
