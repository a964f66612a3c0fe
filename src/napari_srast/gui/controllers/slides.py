"""Open, switch and close slides; every method runs in the GUI thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from napari.layers import Layer
from psygnal import Signal

from napari_srast.core.progress import RunMonitor
from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.results import Results
from napari_srast.gui.controllers.task_runner import AppState, Task, TaskRunner
from napari_srast.gui.layers.camera import FittedView
from napari_srast.gui.layers.factory import HELPER_ROLES, remove_layers, role_of, set_units, world_units
from napari_srast.gui.layers.opened_layers import loaded_of, place_regions, superseded_layers
from napari_srast.gui.layers.scale_bar import ScaleBar
from napari_srast.gui.layers.shared_units import SharedUnits
from napari_srast.gui.runtime import background, gc_pause
from napari_srast.gui.runtime.layer_batches import insert_unselected
from napari_srast.gui.runtime.steps import take_steps
from napari_srast.gui.state import slide_loading
from napari_srast.gui.state.preferences import UserPreferences
from napari_srast.gui.state.slide_identity import is_same_slide, path_of
from napari_srast.gui.state.slide_import import ImportRequest
from napari_srast.gui.state.slide_loading import ExternalSlide, LoadedSlide, external_slides
from napari_srast.gui.state.slide_session import SlideSession, slide_of
from napari_srast.gui.state.workspace import Workspace

__all__ = ["SlideManager"]


class SlideManager:
    """Open slides, switch between them and close them.

    Parameters
    ----------
    workspace
        The open slides.
    tasks
        Runs the loading in a background thread.
    results
        Displays results that were opened together with their slide.
    messages
        Receives status messages.
    preferences
        Recent slides of the user.
    """

    layers_changed = Signal()

    def __init__(
        self,
        workspace: Workspace,
        tasks: TaskRunner,
        results: Results,
        messages: Messages,
        preferences: UserPreferences,
    ) -> None:
        self.slide_changed = workspace.slide_changed
        self.coordinate_system_changed = workspace.coordinate_system_changed
        self._workspace = workspace
        self._viewer = workspace.viewer
        self._tasks = tasks
        self._results = results
        self._messages = messages
        self._preferences = preferences
        self._changing_layers = False
        self._opening: set[SlideSession] = set()  # slides that are not ready for use yet
        self.view = FittedView(workspace.viewer)
        self.scale_bar = ScaleBar(workspace.viewer, lambda: workspace.slide)
        self._units = SharedUnits(workspace.viewer, lambda: workspace.slide)
        for signal in (workspace.slide_changed, workspace.coordinate_system_changed):
            signal.connect(self._units.refresh)
            signal.connect(self.scale_bar.refresh)
        events = self._viewer.layers.events
        events.inserted.connect(self._on_inserted)
        events.removing.connect(self._on_removing)
        events.removed.connect(self._on_removed)

    @property
    def sessions(self) -> list[SlideSession]:
        """The open slides, in the order of opening."""
        return self._workspace.sessions

    @property
    def current(self) -> SlideSession | None:
        """The slide that the panels show."""
        return self._workspace.current

    @property
    def slide(self) -> Slide | None:
        """The current slide, in its chosen coordinate system."""
        return self._workspace.slide

    @property
    def loaded(self) -> LoadedSlide | None:
        """The current slide with what else can be chosen from its source."""
        return None if self.current is None else self.current.loaded

    # ----------------------------------------------------------------- opening

    def open(self, source: Any, **elements: str | None) -> None:
        """Read a slide or a result in the background and show it.

        A slide that is already open becomes the current one, and a slide that napari-spatialdata shows is adopted:
        neither is loaded twice.

        Parameters
        ----------
        source
            Path, or SpatialData object.
        elements
            Names of the chosen elements: ``spots``, ``table``, ``image``, ``library``.
        """
        path = path_of(source)
        if path is not None and not elements:
            already_open = next((s for s in self.sessions if path_of(s.loaded.source) == path), None)
            if already_open is not None:
                self.switch(already_open)
                return
            external = next((s for s in external_slides(self._viewer.layers) if path_of(s.sdata) == path), None)
            if external is not None:
                self.adopt_external(external)
                return
        self._open(partial(slide_loading.load, source, **elements), "opening the slide", replace=bool(elements))

    def import_and_open(self, request: ImportRequest) -> None:
        """Convert a file of another program to a store in the background, and show it."""
        self._open(request.load, "importing the slide", as_task=background.reported)

    def open_sample(self) -> None:
        """Generate and show the built-in synthetic slide."""
        self._open(slide_loading.load_sample, "generating the sample slide")

    def adopt_external(self, external: ExternalSlide) -> None:
        """Open a slide that napari-spatialdata shows, and use its layers."""
        self._open(
            partial(slide_loading.load, external.sdata, coordinate_system=external.coordinate_system),
            "reading the slide",
            external,
        )

    def _open(
        self,
        load: Callable[..., LoadedSlide],
        activity: str,
        external: ExternalSlide | None = None,
        *,
        replace: bool = False,
        as_task: Callable[[Callable[..., LoadedSlide]], background.Steps] = background.single_step,
    ) -> None:
        # A slide with results stays open next to the new choice of elements, so that no unsaved result is lost.
        replaced = self.current if replace and not self._workspace.results else None

        def on_result(loaded: LoadedSlide) -> None:
            if replaced is not None and replaced in self.sessions:
                self._remove(replaced)
            self._tasks.pause_gc()
            self.show(loaded, external, in_steps=True)

        def load_and_collect(*monitor: RunMonitor) -> LoadedSlide:
            loaded = load(*monitor)
            gc_pause.freeze_new_objects(collect=True)  # what was read may be much larger than what is kept
            return loaded

        def on_choice(option: str, name: str) -> None:
            self._open(partial(load, **{option: name}), activity, external, replace=replace, as_task=as_task)

        self._tasks.pause_gc()
        self._tasks.start(
            Task(
                state=AppState.OPENING,
                steps=as_task(load_and_collect),
                on_result=on_result,
                activity=activity,
                on_choice=on_choice,
            )
        )
        self._messages.status_message.emit(f"{activity[0].upper()}{activity[1:]} …")

    def show(self, loaded: LoadedSlide, external: ExternalSlide | None = None, *, in_steps: bool = False) -> None:
        """Add a slide to the viewer and make it the current one.

        Parameters
        ----------
        loaded
            The slide.
        external
            Layers of the slide that napari-spatialdata has already added.
        in_steps
            Whether to pause between the steps also if only one layer must be added.
        """
        already_open = next((s for s in self.sessions if is_same_slide(s.slide, loaded.slide)), None)
        if already_open is not None:
            self._finish_opening()
            self.switch(already_open)
            if loaded.result is not None:
                self._results.add_saved(already_open, loaded.result)
            return
        session = self._workspace.new_session(loaded)
        try:
            missing = session.missing_layers(external)
        except Exception:
            session.disconnect()
            raise
        if self.current is not None:
            self.current.hide()
        self.sessions.append(session)
        self._workspace.current = session
        self._units.refresh()
        steps = [partial(self._add_layer, layer) for layer in missing]
        if missing:
            self._tasks.set_state(AppState.OPENING)
            steps.append(partial(self._select, session))
        self._opening.add(session)
        take_steps(
            [*steps, self.scale_bar.show_once, partial(self._make_ready, session)],
            self._workspace.schedule if in_steps or len(missing) > 1 else None,
            is_wanted=lambda: session in self.sessions and not self._tasks.is_shut_down,
            on_error=partial(self._on_show_error, session),
        )

    def _on_show_error(self, session: SlideSession, error: Exception) -> None:
        if session in self._opening:  # its layers are missing
            self._close(session)
        self._tasks.report_error(error, "opening the slide")

    def _add_layer(self, layer: Layer) -> None:
        with self._changing_own_layers():
            insert_unselected(self._viewer.layers, len(self._viewer.layers), layer)

    def _select(self, session: SlideSession) -> None:
        """Select the layer that was added last, as napari does; to show its controls takes a moment."""
        if session.layers and session.layers[-1] in self._viewer.layers and session is self.current:
            self._viewer.layers.selection.active = session.layers[-1]

    def _make_ready(self, session: SlideSession) -> None:
        self._opening.discard(session)
        for layer in session.external_layers:
            layer.events.affine.connect(self._on_external_affine)
            set_units(layer, world_units(session.slide))
        source = session.slide.source
        if source.path is not None and not source.synthetic:
            self._preferences.add_slide(source.path)
        self._finish_opening()
        self._workspace.announce_current()
        place_regions(self._viewer.layers, session.slide)
        if session is self.current:
            self.view.fit(session.tissue_layers)
        advice = f"{session.title} is open. Draw a region, or run the whole slide."
        self._messages.status_message.emit(" ".join([*session.slide.notices, *self.scale_bar.notices]) or advice)
        if session.loaded.result is not None:
            self._results.add_saved(session, session.loaded.result)

    def _finish_opening(self) -> None:
        """Leave the state OPENING unless another slide is being opened; a run or an export keeps its state."""
        is_done = not self._opening and not self._tasks.is_working
        if is_done and self._tasks.state in (AppState.EMPTY, AppState.OPENING):
            self._tasks.set_state(self._tasks.resting_state())

    def is_listed(self, layer: Layer) -> bool:
        """Return whether a layer is of use in the layer list: no helper layer, and none of a slide that is hidden."""
        if role_of(layer) in HELPER_ROLES:
            return False
        return not any(layer in session.own_layers for session in self.sessions if session is not self.current)

    # --------------------------------------------------- switching and closing

    def switch(self, session: SlideSession) -> None:
        """Make another open slide the current one; each slide keeps its region and results."""
        if session is self.current or session not in self.sessions:
            return
        if self.current is not None:
            self.current.hide()
        self._workspace.current = session
        session.reveal()
        self._workspace.announce_current()
        if not self._workspace.shows_all:
            self.view.fit(session.tissue_layers)
        self._messages.status_message.emit(f"Switched to {session.title}.")

    def close(self) -> None:
        """Close the current slide with its region and results; the previous slide becomes the current one."""
        if self.current is not None and self._tasks.busy_reason() is None:
            self._close(self.current)

    def _close(self, session: SlideSession) -> None:
        self._workspace.session_closing.emit(session)
        self._remove(session)
        if not self._tasks.is_working:
            self._tasks.set_state(self._tasks.resting_state())
        self._workspace.announce_current()
        self._workspace.session_closed.emit(session)

    def _remove(self, session: SlideSession) -> None:
        """Remove a slide from the viewer and reveal the previous one."""
        self._opening.discard(session)
        self._disconnect_external(session)
        index = self.sessions.index(session)
        self.sessions.remove(session)
        with self._changing_own_layers():
            session.remove()
        if session is self.current:
            self._workspace.current = self.sessions[max(index - 1, 0)] if self.sessions else None
            if self.current is not None:
                self.current.reveal()

    def set_coordinate_system(self, name: str) -> None:
        """Show slide, region and result in another coordinate system of the slide."""
        if self.current is not None and name != self.current.slide.coordinate_system:
            self.current.set_coordinate_system(name)
            self.view.fit(self.current.tissue_layers)
            self.coordinate_system_changed.emit()

    # ------------------------------------------------------- events of the viewer

    @contextlib.contextmanager
    def _changing_own_layers(self) -> Iterator[None]:
        """Ignore the viewer's events for layers that this class adds and removes."""
        before, self._changing_layers = self._changing_layers, True
        try:
            yield
        finally:
            self._changing_layers = before

    def adopt_existing_layers(self) -> None:
        """Open slides whose layers were in the viewer before the dock widget was."""
        for layer in list(self._viewer.layers):
            self._adopt(layer)

    def _on_inserted(self, event: Any) -> None:
        """Open slides that the sample menu adds as plain layers; their spots are added last."""
        self.layers_changed.emit()
        if not self._changing_layers:
            self._adopt(event.value)
            place_regions([event.value], self.slide)

    def _adopt(self, layer: Layer) -> None:
        """Open the slide whose spots a layer shows."""
        slide = slide_of(layer)
        if slide is None or role_of(layer) != "spots":
            return
        if all(slide is not session.slide for session in self.sessions):
            self.show(loaded_of(layer) or LoadedSlide(slide=slide, source=None))
            remove = partial(self._remove_superseded, slide)
            remove() if self._workspace.schedule is None else self._workspace.schedule(remove)

    def _remove_superseded(self, slide: Slide) -> None:
        """Remove what napari's reader added for a slide and the panel shows itself."""
        is_shown = any(slide is session.slide for session in self.sessions)
        with self._changing_own_layers():
            remove_layers(self._viewer.layers, superseded_layers(self._viewer.layers, slide, is_shown=is_shown))

    def _on_removing(self, event: Any) -> None:
        """Let the garbage collection that napari starts next find what the layer held."""
        gc_pause.unfreeze_gc()

    def _on_removed(self, event: Any) -> None:
        """Close slides whose layers the user has all removed, after napari has finished a removal of several layers."""
        self.layers_changed.emit()
        if self._changing_layers:
            return
        if self._workspace.schedule is not None:
            self._workspace.schedule(self._close_removed)
        else:
            self._close_removed()

    def _close_removed(self) -> None:
        if self._tasks.is_shut_down:
            return
        for session in [session for session in self.sessions if session.is_gone]:
            self._close(session)

    def _on_external_affine(self, event: Any) -> None:
        """Follow napari-spatialdata's coordinate system: its switch moves only its own layers."""
        name = event.source.metadata.get("_current_cs")
        if self.current is None or event.source not in self.current.external_layers:
            return
        if name in self.current.slide.transforms:
            self.set_coordinate_system(name)

    def _disconnect_external(self, session: SlideSession) -> None:
        for layer in session.external_layers:
            layer.events.affine.disconnect(self._on_external_affine)

    def disconnect(self) -> None:
        """Disconnect from the viewer."""
        events = self._viewer.layers.events
        events.inserted.disconnect(self._on_inserted)
        events.removing.disconnect(self._on_removing)
        events.removed.disconnect(self._on_removed)
        self._units.disconnect()
        for session in self.sessions:
            self._disconnect_external(session)
