"""Write the report of the displayed result, and figures of it.

Every method runs in the GUI thread; files are written in a background thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_srast.gui.controllers.domains import DomainMaps
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.task_runner import AppState, Task, TaskRunner
from napari_srast.gui.export.panel_figure import FigureOptions
from napari_srast.gui.export.write import figure_steps, report_steps
from napari_srast.gui.layers.gene_colors import GeneStyle
from napari_srast.gui.runtime import background
from napari_srast.gui.state.workspace import Workspace

__all__ = ["Reports"]


class Reports:
    """Write reports and figures of results.

    Parameters
    ----------
    workspace
        The open slides.
    tasks
        Writes the files in a background thread.
    domains
        Domains of the displayed result.
    messages
        Receives status and error messages.
    """

    def __init__(self, workspace: Workspace, tasks: TaskRunner, domains: DomainMaps, messages: Messages) -> None:
        self._workspace = workspace
        self._tasks = tasks
        self._domains = domains
        self._messages = messages

    def write(self, path: Path) -> None:
        """Write the report of the displayed result, with pictures of the shown genes and of its domains.

        Parameters
        ----------
        path
            The new ``.html`` file.
        """
        displayed, overlay = self._workspace.result, self._workspace.overlay
        if displayed is None or not self._tasks.is_idle():
            return
        genes = [] if overlay is None else [style.gene for style in overlay.shown]
        found = self._domains.current
        steps = report_steps(displayed.result, path, genes, {} if found is None else {"domains": found})
        self._start(steps, "writing the report")
        self._messages.status_message.emit("Writing the report …")

    def write_figure(self, path: Path, styles: Sequence[GeneStyle], options: FigureOptions) -> None:
        """Write a figure of genes of the displayed result.

        Parameters
        ----------
        path
            The file; its ending is the format. An existing one is replaced, as the dialog has asked.
        styles
            Styles of the genes.
        options
            Layout.
        """
        displayed, slide = self._workspace.result, self._workspace.slide
        if displayed is None or slide is None or not self._tasks.is_idle():
            return
        self._start(figure_steps(displayed, slide, styles, options, path), "writing the figure")
        self._messages.status_message.emit("Writing the figure …")

    def _start(self, steps: background.Steps, activity: str) -> None:
        def on_result(written: Path) -> None:
            self._tasks.set_state(self._tasks.resting_state())
            self._messages.status_message.emit(f"Saved to {written}")

        self._tasks.start(
            Task(
                state=AppState.EXPORTING,
                steps=steps,
                on_result=on_result,
                activity=activity,
            )
        )
