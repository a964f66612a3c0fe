"""The names of slides that are shown next to each other, as text above each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points
from napari.utils.theme import get_theme

from napari_srast.gui.layers.factory import KEY, remove_layers
from napari_srast.gui.runtime.layer_batches import insert_unselected

__all__ = ["SlideNames", "fit_caption"]

_FONT_SIZE = 10
_CHARACTER_PIXELS = 10.2  # width of a character at this size, with some space
_MIN_TITLE = 12  # characters


class SlideNames:
    """A layer of text.

    Parameters
    ----------
    viewer
        The viewer, or its model.

    Attributes
    ----------
    layer
        The layer; None while no names are shown.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.layer: Points | None = None
        self._viewer = viewer
        self._shown: tuple[object, ...] = ()
        viewer.events.theme.connect(self._set_color)

    @property
    def is_incomplete(self) -> bool:
        """Whether the user has removed the layer from the viewer."""
        return self.layer is not None and self.layer not in self._viewer.layers

    def show(self, names: Sequence[str], positions: np.ndarray, units: tuple[str, str]) -> None:
        """Show names.

        Parameters
        ----------
        names
            One text for each slide.
        positions
            Where each text begins, its lower left corner, (x, y) in world coordinates, shape (n, 2).
        units
            Units of the two world axes.
        """
        shown = (tuple(names), positions.tobytes(), units)
        if shown == self._shown and self.layer is not None:
            return
        self.remove()
        self._shown = shown
        self.layer = Points(
            positions[:, ::-1],
            name="SRast names of slides",
            size=1e-6,
            face_color="transparent",
            border_color="transparent",
            text={"string": list(names), "anchor": "upper_left", "size": _FONT_SIZE, "color": self._color},
            units=units,
            metadata={KEY: {"role": "neighbor"}},
        )
        insert_unselected(self._viewer.layers, len(self._viewer.layers), self.layer)

    def remove(self) -> None:
        """Remove the layer from the viewer."""
        removed, self.layer = self.layer, None
        if removed is not None:
            remove_layers(self._viewer.layers, [removed])

    def disconnect(self) -> None:
        """Disconnect from the viewer."""
        self._viewer.events.theme.disconnect(self._set_color)

    @property
    def _color(self) -> str:
        """Black or white, so that the text is readable on the canvas."""
        canvas = np.array(get_theme(self._viewer.theme).canvas.as_rgb_tuple()[:3], dtype=float) / 255
        return "black" if canvas.mean() > 0.5 else "white"

    def _set_color(self, event: object = None) -> None:
        if self.layer is not None:
            self.layer.text.color = self._color
            self.layer.refresh_text()


def fit_caption(title: str, details: str, pixels: float) -> str:
    """Return the text above a slide, shortened to the space before the next slide's.

    Parameters
    ----------
    title
        Name of the slide; its middle is left out first.
    details
        Remarks, which follow in parentheses; they end early if the shortened name leaves too little space.
    pixels
        Width of the space on the canvas.
    """
    space = int(pixels / _CHARACTER_PIXELS)
    of_title = max(space - (len(details) + 3 if details else 0), _MIN_TITLE)
    if len(title) > of_title:
        start = of_title // 2
        title = f"{title[:start]}…{title[len(title) - (of_title - start - 1) :]}"
    of_details = max(space - len(title) - 3, 0)
    if len(details) > of_details:
        details = f"{details[: of_details - 1].rstrip(', ')}…" if of_details > _MIN_TITLE else ""
    return f"{title} ({details})" if details else title
