"""Show napari's scale bar with slides in a known unit; draw it once before, because its first drawing takes 0.15 s.

napari measures slides without a unit of length in "pixel", which says nothing about the tissue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.components import ViewerModel

from napari_srast.core.slide import Slide
from napari_srast.gui.layers.factory import has_length_unit

__all__ = ["NO_SCALE_BAR", "ScaleBar"]

NO_SCALE_BAR = "There is no scale bar, because the slide does not state a unit of length."


class ScaleBar:
    """The scale bar of a viewer.

    Parameters
    ----------
    viewer
        The viewer, or its model.
    slide
        Returns the current slide; None if no slide is open.
    """

    def __init__(self, viewer: ViewerModel, slide: Callable[[], Slide | None]) -> None:
        self._bar: Any = viewer.canvas.overlays.scale_bar
        self._slide = slide
        self._was_shown = False
        self._is_withheld = False  # because the slide has no unit of length
        self._opacity: float | None = None  # of the user, while the bar is transparent

    @property
    def notices(self) -> tuple[str, ...]:
        """A sentence if the current slide has no scale bar."""
        slide = self._slide()
        return () if slide is None or has_length_unit(slide) else (NO_SCALE_BAR,)

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
            self.refresh()

    def refresh(self) -> None:
        """Hide the bar while the current slide has no unit of length."""
        slide = self._slide()
        if slide is None or not self._was_shown:
            return
        if not has_length_unit(slide):
            self._is_withheld = self._is_withheld or self._bar.visible
            self._bar.visible = False
        elif self._is_withheld:
            self._is_withheld = False
            self._bar.visible = True
