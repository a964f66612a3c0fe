"""The whole way on the built-in slide, in the real window: open, select, run, overlay, export, and what it took.

Nothing is skipped or shortened: the demo presses the widget's own buttons and waits for its own worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, Qt, QTimer

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import world_extent
from napari_srast.gui.layers.overlay import MAX_GENES
from napari_srast.gui.runtime.launch import open_window
from napari_srast.gui.widget import SRastWidget

__all__ = ["Heartbeat", "run_demo", "wait_until"]

_MARKERS = ("MUC2", "OLFM4", "COL1A1", "KRT20", "ERBB2", "KRT19", "CD74")
_N_GENES = 4
_FACTOR = 4.0
_TIMEOUT_S = 540.0


class Heartbeat:
    """Measures the longest time that the window was deaf: the largest gap between two beats, less the beat itself."""

    def __init__(self, interval_ms: int = 10) -> None:
        self.max_stall_ms = 0.0
        self._interval_ms = interval_ms
        self._last: float | None = None
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(interval_ms)
        self._timer.timeout.connect(self._beat)

    def start(self) -> None:
        """Forget what was measured and begin."""
        self.max_stall_ms, self._last = 0.0, time.perf_counter()
        self._timer.start()

    def stop(self) -> float:
        """End, and return the longest stall in milliseconds."""
        self._beat()
        self._timer.stop()
        return self.max_stall_ms

    def _beat(self) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.max_stall_ms = max(self.max_stall_ms, 1000 * (now - self._last) - self._interval_ms)
        self._last = now


def wait_until(condition: Callable[[], bool], timeout_s: float = _TIMEOUT_S) -> bool:
    """Let Qt's event loop run until ``condition`` holds; return False if it never did."""
    if condition():
        return True
    deadline = time.monotonic() + timeout_s
    loop, timer = QEventLoop(), QTimer()

    def check() -> None:
        if condition() or time.monotonic() > deadline:
            loop.quit()

    timer.timeout.connect(check)
    timer.start(20)
    loop.exec()
    return condition()


def run_demo(out: Path | None, *, headless: bool, slide: Path | None = None) -> dict[str, Any]:
    """Drive the dock widget over a slide and report what came of it.

    Parameters
    ----------
    out
        Existing folder for ``overlay.png`` (the whole window) and ``result.zarr``; None writes nothing.
    headless
        Close the window at the end instead of leaving it to the user.
    slide
        A SpatialData store; None takes the built-in synthetic slide.

    Returns
    -------
    dict
        What ``report.json`` holds: size and seconds of the job, mass error, negative pixels, longest stall of the
        window, skill of the shown genes and, for the built-in slide, scores against its known truth.

    Raises
    ------
    RuntimeError
        A step failed or took too long; the message says which.
    """
    viewer, widget = open_window()
    viewer.window.resize(1600, 1000)
    controller = widget.controller
    errors: list[str] = []
    controller.messages.error_message.connect(errors.append)
    try:
        if slide is None:
            widget.slide_panel.sample.click()
        else:
            widget.open_path(slide)
        _wait(controller, errors, "open the slide")
        report = _upsample(widget, errors)
        if out is not None:
            _settle()
            viewer.window.screenshot(str(out / "overlay.png"), canvas_only=False, flash=False)
            controller.results.export(out / "result.zarr")
            _wait(controller, errors, "export the result")
        if slide is None:
            report["scored_genes"], report["scores"] = _scores(_result(controller))
        if not headless:
            napari.run()
    finally:
        if headless:
            viewer.close()
    return report


def _upsample(widget: SRastWidget, errors: list[str]) -> dict[str, Any]:
    """Select a region and genes, run, and return what is to be reported of it."""
    controller = widget.controller
    slide = controller.slides.slide
    assert slide is not None
    controller.regions.add(_octagon(slide))
    widget.gene_panel.model.check(_markers(slide))
    widget.settings_panel.factor.setValue(_FACTOR)
    _settle()
    heartbeat = Heartbeat()
    landing: list[float] = []
    controller.results.result_changed.connect(lambda: landing.append(heartbeat.max_stall_ms))
    heartbeat.start()
    widget.run_bar.run.click()
    _wait(controller, errors, "upsample")
    overlay = controller.results.overlay
    assert overlay is not None
    wait_until(lambda: len(overlay.shown) == len(overlay.genes))  # each gene's layer comes in a turn of its own
    _settle()
    overall = heartbeat.stop()
    result, finished = _result(controller), controller.results.current
    assert finished is not None
    skill = dict(zip(map(str, result.genes), map(float, result.skill), strict=True))
    return {
        "slide": "built-in synthetic slide" if slide.source.synthetic else str(slide.source.path),
        "synthetic": slide.source.synthetic,
        "spots": len(result.raster.spots),
        "pixels": result.n_pixels,
        "genes": len(result.genes),
        "factor": result.settings.factor,
        "method": result.settings.method,
        "device": str(result.provenance.get("device", result.settings.device)),
        "max_relative_mass_error": finished.trust.max_relative_mass_error,
        "negative_pixels": finished.trust.negative_pixels,
        "measured_fraction": finished.trust.measured_fraction,
        "max_ui_stall_ms": landing[-1],
        "max_ui_stall_with_layers_ms": overall,
        "seconds": dict(result.provenance.get("seconds", {})),
        "skill": {paint.gene: skill[paint.gene] for paint in overlay.shown},
    }


def _wait(controller: Controller, errors: list[str], doing: str) -> None:
    done = wait_until(lambda: bool(errors) or controller.tasks.state is AppState.READY)
    if errors:
        raise RuntimeError(f"The demo could not {doing}: {errors[0]}")
    if not done:
        raise RuntimeError(f"The demo could not {doing} within {_TIMEOUT_S:.0f} seconds.")


def _settle() -> None:
    """Let the window draw what has changed."""
    deadline = time.monotonic() + 0.7
    wait_until(lambda: time.monotonic() > deadline)


def _result(controller: Controller) -> UpsampleResult:
    assert controller.results.current is not None
    return controller.results.current.result


def _octagon(slide: Slide) -> np.ndarray:
    """Return an octagon over the middle of the spots, (x, y) in the chosen coordinate system."""
    low, high = world_extent(slide)
    angle = np.pi / 8 + np.arange(8) * np.pi / 4
    return (low + high) / 2 + 0.36 * (high - low) * np.column_stack([np.cos(angle), np.sin(angle)])


def _markers(slide: Slide) -> list[str]:
    """Return a few genes worth seeing together: known markers, then the most abundant genes."""
    panel = [str(g) for g in slide.genes]
    totals = np.asarray(slide.counts.sum(axis=0)).ravel()
    wanted = [g for g in _MARKERS if g in panel] + [panel[i] for i in np.argsort(-totals)[:MAX_GENES]]
    return list(dict.fromkeys(wanted))[:_N_GENES]


def _scores(result: UpsampleResult) -> tuple[int, dict[str, dict[str, float]]]:
    """Score the run, and the interpolations, against the cells that the built-in slide was made from.

    The region is split again for the whole panel: a score of the few genes on show would be mostly chance.
    """
    from napari_srast.api import upsample
    from napari_srast.datasets.synthetic_colon import synthetic_colon_truth
    from napari_srast.evaluation.protocol import score_result

    everything = upsample(result.slide, result.region, settings=result.settings)
    return len(everything.genes), score_result(everything, synthetic_colon_truth())
