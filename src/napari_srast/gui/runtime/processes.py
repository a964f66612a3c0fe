"""Start the processes that fit SASA; all windows of a program use the same ones."""

from __future__ import annotations

import functools
import threading

from napari.utils.transforms import Affine
from qtpy.QtCore import QCoreApplication

from napari_srast.gui.runtime.priority import lower_thread_priority
from napari_srast.inference.executors.sasa_process_pool import SasaProcessPool

__all__ = ["process_pool", "start_process_pool"]

_DELAY_SECONDS = 0.5  # the window is drawn first


@functools.cache
def process_pool() -> SasaProcessPool:
    """Return the process pool; it closes when the program quits, even if its processes are still loading."""
    pool = SasaProcessPool()
    application = QCoreApplication.instance()
    if application is not None:
        application.aboutToQuit.connect(pool.close)
    return pool


def start_process_pool() -> None:
    """Start the processes after a short delay; they load while the user opens a slide and draws a region."""

    def start() -> None:
        lower_thread_priority()  # the processes inherit it
        process_pool().prepare()

    process_pool()  # created in the GUI thread because it connects to Qt
    Affine()  # the first one loads napari's units, which takes a fifth of a second: not when a slide is shown
    timer = threading.Timer(_DELAY_SECONDS, start)
    timer.daemon = True
    timer.start()
