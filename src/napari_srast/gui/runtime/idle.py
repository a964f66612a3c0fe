"""Call a function once the window has been idle for a moment."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from qtpy.QtCore import QCoreApplication, QTimer

__all__ = ["IdleTimer"]


class IdleTimer:
    """Calls a function a moment after the last request; it must be used in the GUI thread.

    Parameters
    ----------
    function
        The function.
    milliseconds
        Time from the last request to the call.
    """

    def __init__(self, function: Callable[[], None], milliseconds: int) -> None:
        self._function = function
        self._milliseconds = milliseconds
        self._timer: QTimer | None = None

    def restart(self) -> None:
        """Call the function later, and not before that."""
        if QCoreApplication.instance() is None:
            return
        if self._timer is None:
            self._timer = QTimer()
            self._timer.setSingleShot(True)
            self._timer.timeout.connect(self._function)
        self._timer.start(self._milliseconds)

    def stop(self) -> None:
        """Do not call the function."""
        if self._timer is not None:
            with contextlib.suppress(RuntimeError):  # Qt has deleted the timer, because the program ends
                self._timer.stop()
