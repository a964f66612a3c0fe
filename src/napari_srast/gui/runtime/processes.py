"""The processes beside the window, one set for all windows of a program."""

from __future__ import annotations

import functools
import threading

from qtpy.QtCore import QCoreApplication

from napari_srast.gui.runtime.priority import step_back
from napari_srast.inference.executors.sasa_process_pool import SasaProcessPool

__all__ = ["processes", "start_processes"]

_AFTER_SECONDS = 0.5  # the window is drawn first


@functools.cache
def processes() -> SasaProcessPool:
    """Return what fits SASA beside the window; it ends with the program, which does not wait for what it loads."""
    beside = SasaProcessPool()
    program = QCoreApplication.instance()
    if program is not None:
        program.aboutToQuit.connect(beside.close)
    return beside


def start_processes() -> None:
    """Start the processes in a moment: they load while a slide is opened and a region drawn."""

    def start() -> None:
        step_back()  # what this thread starts steps back with it
        processes().prepare()

    processes()  # in the window's thread: it speaks to Qt
    timer = threading.Timer(_AFTER_SECONDS, start)
    timer.daemon = True
    timer.start()
