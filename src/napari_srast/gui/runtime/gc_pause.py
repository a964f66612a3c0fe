"""Pause full garbage collection while its delay would be noticed.

A full collection visits every object: with torch, napari and SpatialData loaded that takes a third of a second. Python
starts one now and then during a run, and napari starts one at the end of each batch of layer changes. Nearly all
objects were created once and stay. Therefore existing objects are frozen (:func:`gc.freeze`) while a slide loads, a
run is in progress or views are switched. They are unfrozen after a quiet period, and before a layer is removed, so that
a collection finds what the layer held.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from qtpy.QtCore import QCoreApplication, Qt, QTimer
from qtpy.QtGui import QGuiApplication

__all__ = ["freeze_gc", "freeze_new_objects", "unfreeze_gc"]

_QUIET_MS = 10_000


class _GcPause:
    """State of the pause, and the timer that ends it; used only in the GUI thread."""

    def __init__(self) -> None:
        self.is_active = False
        self.keep: Callable[[], bool] | None = None
        self._timer: QTimer | None = None

    def restart_timer(self) -> None:
        """End the pause after a quiet period that starts now."""
        if QCoreApplication.instance() is None:
            return
        if self._timer is None:
            self._timer = QTimer()
            self._timer.setSingleShot(True)
            self._timer.timeout.connect(self._end)
        self._timer.start(_QUIET_MS)

    def _end(self) -> None:
        if not self.is_active:
            return
        if (self.keep is not None and self.keep()) or QGuiApplication.mouseButtons() != Qt.MouseButton.NoButton:
            self.restart_timer()
            return
        unfreeze_gc()
        gc.collect()  # while the user is idle; Python would start one soon


_pause = _GcPause()


def freeze_gc(keep: Callable[[], bool] | None = None) -> None:
    """Exclude all existing objects from garbage collection until a quiet period is over.

    Objects that are frozen stay frozen, and the quiet period starts again.

    Parameters
    ----------
    keep
        Returns whether the pause must continue at the end of the quiet period. None (default): no further condition.
    """
    if not _pause.is_active:
        gc.freeze()
        _pause.is_active, _pause.keep = True, None
    if keep is not None:
        _pause.keep = keep
    _pause.restart_timer()


def freeze_new_objects() -> None:
    """Exclude objects that were created during a pause, too, until its end; any thread may call this."""
    if _pause.is_active:
        gc.freeze()


def unfreeze_gc() -> None:
    """Include all objects in garbage collection again."""
    if _pause.is_active:
        gc.unfreeze()
        _pause.is_active, _pause.keep = False, None
