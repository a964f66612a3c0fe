"""Keeps Python's collections of garbage short while they would be felt.

A full collection looks through all that lives: with torch, napari and SpatialData loaded that takes a third of a
second, now and then in the middle of a run, and napari asks for one at the end of each batch of changes. Nearly all of
it was loaded once and stays. So what lives is set aside while a slide is opened, a run goes on or views are switched,
and taken back once nobody has done so for a while, or as soon as a layer goes: what goes with it may be old.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from qtpy.QtCore import QCoreApplication, Qt, QTimer
from qtpy.QtGui import QGuiApplication

__all__ = ["freeze_gc", "unfreeze_gc"]

_QUIET_MS = 10_000


class _Aside:
    """Whether anything is set aside, and the clock that ends it; of the GUI thread."""

    def __init__(self) -> None:
        self.any = False
        self.keep: Callable[[], bool] | None = None
        self._clock: QTimer | None = None

    def wait(self) -> None:
        """Take back what is aside after a while, counted from now."""
        if QCoreApplication.instance() is None:
            return
        if self._clock is None:
            self._clock = QTimer()
            self._clock.setSingleShot(True)
            self._clock.timeout.connect(self._end)
        self._clock.start(_QUIET_MS)

    def _end(self) -> None:
        if not self.any:
            return
        if (self.keep is not None and self.keep()) or QGuiApplication.mouseButtons() != Qt.MouseButton.NoButton:
            self.wait()
            return
        unfreeze_gc()
        gc.collect()  # now that nobody waits; else Python would soon do it by itself


_aside = _Aside()


def freeze_gc(keep: Callable[[], bool] | None = None) -> None:
    """Leave all that lives now out of collections for a while, and for as long as ``keep`` says.

    What was set aside before stays so, and the while is counted from now.
    """
    if not _aside.any:
        gc.freeze()
        _aside.any, _aside.keep = True, None
    if keep is not None:
        _aside.keep = keep
    _aside.wait()


def unfreeze_gc() -> None:
    """Let collections look through everything again."""
    if _aside.any:
        gc.unfreeze()
        _aside.any, _aside.keep = False, None
