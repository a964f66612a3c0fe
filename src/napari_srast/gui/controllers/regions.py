"""Draw, save and load the region of the current slide.

Every method runs in the GUI thread.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Shapes

from napari_srast.core.region import Region
from napari_srast.errors import RegionError, SrastError
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.layers.regions import Tool
from napari_srast.gui.state.workspace import Workspace
from napari_srast.io.geojson import read_geojson, write_geojson

__all__ = ["Regions"]


class Regions:
    """Edit the region of the current slide.

    Parameters
    ----------
    workspace
        The open slides.
    messages
        Receives status and error messages.
    """

    def __init__(self, workspace: Workspace, messages: Messages) -> None:
        self.region_changed = workspace.region_changed
        self._workspace = workspace
        self._messages = messages
        # On the canvas: the keys of the active layer, such as the undo of a labels layer, have priority over these.
        self._bind_keys(lambda _: self.undo(), lambda _: self.redo())

    def _bind_keys(self, undo: Callable[[Any], None] | None, redo: Callable[[Any], None] | None) -> None:
        for keys, action in (("Control-Z", undo), ("Control-Shift-Z", redo)):
            self._workspace.viewer.bind_key(keys, action, overwrite=True)

    def disconnect(self) -> None:
        """Release the keys of the viewer."""
        self._bind_keys(None, None)

    @property
    def layer(self) -> Shapes | None:
        """The layer in which the region is drawn; None before the first shape."""
        return self._workspace.region_layer.layer

    @property
    def can_undo(self) -> bool:
        """Whether there is a change of the shapes to undo."""
        return self._workspace.region_layer.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone change of the shapes."""
        return self._workspace.region_layer.can_redo

    def region(self) -> Region | None:
        """Return the drawn region; None if nothing was drawn.

        Raises
        ------
        RegionError
            Only open lines, or shapes without area, were drawn.
        """
        slide = self._workspace.slide
        return None if slide is None else self._workspace.region_layer.region(slide.coordinate_system)

    def n_spots_inside(self) -> int | None:
        """Return the number of spots in the region; None if nothing was drawn.

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

    # ----------------------------------------------------------------- drawing

    def draw(self, tool: Tool) -> None:
        """Activate a tool to draw or edit shapes."""
        if self._workspace.slide is not None:
            self._workspace.region_layer.draw(tool)

    def stop_drawing(self) -> None:
        """Deactivate the drawing tool, so that the mouse pans the canvas again."""
        self._workspace.region_layer.stop_drawing()

    def add(self, polygon: np.ndarray) -> None:
        """Add a polygon to the region: (n, 2) vertices (x, y) in the chosen coordinate system."""
        self._workspace.region_layer.add(polygon)

    def set(self, region: Region) -> None:
        """Replace the drawn shapes with a region."""
        if self._workspace.slide is not None:
            self._workspace.region_layer.set(region, self._workspace.slide)

    def foreign_shapes(self) -> list[Shapes]:
        """Return visible layers other than the region layer in which closed shapes were drawn."""
        return self._workspace.region_layer.foreign_shapes()

    def take(self, layer: Shapes) -> None:
        """Copy the closed shapes of another layer into the region, and hide that layer."""
        self._workspace.region_layer.take(layer)

    def undo(self) -> None:
        """Undo the last change of the shapes."""
        self._workspace.region_layer.undo()

    def redo(self) -> None:
        """Repeat the change of the shapes that was undone last."""
        self._workspace.region_layer.redo()

    def clear(self) -> None:
        """Remove all shapes."""
        self._workspace.region_layer.clear()

    # ------------------------------------------------------------------- files

    def save_geojson(self, path: Path) -> None:
        """Write the region as GeoJSON, in the chosen coordinate system."""
        self._save(lambda region: write_geojson(region, path), f"Saved the region to {path}")

    def load_geojson(self, path: Path) -> None:
        """Replace the region with the polygons of a GeoJSON file in the chosen coordinate system."""
        slide = self._workspace.slide
        if slide is None:
            return
        try:
            region = read_geojson(path, slide.coordinate_system)
            region.check_coordinate_system(slide)  # the file may name one of another slide
            self.set(region)
        except SrastError as error:
            self._messages.error_message.emit(str(error))

    def save_with_slide(self) -> None:
        """Add the region to the SpatialData store of the slide."""
        from napari_srast.io.regions import write_region

        slide = self._workspace.slide
        if slide is not None:
            self._save(lambda region: write_region(region, slide), "Saved the region with the slide")

    def saved(self) -> dict[str, Region]:
        """Return the regions in the SpatialData store of the slide, by name."""
        from napari_srast.io.regions import read_regions

        slide = self._workspace.slide
        if slide is None or slide.source.path is None:
            return {}
        try:
            return read_regions(slide.source.path)
        except SrastError as error:
            self._messages.error_message.emit(str(error))
            return {}

    def _save(self, write: Callable[[Region], object], success: str) -> None:
        """Write the region, if there is one, and report the outcome.

        Parameters
        ----------
        write
            Writes the region and returns the name under which it was saved, or None.
        success
            Status message, without the name.
        """
        try:
            region = self.region()
            if region is not None:
                name = write(region)
                self._messages.status_message.emit(f"{success}{f' as {name}' if name else ''}.")
        except SrastError as error:
            self._messages.error_message.emit(str(error))
