"""Draw the outlines of the region: a bright line with a dark halo, equally wide on the screen at every zoom.

A bright line vanishes on pale histology and a dark one on a dark map; a line with a halo is visible on both. napari
draws outlines in the units of the data, so that thin ones lose sides when the canvas is zoomed out.
"""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from napari.layers import Shapes

from napari_srast.gui.layers.factory import KEY
from napari_srast.gui.runtime.layer_batches import insert_unselected

__all__ = ["HALO_COLOR", "RegionOutline"]

HALO_COLOR = "#101010"
_LINE_PIXELS = 2.5
_HALO_PIXELS = 5.5
_TOLERANCE = 1.1  # ratio of zooms up to which the widths stay, because a change computes all outlines again


class RegionOutline:
    """Keeps the halo below a layer of shapes, and the width of both outlines constant on the screen.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    layer
        The layer of shapes, which is in the viewer.
    """

    def __init__(self, viewer: ViewerModel, layer: Shapes) -> None:
        self._viewer = viewer
        self._layer = layer
        self._world_per_pixel = 0.0
        self.halo = Shapes(
            ndim=2,
            name="SRast region halo",
            edge_color=HALO_COLOR,
            face_color="transparent",
            opacity=1.0,
            affine=layer.affine.affine_matrix,
            units=layer.units,
            visible=layer.visible,
            metadata={KEY: {"role": "region_halo"}},
        )
        insert_unselected(viewer.layers, viewer.layers.index(layer), self.halo)
        layer.events.set_data.connect(self._copy_shapes)
        for event in (layer.events.visible, layer.events.affine, layer.events.units):
            event.connect(self._copy_state)
        viewer.scene.camera.events.zoom.connect(self._set_widths)
        self._connected = True
        self._set_widths()
        self._copy_shapes()

    def disconnect(self) -> None:
        """Disconnect from the layer and the viewer."""
        if not self._connected:
            return
        self._connected = False
        self._layer.events.set_data.disconnect(self._copy_shapes)
        for event in (self._layer.events.visible, self._layer.events.affine, self._layer.events.units):
            event.disconnect(self._copy_state)
        self._viewer.scene.camera.events.zoom.disconnect(self._set_widths)

    def _copy_shapes(self, event: object = None) -> None:
        """Give the halo the shapes of the layer, also of one that is being drawn."""
        kinds, data = list(self._layer.shape_type), [np.array(corners) for corners in self._layer.data]
        same_kinds = kinds == list(self.halo.shape_type)
        if same_kinds and all(map(np.array_equal, data, self.halo.data)):
            return  # the event has other causes, too
        self.halo.data = (data, kinds) if data else []
        self.halo.edge_width = self._width(_HALO_PIXELS)

    def _copy_state(self, event: object = None) -> None:
        if self.halo.visible != self._layer.visible:  # napari draws at once, also while other layers change
            self.halo.visible = self._layer.visible
        self.halo.affine = self._layer.affine.affine_matrix
        self.halo.units = self._layer.units
        self._world_per_pixel = 0.0  # the affine may scale
        self._set_widths()

    def _set_widths(self, event: object = None) -> None:
        world_per_pixel = 1 / max(float(self._viewer.scene.camera.zoom), 1e-12)
        if max(world_per_pixel, self._world_per_pixel) <= _TOLERANCE * min(world_per_pixel, self._world_per_pixel):
            return
        self._world_per_pixel = world_per_pixel
        self._layer.current_edge_width = self._width(_LINE_PIXELS)
        self._layer.edge_width = self._width(_LINE_PIXELS)
        self.halo.current_edge_width = self.halo.edge_width = self._width(_HALO_PIXELS)

    def _width(self, pixels: float) -> float:
        """Return the width in units of the data that has a number of pixels on the screen."""
        area = abs(np.linalg.det(np.asarray(self._layer.affine.affine_matrix)[-3:-1, -3:-1]))
        return pixels * self._world_per_pixel / float(np.sqrt(area) or 1.0)
