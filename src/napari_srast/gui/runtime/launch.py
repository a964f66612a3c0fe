"""Start napari with the dock widget, for ``napari-srast open`` and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import napari

from napari_srast.gui.widget import SRastWidget
from napari_srast.gui.widgets.screen_fit import ScreenFit

__all__ = ["launch", "open_window"]


def open_window() -> tuple[napari.Viewer, SRastWidget]:
    """Open a napari window with the SRast widget docked."""
    viewer = napari.Viewer(title="SRast")
    _, widget = viewer.window.add_plugin_dock_widget("napari-srast", "SRast")
    return viewer, cast(SRastWidget, widget)


def launch(slide: str | Path | None = None) -> None:
    """Open the window and return after it was closed.

    Parameters
    ----------
    slide
        SpatialData store to open. None (default) opens none.
    """
    _, widget = open_window()
    screen = widget.screen()
    if screen is not None:
        ScreenFit(widget).fit(screen.availableGeometry().size())
    if slide is not None:
        widget.open_path(slide)
    napari.run()
