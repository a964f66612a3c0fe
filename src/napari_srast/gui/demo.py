"""Demonstrate the complete workflow in a real window: open, select, run, overlay, export; report times and scores.

The demo presses the buttons of the dock widget and waits for its background tasks, as a user does.
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

_MARKERS = ("MUC2", "OLFM4", "COL1A1", "KRT20", "ERBB2", "KRT19", "CD74", "Hpca", "Mobp", "Ttr", "Prox1")
_N_GENES = 4
_FACTOR = 4.0
_TIMEOUT_S = 540.0


class Heartbeat:
    """Measure the longest time for which the event loop was blocked: the largest gap between two timer events.

    Parameters
    ----------
    interval_ms
        Time between timer events, in milliseconds; it is subtracted from the gaps.
    """

    def __init__(self, interval_ms: int = 10) -> None:
        self.max_stall_ms = 0.0
        self._interval_ms = interval_ms
        self._last: float | None = None
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(interval_ms)
        self._timer.timeout.connect(self._beat)

    def start(self) -> None:
        """Reset the measurement and start the timer."""
        self.max_stall_ms, self._last = 0.0, time.perf_counter()
        self._timer.start()

    def stop(self) -> float:
        """Stop the timer and return the longest stall in milliseconds."""
        self._beat()
        self._timer.stop()
        return self.max_stall_ms

    def _beat(self) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.max_stall_ms = max(self.max_stall_ms, 1000 * (now - self._last) - self._interval_ms)
        self._last = now


def wait_until(condition: Callable[[], bool], timeout_s: float = _TIMEOUT_S) -> bool:
    """Run Qt's event loop until ``condition()`` is true; return False on timeout."""
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
    """Run the dock widget's workflow on a slide and return a report.

    Parameters
    ----------
    out
        Existing folder for ``overlay.png`` (a screenshot of the window) and ``result.zarr``; None writes nothing.
    headless
        Whether to close the window at the end; otherwise the user closes it.
    slide
        A SpatialData store; None uses the built-in synthetic slide.

    Returns
    -------
    dict
        Contents of ``report.json``: size and seconds of the run, mass error, negative pixels, longest stall of the
        event loop, skill of the shown genes and, for the built-in slide, scores against the ground truth.

    Raises
    ------
    RuntimeError
        A step failed or took too long; the message says which.
    """
    viewer, widget = open_window()
    widget.tour.postpone()
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
            report |= _scores(_result(controller))
        if not headless:
            napari.run()
    finally:
        if headless:
            viewer.close()
    return report


def _upsample(widget: SRastWidget, errors: list[str]) -> dict[str, Any]:
    """Select a region and genes, run, and return the report of the run."""
    controller = widget.controller
    slide = controller.slides.slide
    assert slide is not None
    controller.regions.add(_octagon(slide))
    widget.gene_panel.model.check(_markers(slide))
    widget.settings_panel.factor.value = _FACTOR
    _settle()
    heartbeat = Heartbeat()
    stalls: list[float] = []
    controller.results.result_changed.connect(lambda: stalls.append(heartbeat.max_stall_ms))
    heartbeat.start()
    widget.run_bar.run.click()
    _wait(controller, errors, "upsample")
    overlay = controller.results.overlay
    assert overlay is not None
    wait_until(lambda: len(overlay.shown) == len(overlay.genes))  # one layer per turn of the event loop
    _settle()
    overall = heartbeat.stop()
    result, displayed = _result(controller), controller.results.current
    assert displayed is not None
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
        "max_relative_mass_error": displayed.quality.max_relative_mass_error,
        "negative_pixels": displayed.quality.negative_pixels,
        "measured_fraction": displayed.quality.measured_fraction,
        "max_ui_stall_ms": stalls[-1],
        "max_ui_stall_with_layers_ms": overall,
        "seconds": dict(result.provenance.get("seconds", {})),
        "skill": {style.gene: skill[style.gene] for style in overlay.shown},
    }


def _wait(controller: Controller, errors: list[str], activity: str) -> None:
    done = wait_until(lambda: bool(errors) or controller.tasks.state is AppState.READY)
    if errors:
        raise RuntimeError(f"The demo could not {activity}: {errors[0]}")
    if not done:
        raise RuntimeError(f"The demo could not {activity} within {_TIMEOUT_S:.0f} seconds.")


def _settle() -> None:
    """Wait until the window has drawn its changes."""
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
    """Return a few genes to display together: markers of the tissue, then the most abundant genes."""
    genes = [str(gene) for gene in slide.genes]
    totals = np.asarray(slide.counts.sum(axis=0)).ravel()
    candidates = [g for g in _MARKERS if g in genes] + [genes[i] for i in np.argsort(-totals)[:MAX_GENES]]
    return list(dict.fromkeys(candidates))[:_N_GENES]


def _scores(result: UpsampleResult) -> dict[str, Any]:
    """Score the run and the interpolation methods against the simulated cells of the built-in slide.

    All genes of the region are upsampled for this: scores of the few shown genes would be mostly chance. A map fills
    whole cells of the lattice, so the cells of the tissue between the discs of the spots are part of the truth.
    """
    from napari_srast.api import upsample
    from napari_srast.datasets.synthetic_colon import synthetic_colon_truth
    from napari_srast.evaluation.protocol import score_result

    all_genes = upsample(result.slide, result.region, settings=result.settings)
    weights = np.where(np.isfinite(all_genes.skill), np.asarray(all_genes.counts.sum(axis=0)).ravel(), 0.0)
    return {
        "scored_genes": len(all_genes.genes),
        "stated_nats_per_count": float(weights @ np.nan_to_num(all_genes.skill) / weights.sum()),
        "scores": score_result(all_genes, synthetic_colon_truth()),
    }
