"""Prepare the current slide in the background, so that its first run is as quick as later ones.

Every method runs in the GUI thread; only the fits run in a background thread, at low priority.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_srast.core.progress import Progress, RunMonitor, iterate_progress
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import SrastError
from napari_srast.gui.controllers.task_runner import AppState, TaskRunner
from napari_srast.gui.runtime import background, gc_pause
from napari_srast.gui.runtime.idle import IdleTimer
from napari_srast.gui.runtime.processes import process_pool
from napari_srast.gui.state.preferences import UserPreferences
from napari_srast.gui.state.run_request import RunRequest
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.gui.state.workspace import Workspace
from napari_srast.inference.fit_cache import CacheUse, FitCache

__all__ = ["Preparation"]

_IDLE_MS = 1500
_MAX_BYTES = 1 << 28  # of counts: fits of larger slides need the window's own process and much memory
_Prepared = tuple[Slide, str, str, int]
logger = logging.getLogger(__name__)


class Preparation:
    """Prepare the current slide while nothing else runs.

    Opening, closing or switching a slide, an export and a run stop it; a run of the same slide goes on with it instead,
    and waits for the fits that it needs.

    Parameters
    ----------
    workspace
        The open slides.
    tasks
        The background task of the user, which has priority.
    preferences
        Whether slides are prepared.

    Attributes
    ----------
    changed
        Signal, emitted after ``text`` or the cache has changed.
    text
        What is being prepared; empty if nothing is.
    settings
        Returns the settings of the next run, of which model, device and seed matter.
    running
        Returns the run in progress.
    """

    changed = Signal()

    def __init__(self, workspace: Workspace, tasks: TaskRunner, preferences: UserPreferences) -> None:
        self.text = ""
        self.settings: Callable[[], UpsampleSettings] = UpsampleSettings
        self.running: Callable[[], RunRequest | None] = lambda: None
        self._workspace = workspace
        self._tasks = tasks
        self._preferences = preferences
        self._timer = IdleTimer(self._start, _IDLE_MS)
        self._task: background.BackgroundTask | None = None
        self._preparing: _Prepared | None = None
        self._prepared: WeakKeyDictionary[SlideSession, _Prepared] = WeakKeyDictionary()
        tasks.state_changed.connect(self._on_state)
        workspace.slide_changed.connect(self.prepare_later)
        workspace.session_closing.connect(self._on_closing)

    @property
    def is_on(self) -> bool:
        """Whether slides are prepared, and runs use the disk cache."""
        return self._preferences.prepares_slides

    def set_on(self, is_on: bool) -> None:
        """Switch the preparation and the use of the disk cache on or off."""
        self._preferences.set_prepares_slides(is_on)
        if is_on:
            self.prepare_later()
        else:
            self.stop()

    def cache(self) -> FitCache | None:
        """Return the disk cache; None if it is switched off."""
        return FitCache() if self.is_on else None

    def cache_use(self) -> CacheUse:
        """Return the size of the disk cache, which may be switched off."""
        return FitCache().use()

    def clear_cache(self) -> None:
        """Remove all files of the disk cache."""
        FitCache().clear()
        self.changed.emit()

    def prepare_later(self) -> None:
        """Prepare the current slide once the window has been idle for a moment."""
        wanted = self._wanted()
        if self._preparing is not None and (wanted is None or not _is_same(wanted, self._preparing)):
            self.stop()
        if wanted is not None and self._preparing is None:
            self._timer.restart()

    def stop(self) -> None:
        """Stop the preparation; what is fitted already is kept."""
        self._timer.stop()
        if self._task is not None:
            self._task.abandon()
        self._end()

    def _wanted(self) -> _Prepared | None:
        """Return what is to be prepared: slide, model, device and seed; None for nothing."""
        session = self._workspace.current
        if session is None or not self.is_on or self._tasks.is_shut_down:
            return None
        try:
            settings = self.settings()
        except SrastError:
            return None
        if settings.method != "srast":
            return None
        counts = session.slide.counts
        if counts.data.nbytes + counts.indices.nbytes > _MAX_BYTES:
            return None
        wanted = (session.slide, settings.model, settings.device, settings.seed)
        prepared = self._prepared.get(session)
        return None if prepared is not None and _is_same(prepared, wanted) else wanted

    def _start(self) -> None:
        wanted, session = self._wanted(), self._workspace.current
        if wanted is None or session is None or self._task is not None or self._tasks.state is not AppState.READY:
            return
        gc_pause.freeze_gc(keep=lambda: self._task is not None)
        self._preparing = wanted
        self._task = background.start(
            background.low_priority(partial(_steps, wanted, self.cache())),
            on_step=lambda _: None,
            on_done=lambda _: self._on_done(session, wanted),
            on_error=self._on_error,
        )
        self._set_text("Preparing this slide in the background …")

    def _on_done(self, session: SlideSession, prepared: _Prepared) -> None:
        self._prepared[session] = prepared
        self._end()

    def _on_error(self, error: Exception) -> None:
        """Leave the error to the first run, which repeats the fit and reports it."""
        logger.debug("The slide was not prepared.", exc_info=error)
        session = self._workspace.current
        if session is not None and self._preparing is not None:
            self._prepared[session] = self._preparing  # not again and again
        self._end()

    def _end(self) -> None:
        self._task = self._preparing = None
        self._set_text("")

    def _set_text(self, text: str) -> None:
        if text != self.text:
            self.text = text
            self.changed.emit()

    def _on_state(self) -> None:
        if self._tasks.state is AppState.READY:
            self.prepare_later()
            return
        self._timer.stop()
        if self._task is not None and not self._serves_the_run():
            self.stop()

    def _serves_the_run(self) -> bool:
        """Return whether the run in progress needs what is being prepared."""
        run, preparing = self.running(), self._preparing
        if run is None or preparing is None or self._tasks.state is not AppState.RUNNING:
            return False
        settings = run.settings
        wanted = (run.slide, settings.model, settings.device, settings.seed)
        return settings.method == "srast" and _is_same(wanted, preparing)

    def _on_closing(self, session: SlideSession) -> None:
        if self._preparing is not None and self._preparing[0].counts is session.slide.counts:
            self.stop()


def _is_same(one: _Prepared, other: _Prepared) -> bool:
    """Return whether two slides have the same spots and image, and the same settings."""
    return one[0].counts is other[0].counts and one[0].image is other[0].image and one[1:] == other[1:]


def _steps(
    wanted: _Prepared, cache: FitCache | None, should_stop: Callable[[], bool]
) -> Generator[Progress, None, None]:
    """Prepare a slide in a background thread."""
    from napari_srast.inference.preparation import prepare_slide

    slide, model, device, seed = wanted
    settings = UpsampleSettings(model=model, device=device, seed=seed)

    def work(monitor: RunMonitor) -> Any:
        return prepare_slide(slide, settings, monitor, process_pool().fit, cache)

    return iterate_progress(work, should_stop)
