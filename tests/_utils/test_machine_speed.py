"""Test the measured speed of the computer."""

from __future__ import annotations

import time

import pytest

from napari_srast._utils import machine_speed as module


def test_speed_is_measured_once_and_in_little_time() -> None:
    module.machine_speed.cache_clear()
    start = time.process_time()
    speed = module.machine_speed()
    assert time.process_time() - start < 0.15 * module.n_cores()  # no window may notice it
    assert module.machine_speed() == speed
    assert 0.1 <= speed <= 10


def test_slow_computer_has_a_low_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(float(i) for i in range(100))
    monkeypatch.setattr(module, "_CLOCK", lambda: next(ticks) * 0.0042)
    monkeypatch.setattr(module, "n_cores", lambda: 1)
    module.machine_speed.cache_clear()
    try:
        assert module.machine_speed() == pytest.approx(0.5)
    finally:
        module.machine_speed.cache_clear()
