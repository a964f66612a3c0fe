"""Show napari's scale bar with the first slide; draw it once before, because its first drawing takes 0.15 s."""

from __future__ import annotations

from typing import Any

from napari.components import ViewerModel

__all__ = ["ScaleBar"]


class ScaleBar:
    """The scale bar of a viewer.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._bar: Any = viewer.canvas.overlays.scale_bar
        self._was_shown = False
        self._opacity: float | None = None  # of the user, while the bar is transparent

    def begin_drawing(self) -> None:
        """Let napari draw the bar once, transparent, while there is nothing else to see."""
        if not self._was_shown and not self._bar.visible and self._opacity is None:
            self._opacity = self._bar.opacity
            self._bar.opacity = 0.0
            self._bar.visible = True

    def end_drawing(self) -> None:
        """Hide the transparent bar again."""
        if self._opacity is not None:
            self._bar.visible = False
            self._bar.opacity, self._opacity = self._opacity, None

    def show_once(self) -> None:
        """Show the bar; later it is as the user has set it."""
        if not self._was_shown:
            self._was_shown = True
            self.end_drawing()
            self._bar.visible = True
