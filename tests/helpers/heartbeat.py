"""Measure delays of the GUI thread, with and without the time that other programs cause."""

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
_CROWDED = 0.2  # share of the cores that other programs use, above which wall-clock times say little about ours


class Beats:
    """Timer that beats every 10 ms and records gaps: the time between two beats minus the interval.

    On a busy computer a gap includes time in which a thread was ready to run but had no core (on Linux reported in
    ``/proc/self/task/*/schedstat``). If other programs used many cores, the longest such wait of a thread is subtracted
    from each gap, because the GUI thread waits for a core, or for a waiting thread that has Python's lock.
    """

    def __init__(self) -> None:
        self.gaps: list[tuple[float, float, float]] = []  # end time, length in ms, longest wait for a core in ms
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self._beat)

    def start(self) -> None:
        """Start measuring."""
        self._begun = _core_seconds()
        self._last, self._waited = time.perf_counter(), _waited_ms()
        self._timer.start()

    def stop(self) -> None:
        """Stop measuring."""
        self._timer.stop()
        own, used, available = (after - before for after, before in zip(_core_seconds(), self._begun, strict=True))
        self.is_crowded = used - own > _CROWDED * available

    def report(
        self,
        record_property: Callable[[str, object], None],
        name: str,
        since: float = 0.0,
        until: float = float("inf"),
    ) -> float:
        """Report the longest gaps in a time span and return the longest one that this program caused, in ms.

        Parameters
        ----------
        record_property
            Fixture of pytest for the report of the test.
        name
            Name of the span in the report.
        since, until
            Limits of the span, as times of :func:`time.perf_counter`.
        """
        gaps = [(gap, waited) for end, gap, waited in self.gaps if since < end <= until]
        own = max((gap - waited if self.is_crowded else gap for gap, waited in gaps), default=0.0)
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
    """Return how long each Python thread has been ready to run without a core, in ms; 0 except on Linux."""
    waited = {}
    for thread in threading.enumerate():
        try:
            schedstat = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text(encoding="ascii")
            waited[thread.native_id] = int(schedstat.split()[1]) / 1e6
        except OSError:
            waited[thread.native_id] = 0.0
    return waited


def _core_seconds() -> tuple[float, float, float]:
    """Return the core seconds that this program used, that all programs used, and that were available."""
    program, everyone = psutil.Process(), psutil.cpu_times()
    own = 0.0
    for process in (program, *program.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # the process has ended
            times = process.cpu_times()
            own += times.user + times.system
    available = sum(everyone)
    return own, available - everyone.idle - getattr(everyone, "iowait", 0.0), available
