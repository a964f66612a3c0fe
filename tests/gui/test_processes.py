"""SASA is fitted beside the window, in processes that stand ready when a region is drawn, and Cancel ends them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gui_window import PATIENCE, SQUARE, click, open_slide, run, wait_ready

from napari_srast.gui.processes import processes
from napari_srast.gui.widget import SRastWidget
from napari_srast.models import elsewhere, slide_model
from napari_srast.pipeline import upsample

pytestmark = [pytest.mark.gui, pytest.mark.slow]
pytest.importorskip("loky")


def test_a_run_is_fitted_beside_the_window_with_the_bytes_of_one_without(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = open_slide(qtbot, widget, store)
    widget.controller.add_polygon(SQUARE)
    widget.settings_panel.method.setCurrentText("srast")
    qtbot.waitUntil(lambda: processes().is_ready, timeout=PATIENCE)
    window = os.getpid()

    def not_here(*arguments: Any, **options: Any) -> Any:
        from napari_srast.models.sasa import fit_sasa

        if os.getpid() == window:
            raise AssertionError("fitted in the window's process")
        return fit_sasa(*arguments, **options)

    monkeypatch.setattr(slide_model, "_cache", type(slide_model._cache)())
    monkeypatch.setattr(elsewhere, "_fit", not_here)
    result = run(qtbot, widget)
    slide_model._cache.clear()
    alone = upsample(slide, result.region, list(result.genes), settings=result.settings)
    np.testing.assert_array_equal(result.counts.toarray(), alone.counts.toarray())


def test_cancel_ends_a_fit_in_a_second_and_the_next_run_works(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_slide(qtbot, widget, store)
    widget.controller.add_polygon(SQUARE)
    widget.settings_panel.method.setCurrentText("srast")
    qtbot.waitUntil(lambda: processes().is_ready, timeout=PATIENCE)

    def for_ever(*_: Any, **__: Any) -> None:
        time.sleep(600)

    monkeypatch.setattr(slide_model, "_cache", type(slide_model._cache)())
    with monkeypatch.context() as slow:
        slow.setattr(elsewhere, "_fit", for_ever)
        click(qtbot, widget.run_bar.run)
        qtbot.wait(500)
        start = time.monotonic()
        click(qtbot, widget.run_bar.cancel)
        wait_ready(qtbot, widget)
        assert time.monotonic() < start + 2
    assert run(qtbot, widget).counts.sum() > 0
