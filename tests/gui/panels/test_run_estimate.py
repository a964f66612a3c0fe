"""The estimate of the next run of a large slide, which is made in the background."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.window import PATIENCE, SQUARE, open_slide

from napari_srast.gui.panels import run_estimate as module
from napari_srast.gui.state.run_estimate import describe_cost
from napari_srast.gui.widget import SRastWidget
from napari_srast.inference.run_estimate import estimate

pytestmark = pytest.mark.gui


def test_runs_of_a_large_slide_are_estimated_outside_the_gui_thread(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def observed(*given: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        return estimate(*given, **options)

    monkeypatch.setattr(module, "_SPOTS_AT_ONCE", 0)
    monkeypatch.setattr(module, "_COUNTED_AT_ONCE", 0)
    monkeypatch.setattr(module, "estimate", observed)
    slide = open_slide(qtbot, widget, store)
    widget.settings_panel.factor.value = 3
    settings = widget.settings_panel.settings()
    assert settings.factor == 3
    expected = describe_cost(estimate(slide, None, None, settings)).split(":")[0]
    assert "about" not in expected  # the pixels are counted at last
    qtbot.waitUntil(lambda: widget.run_bar.estimate.text().split(":")[0] == expected, timeout=PATIENCE)
    assert threads
    assert threading.main_thread() not in threads


def test_unusable_input_for_a_large_slide_disables_the_run(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SPOTS_AT_ONCE", 0)
    open_slide(qtbot, widget, store)
    qtbot.waitUntil(lambda: "36 spots" in widget.run_bar.estimate.text(), timeout=PATIENCE)
    assert widget.run_bar.run.isEnabled()
    widget.controller.regions.add(SQUARE + 9000)  # far from all spots
    qtbot.waitUntil(lambda: not widget.run_bar.run.isEnabled(), timeout=PATIENCE)
