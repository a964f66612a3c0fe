"""TODO docstring."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

__all__ = ["single_threaded"]


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep libraries from splitting sums over threads: how they do depends on the computer, and so do the last bits.

    Two units on a thread each are faster than one on two, too.
    """
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    with _limit:
        _use_one_thread()
        try:
            yield
        finally:
            if torch is not None and before is not None:
                torch.set_num_threads(before)


class _Limit:
    """The limit on threads, which is the whole process's: the first run sets it, the last one lifts it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = 0
        self._limits: threadpool_limits | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._runs += 1
            if self._limits is None:
                self._limits = threadpool_limits(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0 and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


def _use_one_thread() -> None:
    """Keep torch to the one thread that a unit is computed on; its setting is each thread's own."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


_limit = _Limit()
