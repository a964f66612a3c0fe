"""A heartbeat in the window's thread that tells what the program kept it waiting from what its neighbors did."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from qtpy.QtCore import Qt, QTimer

__all__ = ["Beats"]

_INTERVAL_MS = 10
_CROWDED = 0.2  # of all cores, that other programs used: from here on the clock says little of ours


class Beats:
    """Beats every 10 ms; a gap is the time between two beats, less the beat itself.

    On a computer that others use, too, a gap holds time in which a thread was ready and had no core (Linux tells it in
    ``/proc/self/task/*/schedstat``). Where the computer was crowded, the longest such wait of the program's threads is
    taken off each gap: the window waits for a core itself, or for a thread that holds Python's lock and waits for one.
    On a computer of our own nothing is taken off.
    """

    def __init__(self) -> None:
        self.gaps: list[tuple[float, float, float]] = []  # when it ended, its length, what was waited for cores
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self._beat)

    def start(self) -> None:
        """Begin."""
        self._begun = _core_seconds()
        self._last, self._waited = time.perf_counter(), _waited_ms()
        self._timer.start()

    def stop(self) -> None:
        """End."""
        self._timer.stop()
        ours, all_of_them, there = (after - before for after, before in zip(_core_seconds(), self._begun, strict=True))
        self.crowded = all_of_them - ours > _CROWDED * there

    def report(
        self,
        record_property: Callable[[str, object], None],
        name: str,
        since: float = 0.0,
        until: float = float("inf"),
    ) -> float:
        """Report the longest gaps that ended in a span of time, and return what the program is to blame for."""
        gaps = [(gap, waited) for when, gap, waited in self.gaps if since < when <= until]
        own = max((gap - waited if self.crowded else gap for gap, waited in gaps), default=0.0)
        record_property(f"longest_gap_ms_{name}", round(max((gap for gap, _ in gaps), default=0.0)))
        record_property(f"longest_gap_ms_{name}_of_our_own", round(own))
        record_property(f"gaps_above_100_ms_{name}", f"{sum(gap > 100 for gap, _ in gaps)} of {len(gaps)}")
        return own

    def _beat(self) -> None:
        now, waited = time.perf_counter(), _waited_ms()
        longest = max(ms - self._waited.get(thread, 0.0) for thread, ms in waited.items())
        self.gaps.append((now, 1000 * (now - self._last) - _INTERVAL_MS, longest))
        self._last, self._waited = now, waited


def _waited_ms() -> dict[Any, float]:
    """Return for how long each of Python's threads was ready to run and got no core, so far; nothing but on Linux."""
    waited = {}
    for thread in threading.enumerate():
        try:
            told = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text(encoding="ascii")
            waited[thread.native_id] = int(told.split()[1]) / 1e6
        except OSError:
            waited[thread.native_id] = 0.0
    return waited


def _core_seconds() -> tuple[float, float, float]:
    """Return seconds of cores that this program and its processes used, that all programs used, and that there were."""
    program, everyone = psutil.Process(), psutil.cpu_times()
    own = 0.0
    for process in (program, *program.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # ended meanwhile
            times = process.cpu_times()
            own += times.user + times.system
    there = sum(everyone)
    return own, there - everyone.idle - getattr(everyone, "iowait", 0.0), there
