"""Outlines of the regions of a slide on its picture next to the current slide; they cannot be edited there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer, Shapes
from napari.utils.colormaps.standardize_color import transform_color

from napari_srast.gui.layers.drawn_regions import UNUSED_ALPHA, DrawnRegion
from napari_srast.gui.layers.factory import KEY, remove_layers
from napari_srast.gui.layers.placement import Placement
from napari_srast.gui.layers.region_outline import RegionOutline
from napari_srast.gui.layers.regions import without_holes
from napari_srast.gui.runtime.layer_batches import insert_unselected

__all__ = ["RegionCopies"]


class RegionCopies:
    """A layer with the outlines and one with their halos, while there are regions.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Shapes | None = None
        self._outline: RegionOutline | None = None
        self._shown: tuple[object, ...] = ()

    @property
    def layers(self) -> list[Layer]:
        """The layers, bottom first."""
        return [] if self._layer is None or self._outline is None else [self._outline.halo, self._layer]

    def show(self, regions: Sequence[DrawnRegion], placement: Placement, above: int) -> None:
        """Show the regions of a slide, and no others.

        Parameters
        ----------
        regions
            The regions, in the world coordinates of their slide; those without an area are left out.
        placement
            Where the slide is shown.
        above
            Index in the layer list for the first layer.
        """
        drawn = [(one, one.region) for one in regions if one.region is not None]
        shown = tuple((region.geometry.wkb, one.color, one.is_used) for one, region in drawn)
        if shown == self._shown:
            return
        self.remove()
        corners, colors = [], []
        for one, region in drawn:
            color = transform_color(one.color)[0]
            color[3] = 1.0 if one.is_used else UNUSED_ALPHA
            for polygon in without_holes(region):
                corners.append(np.asarray(polygon.exterior.coords)[:-1, ::-1])
                colors.append(color)
        self._shown = shown
        if not corners:
            return
        self._layer = Shapes(
            corners,
            shape_type="polygon",
            name="SRast copy of regions",
            edge_color=np.array(colors),
            face_color="transparent",
            opacity=1.0,
            units=placement.units,
            metadata={KEY: {"role": "neighbor"}},
        )
        self.move(placement)
        insert_unselected(self._viewer.layers, above, self._layer)
        self._outline = RegionOutline(self._viewer, self._layer)
        self._outline.halo.name = "SRast copy of region halo"

    def move(self, placement: Placement) -> None:
        """Move the outlines to another place."""
        if self._layer is not None:
            placement.move(self._layer)

    def remove(self) -> None:
        """Remove the layers from the viewer."""
        if self._outline is not None:
            self._outline.disconnect()
        removed = self.layers
        self._layer, self._outline, self._shown = None, None, ()
        remove_layers(self._viewer.layers, removed)
