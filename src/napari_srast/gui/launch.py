"""Open napari with the dock widget, as ``napari-srast open`` does."""

from __future__ import annotations

from pathlib import Path

__all__ = ["launch"]


def launch(slide: Path | None = None) -> None:
    """Show napari with the widget docked and a slide loaded; return when the window is closed."""
    import napari

    viewer = napari.Viewer(title="napari-srast")
    _, widget = viewer.window.add_plugin_dock_widget("napari-srast", "SRast")
    if slide is not None:
        widget.open_path(slide)
    napari.run()
