"""Open the panel for slides that napari's reader returned.

A reader can only return layers, and does not know which viewer adds them. So after napari has added them, the current
viewer is asked whether it shows the slide.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_srast.core.slide import Slide
from napari_srast.gui.state.slide_session import slide_of

__all__ = ["open_panel_with"]

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


def _open(reference: weakref.ref[Slide], n_retries: int) -> None:
    slide, viewer = reference(), napari.current_viewer()
    if slide is None or viewer is None:
        return
    if any(slide_of(layer) is slide for layer in viewer.layers):
        _dock(viewer)
    elif n_retries:
        QTimer.singleShot(_RETRY_MS, partial(_open, reference, n_retries - 1))


def _dock(viewer: Any) -> None:
    """Dock the panel in a viewer; a panel that is docked already is shown."""
    dock, _ = viewer.window.add_plugin_dock_widget(_PLUGIN, _WIDGET)
    dock.show()
