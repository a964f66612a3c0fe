from __future__ import annotations

import pytest

from napari_srast.gui.runtime.idle import IdleTimer

sip = pytest.importorskip("PyQt6.sip")
pytestmark = pytest.mark.gui


def test_function_is_called_once_after_the_last_request(qtbot):
    calls = []
    timer = IdleTimer(lambda: calls.append(1), 20)
    for _ in range(3):
        timer.restart()
    qtbot.waitUntil(lambda: len(calls) == 1, timeout=5000)
    qtbot.wait(60)
    assert calls == [1]


def test_stop_after_qt_deleted_the_timer_is_harmless(qtbot):
    """At the end of a program Qt deletes timers before the controllers stop; an error there would abort Python."""
    timer = IdleTimer(lambda: None, 10_000)
    timer.restart()
    sip.delete(timer._timer)
    timer.stop()
