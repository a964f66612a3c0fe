"""Keep the estimate of the next run up to date, and ask before a long run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial

from psygnal import Signal
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.errors import SrastError
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.panels.run import RunBar
from napari_srast.gui.runtime import background
from napari_srast.gui.state.run_estimate import LONG_SECONDS, Alternative, describe_cost, duration, quick_runs
from napari_srast.gui.state.run_request import RunInput
from napari_srast.inference.run_estimate import Estimate, estimate

__all__ = ["RunEstimate", "ask_about_long_run"]

_DELAY_MS = 150
_COUNTED_AT_ONCE = 20_000  # pixels; counting more takes longer, so the estimate is shown first
_SPOTS_AT_ONCE = 20_000  # of a slide whose runs are estimated in the GUI thread


class RunEstimate(QObject):
    """Estimate the next run after every change; the number of pixels is that of the run.

    Parameters
    ----------
    controller
        Controller of the window.
    run_bar
        Shows the estimate, and why a run cannot start.
    read
        Returns genes and settings of the next run.

    Attributes
    ----------
    changed
        Signal with the estimate; None if there is none.
    """

    changed = Signal(object)

    def __init__(self, controller: Controller, run_bar: RunBar, read: Callable[[], RunInput]) -> None:
        super().__init__(run_bar)
        self._controller = controller
        self._run_bar = run_bar
        self._read = read
        self._shown: Estimate | None = None
        self._counting: background.BackgroundTask | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self.refresh)

    def refresh_later(self) -> None:
        """Refresh the estimate once no more changes come."""
        self._timer.start()

    def refresh(self) -> None:
        """Estimate the next run; a large number of pixels is counted in the background."""
        self.stop()
        slide = self._controller.slides.slide
        if slide is None:
            self._show_problem("", None)
            return
        try:
            given, region = self._read(), self._controller.regions.region()
            work = partial(_estimates, slide, region, given)
            if slide.n_spots <= _SPOTS_AT_ONCE:
                cost = estimate(slide, region, given.genes, given.settings, max_counted=_COUNTED_AT_ONCE)
                self._show(cost)
                if cost.is_counted:
                    return
                work = partial(_estimates, slide, region, given, first=False)
        except Exception as error:  # noqa: BLE001 - a run reports an unexpected error; its estimate must not prevent it
            self._show_error(error)
            return
        if slide.n_spots > _SPOTS_AT_ONCE:
            self._shown = None  # it is of the settings before
        self._counting = background.start(work, on_step=self._show, on_done=self._show, on_error=self._show_error)

    def stop(self) -> None:
        """Drop the count that is in progress."""
        if self._counting is not None:
            self._counting.abandon()
            self._counting = None

    def _show(self, cost: Estimate) -> None:
        self._shown = cost
        self._run_bar.allow_runs(None)
        self._run_bar.estimate.setText(describe_cost(cost))
        self.changed.emit(cost)

    def _show_error(self, error: Exception) -> None:
        message = background.error_message(error, "counting the pixels")  # logs errors that are ours
        is_known = isinstance(error, SrastError)
        self._show_problem(message if is_known else "", message if is_known else None)

    def _show_problem(self, text: str, problem: str | None) -> None:
        self._shown = None
        self._run_bar.estimate.setText(text)
        self._run_bar.allow_runs(problem)
        self.changed.emit(None)

    def long_run(self, given: RunInput) -> tuple[float, list[Alternative]] | None:
        """Return the seconds of a run that takes very long, and quicker ones; None for other runs.

        Raises
        ------
        SrastError
            The region or the genes cannot be used with the slide.
        """
        slide, loaded = self._controller.slides.slide, self._controller.slides.loaded
        if slide is None or loaded is None:
            return None
        region = self._controller.regions.region()
        cost = None if self._timer.isActive() else self._shown  # the same number as in the panel
        if cost is None:
            cost = estimate(slide, region, given.genes, given.settings, max_counted=0)
        if cost.seconds <= LONG_SECONDS:
            return None
        return cost.seconds, quick_runs(slide, region, given.genes, given.settings, loaded.structure, loaded.totals)


def _estimates(
    slide: Slide, region: Region | None, given: RunInput, should_stop: Callable[[], bool], *, first: bool = True
) -> Generator[Estimate, None, Estimate]:
    """Yield a quick estimate (unless ``first`` is False), then return the one with the number of pixels of the run."""
    if first:
        cost = estimate(slide, region, given.genes, given.settings, max_counted=_COUNTED_AT_ONCE)
        if cost.is_counted or should_stop():
            return cost
        yield cost
    return estimate(slide, region, given.genes, given.settings)


def ask_about_long_run(
    parent: QWidget, seconds: float, alternatives: list[Alternative], *, has_region: bool
) -> Alternative | str:
    """Ask what to do about a run that takes very long.

    Parameters
    ----------
    parent
        Widget below the question.
    seconds
        Expected run time.
    alternatives
        Quicker runs that are offered.
    has_region
        Whether a region is drawn; otherwise drawing one is offered.

    Returns
    -------
    Alternative or str
        The quicker run that the user chose, or "run", "region" or "cancel".
    """
    box = QMessageBox(parent)
    box.setWindowTitle("A long run")
    box.setText(f"This run takes about {duration(seconds)}.")
    extent = "the region" if has_region else "the whole slide, because no region is drawn"
    quick = "These would be quick." if alternatives else "Fewer genes or a smaller region would be quicker."
    box.setInformativeText(f"It upsamples {extent}. {quick}")
    role = QMessageBox.ButtonRole.ActionRole
    answers: dict[object, Alternative | str] = {box.addButton(one.title, role): one for one in alternatives}
    answers[box.addButton("Draw a smaller region" if has_region else "Draw a region", role)] = "region"
    answers[box.addButton("Run anyway", QMessageBox.ButtonRole.AcceptRole)] = "run"
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    box.exec()
    return answers.get(box.clickedButton(), "cancel")
