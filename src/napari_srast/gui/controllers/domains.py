"""Find the domains of the displayed result, and show them as a layer.

Every method runs in the GUI thread; domains are found in a background thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from psygnal import Signal

from napari_srast._utils.text import count
from napari_srast.analysis.domains import Domains, domains
from napari_srast.analysis.drawing import domain_colors
from napari_srast.core.progress import CancelCheck, RunMonitor
from napari_srast.errors import SrastError
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.task_runner import TaskRunner
from napari_srast.gui.layers.factory import KEY, image_affine, remove_layers, update_transforms, world_units
from napari_srast.gui.runtime import background
from napari_srast.gui.runtime.layer_batches import insert_unselected
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.workspace import Workspace
from napari_srast.io.atomic import write_table

__all__ = ["DomainDisplay", "DomainMaps"]

DomainDisplay = Literal["fill", "outlines", "hidden"]
"""How domains are shown over the slide."""
_OPACITY = {"fill": 0.5, "outlines": 1.0, "hidden": 0.5}


@dataclass(kw_only=True, eq=False)
class _Sets:
    """The sets of domains of a result: those in the store by name, one that is not saved, and the shown one."""

    saved: dict[str, Domains] = field(default_factory=dict)
    unsaved: Domains | None = None
    shown: Domains | None = None


class DomainMaps:
    """Domains of the results, and the layer of those of the displayed result.

    Parameters
    ----------
    workspace
        The open slides.
    tasks
        Finds domains in a background thread.
    messages
        Receives status and error messages.
    """

    changed = Signal()

    def __init__(self, workspace: Workspace, tasks: TaskRunner, messages: Messages) -> None:
        self.display: DomainDisplay = "fill"
        self.layer: Labels | None = None
        self._workspace = workspace
        self._tasks = tasks
        self._messages = messages
        self._sets: WeakKeyDictionary[DisplayedResult, _Sets] = WeakKeyDictionary()
        workspace.result_changed.connect(self._show)
        workspace.coordinate_system_changed.connect(self._move)
        workspace.viewer.layers.events.removed.connect(self._on_removed)

    @property
    def current(self) -> Domains | None:
        """The domains of the displayed result."""
        displayed = self._workspace.result
        return None if displayed is None else self._sets_of(displayed).shown

    @property
    def saved(self) -> list[str]:
        """The names of the sets of domains that the store of the displayed result contains."""
        displayed = self._workspace.result
        return [] if displayed is None else list(self._sets_of(displayed).saved)

    @property
    def chosen(self) -> str | None:
        """The name of the saved set that is shown; None if the shown domains are not saved, or there are none."""
        displayed, found = self._workspace.result, self.current
        if displayed is None or found is None:
            return None
        return next((name for name, one in self._sets_of(displayed).saved.items() if one is found), None)

    @property
    def has_unsaved(self) -> bool:
        """Whether the displayed result has domains that are not saved."""
        displayed = self._workspace.result
        return displayed is not None and self._sets_of(displayed).unsaved is not None

    def choose(self, name: str | None) -> None:
        """Show a saved set of domains of the displayed result, or (None) the one that is not saved."""
        displayed = self._workspace.result
        if displayed is None:
            return
        sets = self._sets_of(displayed)
        found = sets.unsaved if name is None else sets.saved.get(name)
        if found is not None:
            sets.shown = found
            self._show()

    def _sets_of(self, displayed: DisplayedResult) -> _Sets:
        """Return the domains of a result; at first, the last set that its store contains is shown."""
        sets = self._sets.get(displayed)
        if sets is None:
            saved = dict(displayed.domains)
            sets = self._sets[displayed] = _Sets(saved=saved, shown=next(reversed(saved.values()), None))
        return sets

    def _replace(self, displayed: DisplayedResult, found: Domains) -> None:
        """Show domains that are not saved."""
        sets = self._sets_of(displayed)
        sets.unsaved = sets.shown = found

    def find(
        self, n_domains: int | None, *, resolution: float | None = None, genes: Sequence[str] | None = None
    ) -> None:
        """Find domains of the displayed result in the background.

        Parameters
        ----------
        n_domains
            Number of domains, for which the resolution is searched; None for the given resolution.
        resolution
            Resolution of the Leiden algorithm; None for about as many domains as the spots have clusters.
        genes
            Genes to cluster by; None for all that have expression.
        """
        displayed = self._workspace.result
        if displayed is None:
            return
        result = displayed.result

        def work(stop: CancelCheck) -> Domains:
            return domains(result, resolution=resolution, n_domains=n_domains, genes=genes, should_stop=stop)

        self._work(displayed, work)

    def merge(self, names: Iterable[str]) -> None:
        """Merge domains of the displayed result in the background."""
        found, displayed, merged = self.current, self._workspace.result, list(names)
        if found is not None and displayed is not None:
            self._work(displayed, lambda stop: found.merge(merged, RunMonitor(should_stop=stop)), found)

    def rename(self, old: str, new: str) -> None:
        """Rename a domain of the displayed result."""
        found, displayed = self.current, self._workspace.result
        if found is None or displayed is None or old == new:
            return
        try:
            self._replace(displayed, found.rename({old: new}))
        except SrastError as error:
            self._messages.error_message.emit(str(error))
        self.changed.emit()

    def set_display(self, display: DomainDisplay) -> None:
        """Show the domains filled or as outlines, or hide them; a layer that the user has removed is added again."""
        self.display = display
        if self.layer is None:
            self._show()
        else:
            self._style()

    def save(self, name: str = "domains") -> None:
        """Add the domains to the store of the slide, in which the result is saved.

        Parameters
        ----------
        name
            Name of the column in the result's table.
        """
        found, displayed = self.current, self._workspace.result
        if found is None or displayed is None or not self._tasks.is_idle():
            return
        path, sets = Path(str(found.result.slide.source.path)), self._sets_of(displayed)

        def on_written(written: Path) -> str:
            sets.saved[name] = found
            if sets.unsaved is found:  # it may have been renamed meanwhile
                sets.unsaved = None
            self.changed.emit()
            return f"Added '{name}' to {written}"

        self._tasks.write(lambda: found.write(path, name), on_written, "saving the domains")

    def save_markers(self, path: Path) -> None:
        """Write the markers of the shown domains as CSV."""
        found = self.current
        if found is not None and self._tasks.is_idle():
            self._tasks.write(
                lambda: write_table(found.markers, path),
                lambda _: f"Saved to {path}",
                "saving the markers",
            )

    def _work(
        self,
        displayed: DisplayedResult,
        function: Callable[[CancelCheck], Domains],
        replaced: Domains | None = None,
    ) -> None:
        """Compute domains of a result in the background, from scratch or from the domains that they replace."""
        if not self._tasks.is_idle():
            return

        def on_result(found: Domains) -> None:
            if replaced is not None and self._sets_of(displayed).shown is not replaced:
                self._messages.error_message.emit("The domains changed meanwhile, so none were merged; merge again.")
                return
            self._replace(displayed, found)  # forgotten with its result, which may have been closed in the meantime
            self._messages.status_message.emit(" ".join([f"{count(len(found.sizes), 'domain')}.", *found.notices]))
            self._show()

        activity = "finding domains" if replaced is None else "merging domains"
        self._tasks.compute(background.call(function), on_result, activity)

    # ------------------------------------------------------------------- layer

    def _show(self) -> None:
        """Show the domains of the displayed result instead of others."""
        self._remove()
        found, slide = self.current, self._workspace.slide
        if found is not None and slide is not None:
            raster = found.result.raster
            self.layer = Labels(
                found.image(),
                name="SRast domains",
                affine=image_affine(slide.to_cs @ raster.affine),
                units=world_units(slide),
                blending="translucent_no_depth",
                metadata={KEY: {"role": "domains", "to_intrinsic": raster.affine}},
            )
            self.layer.editable = False
            self._style()
            insert_unselected(self._workspace.viewer.layers, len(self._workspace.viewer.layers), self.layer)
        self.changed.emit()

    def _style(self) -> None:
        found = self.current
        if self.layer is None or found is None:
            return
        colors: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
        colors.update({i + 1: (*color, 1.0) for i, color in enumerate(domain_colors(len(found.sizes)))})
        self.layer.colormap = DirectLabelColormap(color_dict=colors)
        self.layer.contour = 1 if self.display == "outlines" else 0
        self.layer.opacity = _OPACITY[self.display]
        self.layer.visible = self.display != "hidden"

    def _move(self) -> None:
        if self.layer is not None and self._workspace.slide is not None:
            update_transforms([self.layer], self._workspace.slide)

    def _remove(self) -> None:
        layer, self.layer = self.layer, None
        if layer is not None:
            remove_layers(self._workspace.viewer.layers, [layer])

    def _on_removed(self, event: Any) -> None:
        """Forget a layer that the user has removed."""
        if event.value is self.layer:
            self.layer = None

    def disconnect(self) -> None:
        """Disconnect from the viewer."""
        self._workspace.viewer.layers.events.removed.disconnect(self._on_removed)
