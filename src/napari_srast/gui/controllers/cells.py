"""Count the displayed result in segmented cells, and show the cells as a layer.

Every method runs in the GUI thread; counts are shared among the cells in a background thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from psygnal import Signal

from napari_srast._utils.text import count
from napari_srast.analysis.cells import cells
from napari_srast.core.cells import CellCounts
from napari_srast.core.progress import RunMonitor
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.controllers.comparison import meaning_of
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.task_runner import TaskRunner
from napari_srast.gui.layers.cell_layer import CellLayer
from napari_srast.gui.layers.compared_layer import ColorOptions, blend_colors
from napari_srast.gui.layers.gene_colors import shared_opacity, stops_colormap
from napari_srast.gui.layers.gene_layer import typical_limits
from napari_srast.gui.layers.layer_stack import LayerStack
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.layers.spot_image import number_colormap
from napari_srast.gui.runtime import background
from napari_srast.gui.state.cell_raster import CellRaster, draw_cells
from napari_srast.gui.state.cell_sources import CellSource, cell_sources
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.workspace import Workspace

__all__ = ["CellColor", "CellDisplay", "CellMaps"]

CellDisplay = Literal["fill", "outlines", "hidden"]
"""How cells are shown over the slide."""
CellColor = Literal["genes", "total", "sharing", "std"]
"""What the colors of filled cells show."""
_MEANINGS = {
    "total": "Expected counts of the cell, over all genes of the run.",
    "sharing": "Cells that share the spots of the cell, with itself.",
}
_OUTLINE = (1.0, 1.0, 1.0, 0.8)


@dataclass(frozen=True, eq=False)
class _Counted:
    found: CellCounts
    raster: CellRaster


class CellMaps:
    """Counts of cells of the results, and the layer of those of the displayed result.

    Parameters
    ----------
    workspace
        The open slides.
    tasks
        Shares the counts in a background thread.
    messages
        Receives status and error messages.

    Attributes
    ----------
    changed
        Signal, emitted after cells were counted, shown or hidden.
    colored
        Signal, emitted after the cells got other colors.
    readout_changed
        Signal with the values of the cell under the cursor as a text.
    display, color
        How the cells are shown, and what their colors show.
    """

    changed = Signal()
    colored = Signal()
    readout_changed = Signal(str)

    def __init__(self, workspace: Workspace, tasks: TaskRunner, messages: Messages) -> None:
        self.display: CellDisplay = "fill"
        self.color: CellColor = "genes"
        self._display_when_visible: CellDisplay = "fill"
        self._workspace = workspace
        self._tasks = tasks
        self._messages = messages
        self._counted: WeakKeyDictionary[DisplayedResult, _Counted] = WeakKeyDictionary()
        self._shown: CellLayer | None = None
        self._drawn: tuple[Any, ...] = ()  # what the colors of the layer depend on
        self._is_due = False
        self._readout = ""
        workspace.result_changed.connect(self._show)
        workspace.display_changed.connect(self._color_later)
        workspace.coordinate_system_changed.connect(self._move)
        workspace.viewer.layers.events.removed.connect(self._on_removed)
        workspace.viewer.mouse_move_callbacks.append(self._on_move)

    @property
    def current(self) -> CellCounts | None:
        """The counts of cells of the displayed result."""
        counted = self._current
        return None if counted is None else counted.found

    @property
    def layer(self) -> Any:
        """The layer of the cells; None if there is none."""
        return None if self._shown is None else self._shown.layer

    @property
    def is_filled(self) -> bool:
        """Whether cells are shown instead of the pixels."""
        return self._shown is not None and self.display == "fill"

    @property
    def _current(self) -> _Counted | None:
        displayed = self._workspace.result
        return None if displayed is None else self._counted.get(displayed)

    def sources(self) -> list[CellSource]:
        """Return the cells that can be counted: elements of the slide, and layers that others have added."""
        session = self._workspace.current
        return [] if session is None else cell_sources(session, self._workspace.viewer.layers)

    def count(self, source: CellSource) -> None:
        """Share the counts of the displayed result among cells, in the background."""
        displayed = self._workspace.result
        if displayed is None or not self._tasks.is_idle():
            return
        result, read = displayed.result, source.prepare()

        def work(monitor: RunMonitor) -> _Counted:
            found = cells(result, read(), progress=monitor.on_progress, should_stop=monitor.should_stop)
            return _Counted(found, draw_cells(found.cells, monitor))

        def on_result(counted: _Counted) -> None:
            self._counted[displayed] = counted  # forgotten with its result, which may have been closed meanwhile
            self.display = "fill"
            self._messages.status_message.emit(f"Counted {count(len(counted.found.obs), 'cell')}.")
            self._show()

        self._tasks.compute(background.reported(work), on_result, "counting the cells")

    def summary(self) -> str:
        """Describe the counts of the cells: their part of all counts, and how many cells share a spot."""
        found = self.current
        if found is None:
            return ""
        spots, others = (round(float(found.obs[column].median())) for column in ("n_spots", "n_sharing"))
        return " ".join(
            [
                f"{count(len(found.obs), 'cell')} of '{found.cells.name}' with {1 - found.fraction_outside:.1%} of the "
                f"counts; {found.fraction_outside:.1%} are outside cells. A typical cell shares {count(spots, 'spot')} "
                f"with {count(others, 'other cell')}.",
                *found.notices,
            ]
        )

    # ----------------------------------------------------------------- display

    def set_display(self, display: CellDisplay) -> None:
        """Show the cells filled, instead of the pixels, or as outlines over them, or hide them."""
        self.display = display
        self._display_when_visible = self._display_when_visible if display == "hidden" else display
        self._color(is_forced=True)
        self.changed.emit()

    def set_color(self, color: CellColor) -> None:
        """Color the filled cells by the shown genes, or by another property."""
        self.color = color
        self._color(is_forced=True)
        self.changed.emit()

    def uncover(self) -> None:
        """Hide filled cells, because the pixels or the measured counts are to be seen."""
        if self.is_filled:
            self.set_display("hidden")

    def meaning(self) -> str:
        """Describe what the colors of the cells show; empty without filled cells."""
        overlay = self._workspace.overlay
        if overlay is None or not self.is_filled:
            return ""
        if self.color == "genes":
            return f"Mean over the cell: {meaning_of(overlay)}." if overlay.shown else ""
        if self.color == "std" and overlay.shown:
            return f"Standard deviation of the counts of {overlay.shown[0].gene} in the cell."
        return _MEANINGS.get(self.color, "")

    def _show(self) -> None:
        """Show the cells of the displayed result instead of others."""
        if self._shown is not None:
            self._shown.remove()
        counted, session = self._current, self._workspace.current
        self._shown = None
        if counted is not None and session is not None:
            self._shown = CellLayer(
                self._workspace.viewer,
                counted.raster,
                session.slide,
                LayerStack(self._workspace.viewer, lambda: session.shown_layers, lambda: session.region_layer.layers),
                lambda: [] if session.overlay is None else session.overlay.layers,
                self._on_limits,
                self._on_visible,
            )
        self._color(is_forced=True)
        self.changed.emit()

    def _color_later(self) -> None:
        """Color the cells as the genes have changed, once after several changes."""
        if self._shown is None or self._is_due:
            return
        self._is_due = True
        if self._workspace.schedule is None:
            self._color_now()
        else:
            self._workspace.schedule(self._color_now)

    def _color_now(self) -> None:
        self._is_due = False
        if not self._tasks.is_shut_down:
            self._color()

    def _color(self, *, is_forced: bool = False) -> None:
        """Color the cells, unless they have these colors already."""
        overlay, counted, shown = self._workspace.overlay, self._current, self._shown
        if overlay is None:
            return
        if self.is_filled and overlay.view in ("before", "std"):
            overlay.set_view("after")  # the limits of the genes are those of their values
        if is_forced:
            overlay.cover("cells", is_covered=self.is_filled)
        if shown is None or counted is None:
            return
        if self.display == "hidden":
            shown.set_visible(is_visible=False)
            return
        key = (shown, self.display, self.color, tuple(overlay.shown), overlay.value_view, len(overlay.genes))
        if key != self._drawn or shown.layer is None:
            self._draw(shown, counted.found, overlay)
            self._drawn = key
            self.colored.emit()
        shown.set_visible(is_visible=True)

    def _draw(self, shown: CellLayer, found: CellCounts, overlay: Overlay) -> None:
        styles, view, values = overlay.shown, overlay.value_view, overlay.values
        n_cells = len(found.obs)
        if self.display == "outlines":
            shown.show_colors(np.tile(_OUTLINE, (n_cells, 1)), outlines=True)
        elif self.color != "genes":
            numbers = self._numbers(found, overlay)
            low, high = float(numbers.min()), typical_limits(numbers)[1]
            shown.show_values(numbers, (low, high if low < high else low + 1), number_colormap())
        elif len(styles) == 1:
            means, colormap = values.of_areas(found.shares, styles[0].gene, view), styles[0].colormap_stops
            is_added = styles[0].is_additive
            shown.show_values(means, styles[0].limits, stops_colormap(colormap, "SRast cells"), is_added=is_added)
        else:
            options = ColorOptions(tuple(styles), shared_opacity(len(overlay.genes)), view)
            means_of_genes = [values.of_areas(found.shares, style.gene, view) for style in styles]
            colors = blend_colors(means_of_genes, options) if styles else np.zeros((n_cells, 4))
            shown.show_colors(colors, is_added=True)

    def _numbers(self, found: CellCounts, overlay: Overlay) -> np.ndarray:
        """Return what the colors show besides genes, shape (C,)."""
        if self.color == "sharing":
            return found.obs["n_sharing"].to_numpy(dtype=float) + 1
        if self.color == "std" and found.std is not None and overlay.shown:
            column = found.result.gene_column(overlay.shown[0].gene)
            return np.asarray(found.std[:, [column]].toarray()[:, 0], dtype=float)
        return np.asarray(found.counts.sum(axis=1), dtype=float).ravel()

    def _on_limits(self, limits: tuple[float, float]) -> None:
        """Follow the contrast limits of napari's layer controls, which are those of the gene."""
        overlay = self._workspace.overlay
        if overlay is not None and self.color == "genes" and len(overlay.shown) == 1:
            overlay.set_style(overlay.shown[0].gene, limits=limits)

    def _on_visible(self) -> None:
        """Follow the eye of napari's layer list."""
        if self.layer is not None:
            self.set_display(self._display_when_visible if self.layer.visible else "hidden")

    def _move(self) -> None:
        if self._shown is not None and self._workspace.slide is not None:
            self._shown.move(self._workspace.slide)

    def _on_removed(self, event: Any) -> None:
        """Show the pixels again after the user has removed the layer."""
        if self._shown is not None and event.value is self._shown.layer:
            self._shown.layer = None
            self.display = "hidden"
            if self._workspace.overlay is not None:
                self._workspace.overlay.cover("cells", is_covered=False)
            self.changed.emit()

    # ------------------------------------------------------------------ cursor

    def _on_move(self, viewer: Any, event: Any) -> None:
        text = self._read()
        if text != self._readout:
            self._readout = text
            self.readout_changed.emit(text)

    def _read(self) -> str:
        """Return the values of the cell under the cursor; empty if there is none."""
        counted, slide, overlay = self._current, self._workspace.slide, self._workspace.overlay
        if counted is None or slide is None or overlay is None or self.layer is None or not self.layer.visible:
            return ""
        world = np.asarray(self._workspace.viewer.cursor.position, dtype=float)[-2:][::-1]
        cell = counted.raster.at(apply_affine(np.linalg.inv(slide.to_cs), world[None])[0])
        return "" if cell is None else _describe(counted.found, cell, [style.gene for style in overlay.shown])

    # -------------------------------------------------------------------- save

    def save(self, path: Path | None, name: str = "cells") -> None:
        """Write the counts of the cells in the background; see :meth:`napari_srast.core.cells.CellCounts.write`.

        Parameters
        ----------
        path
            File or store; None adds them to the store of the slide, in which the result has to be saved.
        name
            Name of the elements in a store.
        """
        found = self.current
        if found is None or not self._tasks.is_idle():
            return
        target = Path(str(found.result.slide.source.path)) if path is None else path

        self._tasks.write(
            lambda: found.write(target, name), lambda written: f"Saved the cells to {written}", "saving the cells"
        )

    def disconnect(self) -> None:
        """Disconnect from the viewer."""
        viewer = self._workspace.viewer
        viewer.layers.events.removed.disconnect(self._on_removed)
        if self._on_move in viewer.mouse_move_callbacks:
            viewer.mouse_move_callbacks.remove(self._on_move)


def _describe(found: CellCounts, cell: int, genes: list[str]) -> str:
    """Describe a cell: its expected counts with their standard deviation, and the spots that it shares."""
    values = []
    for gene in genes:
        column = found.result.gene_column(gene)
        spread = "" if found.std is None else f" ± {found.std[cell, column]:.2g}"
        values.append(f"{gene} {found.counts[cell, column]:.3g}{spread}")
    obs = found.obs.iloc[cell]
    shared = f"shares {count(int(obs['n_spots']), 'spot')} with {count(int(obs['n_sharing']), 'other cell')}"
    counts = f"{', '.join(values)} expected counts; " if values else ""
    return f"Cell {found.cells.ids[cell]}: {counts}{shared}"
