"""SASA is fitted in separate processes, which start when the window opens and end when a run is canceled."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.window import PATIENCE, SQUARE, click, open_slide, run, wait_ready

from napari_srast.api import upsample
from napari_srast.gui.runtime.processes import process_pool
from napari_srast.gui.widget import SRastWidget
from napari_srast.inference import fitted_slide
from napari_srast.inference.executors import sasa_process_pool

pytestmark = [pytest.mark.gui, pytest.mark.slow]
pytest.importorskip("loky")


def test_fit_in_another_process_gives_the_same_bytes(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = open_slide(qtbot, widget, store)
    widget.controller.regions.add(SQUARE)
    widget.settings_panel.method.value = "srast"
    qtbot.waitUntil(lambda: process_pool().is_ready, timeout=PATIENCE)
    window = os.getpid()

    def fail_in_window_process(*arguments: Any, **options: Any) -> Any:
        from napari_srast.models.sasa.fitting import fit_sasa

        if os.getpid() == window:
            raise AssertionError("fitted in the window's process")
        return fit_sasa(*arguments, **options)

    monkeypatch.setattr(fitted_slide, "_cache", type(fitted_slide._cache)())
    monkeypatch.setattr(sasa_process_pool, "_fit", fail_in_window_process)
    result = run(qtbot, widget)
    fitted_slide._cache.clear()
    alone = upsample(slide, result.region, list(result.genes), settings=result.settings)
    np.testing.assert_array_equal(result.counts.toarray(), alone.counts.toarray())


def test_cancel_ends_a_fit_within_two_seconds(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_slide(qtbot, widget, store)
    widget.controller.regions.add(SQUARE)
    widget.settings_panel.method.value = "srast"
    qtbot.waitUntil(lambda: process_pool().is_ready, timeout=PATIENCE)

    def sleep(*_: Any, **__: Any) -> None:
        time.sleep(600)

    monkeypatch.setattr(fitted_slide, "_cache", type(fitted_slide._cache)())
    with monkeypatch.context() as slow:
        slow.setattr(sasa_process_pool, "_fit", sleep)
        click(qtbot, widget.run_bar.run)
        qtbot.wait(500)
        start = time.monotonic()
        click(qtbot, widget.run_bar.cancel)
        wait_ready(qtbot, widget)
        assert time.monotonic() < start + 2
    assert run(qtbot, widget).counts.sum() > 0
