"""Queue runs and execute them one after the other.

Every method runs in the GUI thread; only the steps of a run are executed in a background thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from psygnal import Signal

from napari_srast.core.settings import UpsampleSettings
from napari_srast.errors import SrastError
from napari_srast.gui.controllers.comparison import counterpart, settings_on
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.regions import Regions
from napari_srast.gui.controllers.results import Results
from napari_srast.gui.controllers.task_runner import AppState, Task, TaskRunner
from napari_srast.gui.runtime import background
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.run_request import RunRequest
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.gui.state.workspace import Workspace
from napari_srast.inference.fit_cache import FitCache

__all__ = ["RunQueue"]


class RunQueue:
    """Run upsampling requests one after the other and add their results.

    Parameters
    ----------
    workspace
        The open slides; the runs of a slide are dropped when it closes.
    tasks
        Runs the requests in a background thread.
    regions
        Supplies the region of a request.
    results
        Receives the results.
    messages
        Receives status and error messages.
    cache
        Returns the disk cache of the runs; None for none.

    Attributes
    ----------
    waiting
        Requests that have not started yet.
    running
        The request that was started last; None after it has ended.
    """

    queue_changed = Signal()

    def __init__(
        self,
        workspace: Workspace,
        tasks: TaskRunner,
        regions: Regions,
        results: Results,
        messages: Messages,
        cache: Callable[[], FitCache | None] = lambda: None,
    ) -> None:
        self.waiting: list[RunRequest] = []
        self._workspace = workspace
        self._tasks = tasks
        self._regions = regions
        self._results = results
        self._messages = messages
        self._cache = cache
        self.running: RunRequest | None = None
        self._stopped: SlideSession | None = None
        tasks.state_changed.connect(self._on_state)
        workspace.session_closing.connect(self._on_closing)
        workspace.session_closed.connect(self._on_closed)

    def submit(self, genes: Sequence[str] | None, settings: UpsampleSettings) -> None:
        """Upsample the region, or the whole slide if nothing is drawn, now or after the run in progress.

        Parameters
        ----------
        genes
            Genes to upsample; None for all.
        settings
            Settings of the run.
        """
        session = self._workspace.current
        if session is None:
            return
        try:
            request = RunRequest.of(session, self._regions.region(), genes, settings)
        except SrastError as error:
            self._messages.error_message.emit(str(error))
            return
        self._enqueue(request)

    def submit_counterpart(self) -> None:
        """Repeat the run of the displayed result without the histology, or with it, and compare the two results."""
        session, displayed = self._workspace.current, self._workspace.result
        slide = None if session is None else counterpart(session)
        if session is None or displayed is None or slide is None:
            return
        result = displayed.result
        self._enqueue(
            RunRequest(
                owner=session,
                slide=slide,
                region=result.region,
                genes=[str(gene) for gene in result.genes],
                settings=settings_on(slide, result),
                against=displayed,
            )
        )

    def cancel(self) -> None:
        """Stop the running task, whatever it is, and drop the waiting runs; the thread ends at its next check."""
        if self._tasks.busy_reason() is None:
            return
        unstoppable = self._tasks.unstoppable_activity
        if unstoppable is not None:
            self._messages.status_message.emit(f"{unstoppable.capitalize()} cannot be canceled; wait a moment.")
            return
        state, n_dropped = self._tasks.state, len(self.waiting)
        self.waiting.clear()
        self.running = None
        self._tasks.abandon()
        self._tasks.set_state(self._tasks.resting_state())
        self.queue_changed.emit()
        noun = "run was" if n_dropped == 1 else "runs were"
        dropped = f" {n_dropped} waiting {noun} dropped." if n_dropped else ""
        outcome = "Nothing was changed." if state is not AppState.EXPORTING else "No file was left on the disk."
        self._messages.status_message.emit(f"Canceled. {outcome}{dropped}")

    def clear(self) -> None:
        """Drop the waiting runs because the window or the dock widget closes."""
        self.waiting.clear()

    def _enqueue(self, request: RunRequest) -> None:
        self.waiting.append(replace(request, cache=self._cache()))
        if self._tasks.state is AppState.READY:
            self._regions.stop_drawing()  # a tool that is activated from now on is for the next region
            self._run_next()
        else:
            self._messages.status_message.emit("Run queued. You can draw the next region now.")
        self.queue_changed.emit()

    def _on_state(self) -> None:
        """Start a waiting run after a task other than a run has ended."""
        schedule = self._workspace.schedule
        if self._tasks.state is AppState.READY and self.waiting and schedule is not None:
            schedule(self._run_waiting)

    def _run_waiting(self) -> None:
        if self._tasks.state is AppState.READY and not self._tasks.is_working and not self._tasks.is_shut_down:
            self._run_next()

    def _run_next(self) -> None:
        self.running = None
        if not self.waiting:
            return
        request = self.waiting.pop(0)

        def on_result(displayed: DisplayedResult) -> None:
            self._tasks.pause_gc()  # until the gene layers are drawn
            self._tasks.set_state(AppState.READY)
            self._results.add(request, displayed)
            self._run_next()

        self.running = request
        self._tasks.pause_gc()
        self._tasks.start(
            Task(
                state=AppState.RUNNING,
                steps=background.low_priority(request.steps),
                on_result=on_result,
                activity="upsampling",
                on_error=self._run_next,
                context=request.context,
            )
        )
        self._messages.status_message.emit(f"Running: {request.title} …")
        self.queue_changed.emit()

    def _on_closing(self, session: SlideSession) -> None:
        """Drop the runs of a slide before it closes."""
        is_running = self.running is not None and self.running.owner is session
        self.waiting = [request for request in self.waiting if request.owner is not session]
        if is_running and self._tasks.state is AppState.RUNNING:
            self._stopped = session
            self._tasks.abandon()

    def _on_closed(self, session: SlideSession) -> None:
        """Start the next run after a slide was closed while its run was in progress."""
        stopped, self._stopped = self._stopped, None
        self.queue_changed.emit()
        if stopped is session:
            self._messages.status_message.emit(f"{session.title} was closed, so its run was stopped.")
            self._run_next()
