"""Open the panel for slides that napari's reader returned, or leave a file to it that must be converted.

A reader can only return layers, and does not know which viewer adds them. So after napari has added them, the current
viewer is asked whether it shows the slide.
"""

from __future__ import annotations

import weakref
from functools import partial
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMainWindow

from napari_srast.core.slide import Slide
from napari_srast.errors import ChoiceError
from napari_srast.gui.state.slide_session import slide_of
from napari_srast.gui.widgets.choice_dialog import ChoiceDialog

__all__ = ["ask_in_window", "import_in_panel", "open_panel_with"]

_PLUGIN, _WIDGET = "napari-srast", "SRast"
_RETRY_MS = 100
_MAX_RETRIES = 100  # napari draws between the layers that it adds


def open_panel_with(slide: Slide) -> None:
    """Open the panel once the current viewer shows a slide; without a window, nothing happens.

    Parameters
    ----------
    slide
        The slide whose layers are about to be added.
    """
    if QApplication.instance() is not None:
        QTimer.singleShot(0, partial(_open, weakref.ref(slide), _MAX_RETRIES))


def ask_in_window(error: ChoiceError) -> str | None:
    """Ask the user which part of a slide to open; return None without a visible window, or if nothing was chosen.

    Parameters
    ----------
    error
        The choice that is needed.
    """
    parent = _visible_window()
    if parent is None:
        return None
    dialog = ChoiceDialog(error, parent)
    try:
        return dialog.ask()
    finally:
        dialog.deleteLater()


def import_in_panel(path: Path) -> bool:
    """Let the panel ask for image and store, and convert a file; return False without a visible window.

    Parameters
    ----------
    path
        A table or a Space Ranger folder.
    """
    if _visible_window() is None:
        return False
    QTimer.singleShot(0, partial(_open_in_panel, path))  # after the drop, whose source waits for it
    return True


def _open_in_panel(path: Path) -> None:
    viewer = napari.current_viewer()
    if viewer is not None:
        _dock(viewer).open_unless_busy(path)


def _visible_window() -> QMainWindow | None:
    """Return a visible window of napari."""
    if QApplication.instance() is None or napari.current_viewer() is None:
        return None
    windows = (window for window in QApplication.topLevelWidgets() if isinstance(window, QMainWindow))
    return next((window for window in windows if window.isVisible()), None)


def _open(reference: weakref.ref[Slide], n_retries: int) -> None:
    slide, viewer = reference(), napari.current_viewer()
    if slide is None or viewer is None:
        return
    if any(slide_of(layer) is slide for layer in viewer.layers):
        _dock(viewer)
    elif n_retries:
        QTimer.singleShot(_RETRY_MS, partial(_open, reference, n_retries - 1))


def _dock(viewer: Any) -> Any:
    """Dock the panel in a viewer, and return it; a panel that is docked already is shown."""
    dock, widget = viewer.window.add_plugin_dock_widget(_PLUGIN, _WIDGET)
    dock.show()
    return widget
