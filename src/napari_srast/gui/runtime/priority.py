"""Give the GUI thread priority over threads that compute.

The GUI thread competes with computing threads for a core and for Python's global interpreter lock. On a computer with
two cores a run uses both cores, and a thread that asks for the lock waits 5 ms; drawing napari's canvas asks hundreds
of times.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

__all__ = ["SWITCH_SECONDS", "ShortSwitchInterval", "lower_thread_priority"]

SWITCH_SECONDS = 0.001
"""Time after which a thread passes the global interpreter lock to a thread that waits for it."""
_NICENESS = 5


def lower_thread_priority() -> None:
    """Lower the priority of the calling thread, permanently, and of all threads that it starts later.

    On Linux each thread has its own niceness and passes it on to threads that it starts. On other systems the niceness
    belongs to the process, and this function does nothing.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox may forbid it; the run works without
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


class ShortSwitchInterval:
    """Context manager that shortens Python's thread switch interval; nested and concurrent uses are allowed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._before = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if self._n_inside == 0:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(SWITCH_SECONDS, self._before))
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                sys.setswitchinterval(self._before)
