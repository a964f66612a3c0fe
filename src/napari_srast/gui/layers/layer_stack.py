"""Insert the layers of a result above its slide and below the region, which must stay clickable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from napari.components import ViewerModel
from napari.layers import Layer

from napari_srast.gui.layers.factory import REGION_ROLES, role_of
from napari_srast.gui.runtime.layer_batches import insert_unselected

__all__ = ["LayerStack"]


class LayerStack:
    """The layers of one slide among those of all open slides.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    slide_layers
        Returns the layers that show the slide. None: there are none.
    region_layers
        Returns the layers of the slide's region. None: all region layers of the viewer.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        slide_layers: Callable[[], Sequence[Layer]] | None = None,
        region_layers: Callable[[], Sequence[Layer]] | None = None,
    ) -> None:
        self._viewer = viewer
        self._slide_layers = slide_layers
        self._region_layers = region_layers

    def histology(self) -> list[Layer]:
        """Return the layers of the slide's histology that are in the viewer."""
        return [layer for layer in self._present(self._slide_layers) if role_of(layer) == "histology"]

    def insert(self, layer: Layer, above: Sequence[Layer] = ()) -> None:
        """Insert a layer above those of the slide and some others, and below the region of the slide if possible."""
        layers = self._viewer.layers
        if self._region_layers is None:
            regions = [other for other in layers if role_of(other) in REGION_ROLES]
        else:
            regions = self._present(self._region_layers)
        below = [*self._present(self._slide_layers), *(other for other in above if other in layers)]
        lowest = max((layers.index(other) + 1 for other in below), default=0)
        tops = [index for index in map(layers.index, regions) if index >= lowest]
        index = min(tops) if tops else (lowest or len(layers))
        insert_unselected(layers, index, layer)

    def _present(self, listed: Callable[[], Sequence[Layer]] | None) -> list[Layer]:
        return [] if listed is None else [layer for layer in listed() if layer in self._viewer.layers]
