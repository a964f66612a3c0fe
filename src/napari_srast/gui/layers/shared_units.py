"""Give all layers of the panel the unit of the current slide.

napari shows a warning and ignores units if layers have units of different kinds, even if most of the layers are
hidden. Slides in micrometers and slides without a known unit can be open at the same time, but only one is visible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.components import ViewerModel
from napari.layers import Labels, Layer, Points, Shapes

from napari_srast.core.slide import Slide
from napari_srast.gui.layers.factory import role_of, set_units, world_units

__all__ = ["SharedUnits"]


class SharedUnits:
    """Sets the units of layers when they are added and when another slide becomes the current one.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    slide
        Returns the current slide; None if no slide is open.
    """

    def __init__(self, viewer: ViewerModel, slide: Callable[[], Slide | None]) -> None:
        self._viewer = viewer
        self._slide = slide
        viewer.layers.events.inserted.connect(self._on_inserted)

    def refresh(self) -> None:
        """Set the units of all layers of the panel, and of layers that were drawn on the canvas."""
        slide = self._slide()
        if slide is None:
            return
        for layer in self._viewer.layers:
            if role_of(layer) is not None or _is_drawn(layer):
                set_units(layer, world_units(slide))

    def _on_inserted(self, event: Any) -> None:
        self.refresh()

    def disconnect(self) -> None:
        """Disconnect from the viewer."""
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)


def _is_drawn(layer: Layer) -> bool:
    """Return whether a layer was drawn on the canvas, and so is in world coordinates."""
    return isinstance(layer, Shapes | Points | Labels) and layer.ndim == 2 and layer.source.path is None
