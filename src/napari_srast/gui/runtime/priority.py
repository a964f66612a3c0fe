"""Lets the window go first while something is computed beside it.

A window waits for two things that a computing thread has: a core, and Python's lock. On a computer with two cores a
run has both, and whoever asks for the lock gets it 5 ms later; a drawing of napari's canvas asks hundreds of times.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

__all__ = ["SWITCH_SECONDS", "GivingWay", "step_back"]

_NICENESS = 5
SWITCH_SECONDS = 0.001
"""After this time Python's lock is passed on to a thread that waits for it."""


def step_back() -> None:
    """Let other threads have the core before this one, for good, and before all threads that it starts.

    On Linux niceness is a thread's own and is inherited by what the thread starts; elsewhere it is the whole program's,
    and nothing is done.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox may forbid it; the run goes on all the same
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


class GivingWay:
    """Passes Python's lock on sooner while anything is computed; several may be at once."""

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
