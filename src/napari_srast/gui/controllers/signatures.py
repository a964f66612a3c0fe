"""Score gene sets in the pixels of the displayed result, and show a score as a layer.

Every method runs in the GUI thread; gene sets are scored in a background thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from napari.layers import Image
from psygnal import Signal

from napari_srast._utils.text import count
from napari_srast.analysis.gene_sets import parse_gene_sets, read_gene_sets
from napari_srast.analysis.signatures import describe_left_out, describe_scores, signatures, write_scores
from napari_srast.core.progress import RunMonitor
from napari_srast.errors import SrastError
from napari_srast.gui.controllers.cells import CellMaps
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.task_runner import TaskRunner
from napari_srast.gui.layers.factory import KEY, image_affine, remove_layers, update_transforms, world_units
from napari_srast.gui.layers.gene_colors import map_colormap
from napari_srast.gui.layers.layer_stack import LayerStack
from napari_srast.gui.runtime import background
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.workspace import Workspace

__all__ = ["SignatureMaps"]

_LOW_PERCENTILE, _HIGH_PERCENTILE = 20.0, 99.5  # as for genes, but scores may be negative
_OWNER = "signatures"


class SignatureMaps:
    """Scores of gene sets of the results, and the layer of one of those of the displayed result.

    Parameters
    ----------
    workspace
        The open slides.
    tasks
        Scores in a background thread.
    cells
        Filled cells are hidden while a score is shown, and a score while they are.
    messages
        Receives status and error messages.

    Attributes
    ----------
    changed
        Signal, emitted after gene sets were scored, or another score is shown.
    layer
        The layer of the shown score; None if there is none.
    """

    changed = Signal()

    def __init__(self, workspace: Workspace, tasks: TaskRunner, cells: CellMaps, messages: Messages) -> None:
        self.layer: Image | None = None
        self._workspace = workspace
        self._tasks = tasks
        self._cells = cells
        self._messages = messages
        self._scores: WeakKeyDictionary[DisplayedResult, pd.DataFrame] = WeakKeyDictionary()
        self._shown: WeakKeyDictionary[DisplayedResult, str] = WeakKeyDictionary()
        workspace.result_changed.connect(self._show)
        workspace.coordinate_system_changed.connect(self._move)
        workspace.viewer.layers.events.removed.connect(self._on_removed)
        cells.changed.connect(self._on_cells)

    @property
    def current(self) -> pd.DataFrame | None:
        """The scores of the displayed result, a column for each gene set."""
        displayed = self._workspace.result
        return None if displayed is None else self._scores.get(displayed)

    @property
    def shown(self) -> str | None:
        """The name of the gene set whose score is shown."""
        displayed = self._workspace.result
        return None if displayed is None else self._shown.get(displayed)

    def note(self) -> str:
        """Describe the shown score: its genes, and those that have no expression."""
        scores, name = self.current, self.shown
        return "" if scores is None or name is None else describe_scores(scores, name)

    # ----------------------------------------------------------------- scoring

    def score_text(self, text: str) -> None:
        """Score the gene sets of a text; see :func:`napari_srast.analysis.gene_sets.parse_gene_sets`."""
        self._parse(lambda: parse_gene_sets(text))

    def score_file(self, path: Path) -> None:
        """Score the gene sets of a file; see :func:`napari_srast.analysis.gene_sets.read_gene_sets`."""
        self._parse(lambda: read_gene_sets(path))

    def _parse(self, parse: Callable[[], Mapping[str, tuple[str, ...]]]) -> None:
        try:
            sets = parse()
        except SrastError as error:
            self._messages.error_message.emit(str(error))
        else:
            self._score(sets)

    def _score(self, sets: Mapping[str, tuple[str, ...]]) -> None:
        displayed = self._workspace.result
        if displayed is None or not self._tasks.is_idle():
            return
        result = displayed.result

        def work(monitor: RunMonitor) -> pd.DataFrame:
            return signatures(result, sets, progress=monitor.on_progress, should_stop=monitor.should_stop)

        def on_result(scores: pd.DataFrame) -> None:
            self._scores[displayed] = _joined(self._scores.get(displayed), scores)
            done = f"Scored {count(len(scores.columns), 'gene set')}."
            self._messages.status_message.emit(" ".join(filter(None, [done, describe_left_out(scores)])))
            self._shown[displayed] = str(scores.columns[0])
            self._show(is_chosen=displayed is self._workspace.result)

        self._tasks.compute(background.reported(work), on_result, "scoring the gene sets")

    # ----------------------------------------------------------------- display

    def show(self, name: str | None) -> None:
        """Show the score of a gene set instead of the genes, or (None) the genes again."""
        displayed = self._workspace.result
        if displayed is None or (name is None and self.shown is None):
            return
        if name is None:
            self._shown.pop(displayed, None)
        else:
            self._shown[displayed] = name
        self._show(is_chosen=name is not None)

    def _show(self, *, is_chosen: bool = False) -> None:
        """Show the chosen score of the displayed result instead of others."""
        layer, self.layer = self.layer, None
        if layer is not None:
            remove_layers(self._workspace.viewer.layers, [layer])
        session, scores, name = self._workspace.current, self.current, self.shown
        if session is not None and session.result is not None and scores is not None and name is not None:
            if is_chosen:
                self._cells.uncover()
            raster, values = session.result.result.raster, scores[name].to_numpy()
            low, high = (float(np.percentile(values, percent)) for percent in (_LOW_PERCENTILE, _HIGH_PERCENTILE))
            self.layer = Image(
                raster.to_image(values),
                name=f"Score of {name}",
                affine=image_affine(session.slide.to_cs @ raster.affine),
                units=world_units(session.slide),
                colormap=map_colormap(),
                contrast_limits=(low, high) if low < high else (low, low + 1),
                blending="translucent_no_depth",
                metadata={KEY: {"role": "signature", "to_intrinsic": raster.affine}},
            )
            self.layer.contrast_limits_range = (float(values.min()), max(float(values.max()), high, low + 1e-9))
            self.layer.colorbar.box = True  # readable over the histology
            self.layer.colorbar.visible = True
            self.layer.events.visible.connect(self._cover)
            stack = LayerStack(
                self._workspace.viewer, lambda: session.shown_layers, lambda: session.region_layer.layers
            )
            stack.insert(self.layer, above=[] if session.overlay is None else session.overlay.layers)
        self._cover()
        self.changed.emit()

    def _cover(self, event: object = None) -> None:
        """Hide the genes while a score is visible."""
        overlay = self._workspace.overlay
        if overlay is not None:
            overlay.cover(_OWNER, is_covered=self.layer is not None and bool(self.layer.visible))

    def _on_cells(self) -> None:
        """Show no score while cells are filled."""
        if self.layer is not None and self._cells.is_filled:
            self.show(None)

    def _move(self) -> None:
        if self.layer is not None and self._workspace.slide is not None:
            update_transforms([self.layer], self._workspace.slide)

    def _on_removed(self, event: Any) -> None:
        """Show the genes again after the user has removed the layer."""
        if self.layer is not None and event.value is self.layer:
            self.layer = None
            self.show(None)

    # -------------------------------------------------------------------- save

    def save(self, path: Path) -> None:
        """Write the scores of all gene sets of the displayed result as CSV, with a row per pixel."""
        scores, displayed = self.current, self._workspace.result
        if scores is None or displayed is None or not self._tasks.is_idle():
            return
        result = displayed.result

        self._tasks.write(lambda: write_scores(result, scores, path), lambda _: f"Saved to {path}", "saving the scores")

    def disconnect(self) -> None:
        """Disconnect from the viewer."""
        self._workspace.viewer.layers.events.removed.disconnect(self._on_removed)


def _joined(before: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of both tables; those of a set that was scored again are replaced."""
    if before is None:
        return new
    joined = pd.concat([before.drop(columns=[name for name in before if name in new]), new], axis=1)
    joined.attrs.update({key: {**before.attrs[key], **new.attrs[key]} for key in ("genes", "missing")})
    return joined
