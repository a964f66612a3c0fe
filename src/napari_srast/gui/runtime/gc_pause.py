"""Avoid full garbage collections at moments in which the user would notice the delay.

A full collection visits every object: with torch, napari and SpatialData loaded that takes a third of a second. Python
starts one now and then during a run, and napari starts one at the end of each batch of layer changes. Nearly all
objects were created once and stay. Therefore existing objects are frozen (:func:`gc.freeze`) when a slide loads, a run
starts or views are switched. They stay frozen, so that later collections visit only what was created since.

Layers that are removed leave much garbage: all that a slide or a result held. Therefore all objects are unfrozen before
a layer is removed, and the collection that napari starts then finds what the layer held. What the code that removed it
still held is found by a full collection after a quiet period in which the pointer rested.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from qtpy.QtCore import QCoreApplication, QPoint, Qt, QTimer
from qtpy.QtGui import QCursor, QGuiApplication

__all__ = ["freeze_gc", "freeze_new_objects", "unfreeze_gc"]

_QUIET_MS = 10_000
_MAX_PERIODS = 6  # after which a pending full collection no longer waits until the pointer rests


class _GcPause:
    """What is frozen and what must be collected, and the timer of the quiet period; used only in the GUI thread."""

    def __init__(self) -> None:
        self.is_active = False
        self.owes_collection = False
        self.keep: Callable[[], bool] | None = None
        self._pointer = QPoint()
        self._n_periods = 0
        self._timer: QTimer | None = None

    def restart_timer(self) -> None:
        """Collect garbage after a quiet period that starts now."""
        if QCoreApplication.instance() is None:
            return
        if self._timer is None:
            self._timer = QTimer()
            self._timer.setSingleShot(True)
            self._timer.timeout.connect(self._end)
        self._pointer = QCursor.pos()
        self._timer.start(_QUIET_MS)

    def _end(self) -> None:
        if not self.is_active:
            return
        self._n_periods += 1
        is_pressed = QGuiApplication.mouseButtons() != Qt.MouseButton.NoButton
        is_moving = QCursor.pos() != self._pointer and self._n_periods < _MAX_PERIODS
        is_working = not gc.isenabled() or (self.keep is not None and self.keep())  # disabled during imports
        if is_pressed or is_working or (self.owes_collection and is_moving):
            self.restart_timer()
            return
        self.keep, self._n_periods = None, 0
        if self.owes_collection:
            self.owes_collection = False
            gc.unfreeze()
        gc.collect()  # quick unless all objects were unfrozen
        gc.freeze()


_pause = _GcPause()


def freeze_gc(keep: Callable[[], bool] | None = None) -> None:
    """Exclude all existing objects from garbage collection, and what is created until a quiet period is over.

    Objects that are frozen stay frozen, and the quiet period starts again.

    Parameters
    ----------
    keep
        Returns whether garbage must not be collected at the end of the quiet period, which is then repeated. None
        (default): no further condition.
    """
    if not _pause.is_active:
        gc.freeze()
        _pause.is_active, _pause.keep = True, None
    if keep is not None:
        _pause.keep = keep
    _pause.restart_timer()


def freeze_new_objects(*, collect: bool = False) -> None:
    """Exclude objects that were created since the others were frozen, too; any thread may call this.

    Parameters
    ----------
    collect
        Whether to collect the garbage among them before, because it may be large.
    """
    if _pause.is_active:
        if collect:
            gc.collect()
        gc.freeze()


def unfreeze_gc() -> None:
    """Include all objects in garbage collection, because much garbage follows.

    What is frozen afterwards is unfrozen and collected after a quiet period.
    """
    _pause.owes_collection = True
    if _pause.is_active:
        gc.unfreeze()
        _pause.is_active, _pause.keep = False, None
