"""Test which genes vary in space, and which are high in the same places, on the measured spots of the current slide.

Every method runs in the GUI thread; the tests run in a background thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

import pandas as pd
from psygnal import Signal

from napari_srast._utils.text import count
from napari_srast.analysis.structure import colocalization, spatially_variable
from napari_srast.core.progress import RunMonitor
from napari_srast.gui.controllers.messages import Messages
from napari_srast.gui.controllers.task_runner import TaskRunner
from napari_srast.gui.runtime import background
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.gui.state.workspace import Workspace
from napari_srast.io.atomic import write_table

__all__ = ["SpatialStructure", "StructureTable"]

MAX_PAIRED_GENES = 50
"""Genes whose pairs can be compared in the window: a table of more is not readable."""
_SMALL_Q = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class StructureTable:
    """A table about the genes of a slide.

    Parameters
    ----------
    kind
        "structure": a row per gene; "colocalization": a row per pair of genes.
    table
        Table of :func:`napari_srast.spatially_variable` or :func:`napari_srast.colocalization`.
    note
        What it shows, and what not.
    """

    kind: Literal["structure", "colocalization"]
    table: pd.DataFrame
    note: str


class SpatialStructure:
    """Spatial structure of genes of the current slide.

    Parameters
    ----------
    workspace
        The open slides.
    tasks
        Tests in a background thread.
    messages
        Receives status and error messages.

    Attributes
    ----------
    changed
        Signal, emitted after genes were tested.
    """

    changed = Signal()

    def __init__(self, workspace: Workspace, tasks: TaskRunner, messages: Messages) -> None:
        self._workspace = workspace
        self._tasks = tasks
        self._messages = messages
        self._tables: WeakKeyDictionary[SlideSession, StructureTable] = WeakKeyDictionary()

    @property
    def current(self) -> StructureTable | None:
        """The last table of the current slide."""
        session = self._workspace.current
        return None if session is None else self._tables.get(session)

    def test(self, genes: Sequence[str] | None, permutations: int) -> None:
        """Test genes, or (None) all genes, for spatial structure, in the background; more permutations take longer."""
        session = self._workspace.current
        if session is None or not self._tasks.is_idle():
            return
        slide = session.slide

        def work(monitor: RunMonitor) -> StructureTable:
            table = spatially_variable(
                slide,
                genes,
                permutations=permutations,
                progress=monitor.on_progress,
                should_stop=monitor.should_stop,
            )
            small = f"{(table['q'] <= _SMALL_Q).sum():,} of {count(len(table), 'gene')} have q at most {_SMALL_Q}."
            return StructureTable(kind="structure", table=table, note=f"{small} {table.attrs['note']}")

        self._start(session, work, "testing the spatial structure")

    def pair(self, genes: Sequence[str]) -> None:
        """Describe which of some genes are high in the same spots, in the background."""
        session = self._workspace.current
        if session is None or not self._tasks.is_idle():
            return
        if len(genes) > MAX_PAIRED_GENES:
            self._messages.error_message.emit(
                f"{len(genes):,} genes have too many pairs; name at most {MAX_PAIRED_GENES}, or use "
                "napari_srast.colocalization in Python."
            )
            return
        slide = session.slide

        def work(monitor: RunMonitor) -> StructureTable:
            table = colocalization(slide, genes, progress=monitor.on_progress, should_stop=monitor.should_stop)
            return StructureTable(kind="colocalization", table=table, note=str(table.attrs["note"]))

        self._start(session, work, "comparing the genes")

    def _start(self, session: SlideSession, work: Callable[[RunMonitor], StructureTable], activity: str) -> None:
        def on_result(found: StructureTable) -> None:
            self._tables[session] = found  # forgotten with its slide, which may have been closed meanwhile
            rows = "Tested {}." if found.kind == "structure" else "Compared {}."
            what = "gene" if found.kind == "structure" else "pair"
            self._messages.status_message.emit(rows.format(count(len(found.table), what)))
            self.changed.emit()

        self._tasks.compute(background.reported(work), on_result, activity)

    def save(self, path: Path) -> None:
        """Write the table of the current slide as CSV."""
        found = self.current
        if found is not None and self._tasks.is_idle():
            self._tasks.write(lambda: write_table(found.table, path), lambda _: f"Saved to {path}", "saving the table")
