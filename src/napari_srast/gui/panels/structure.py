"""Panel that tests which genes vary in space, and which are high in the same places, on the measured spots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtWidgets import (
    QHeaderView,
    QSpinBox,
    QWidget,
)

from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.controllers.structure import StructureTable
from napari_srast.gui.panels.save_dialog import ask_save_path
from napari_srast.gui.widgets.common import button, label, table_view
from napari_srast.gui.widgets.gene_field import EMPTY_NAME, GeneField
from napari_srast.gui.widgets.section import Section, row_of
from napari_srast.gui.widgets.tooltips import allow, describe

__all__ = ["StructurePanel", "StructureModel"]

_PERMUTATIONS, _MAX_PERMUTATIONS = 199, 99_999
_NO_TABLE = "Test genes first."
_HINT = "Both use the measured spots of the slide, not pixels, and need no result."
_NO_INDEX = QModelIndex()
_HEADERS = {
    "gene": "Gene",
    "moran_i": "Moran's I",
    "p": "p",
    "q": "q",
    "gene_a": "Gene",
    "gene_b": "With",
    "correlation": "r",
    "interval": "95 % interval",
}


_WIDEST = {"moran_i": "+0.00", "p": "0.00541", "q": "0.00541", "correlation": "+0.00", "interval": "+0.00 to +0.00"}
_PADDING = 14  # pixels


class StructureModel(QAbstractTableModel):
    """The rows of a table about genes, in the order of the table at first."""

    def __init__(self) -> None:
        super().__init__()
        self._table = pd.DataFrame()
        self._columns: list[str] = []
        self._rows = np.zeros(0, dtype=np.int64)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns; those of the table, except that an interval is one column."""
        return tuple(self._columns)

    def show_table(self, found: StructureTable | None) -> None:
        """Show a table; None empties it."""
        self.beginResetModel()
        self._table = pd.DataFrame() if found is None else found.table
        columns = [str(name) for name in self._table.columns]
        self._columns = [name for name in columns if name not in ("low", "high")]
        if "low" in columns:
            self._columns.append("interval")
        self._rows = np.arange(len(self._table))
        self.endResetModel()

    def rowCount(self, parent: QModelIndex = _NO_INDEX) -> int:  # noqa: D102
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex = _NO_INDEX) -> int:  # noqa: D102
        return 0 if parent.isValid() else len(self._columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: D102
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return _HEADERS[self._columns[section]]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: D102
        if not index.isValid():
            return None
        name = self._columns[index.column()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):  # long names are cut
            return _text(self._table.iloc[self._rows[index.row()]], name)
        if role == Qt.ItemDataRole.TextAlignmentRole and not name.startswith("gene"):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; an interval by its lower end."""
        if not 0 <= column < len(self._columns):
            return
        self.beginResetModel()
        name = "low" if self._columns[column] == "interval" else self._columns[column]
        values = self._table[name]
        is_text = values.dtype.kind not in "fiu"
        ranks = pd.factorize(values.astype(str).str.casefold(), sort=True)[0] if is_text else values.to_numpy()
        ranks = np.asarray(ranks, dtype=float)
        self._rows = np.argsort(-ranks if order == Qt.SortOrder.DescendingOrder else ranks, kind="stable")
        self.endResetModel()


def _text(row: pd.Series, name: str) -> str:
    if name == "interval":
        return "–" if np.isnan(row["low"]) else f"{row['low']:+.2f} to {row['high']:+.2f}"
    value = row[name]
    if isinstance(value, str):
        return value
    if np.isnan(value):
        return "–"
    return f"{value:.3g}" if name in ("p", "q") else f"{value:+.2f}"


class StructurePanel(QWidget):
    """Test genes of the current slide for spatial structure, compare pairs of them, and save the table.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.section = Section("section_structure", "Structure")
        self.section.unfold(False)
        self.genes = GeneField("structure_genes", "all, or the shown ones for pairs")
        self.genes.textChanged.connect(lambda _: self._allow())
        self.permutations = QSpinBox()
        self.permutations.setRange(19, _MAX_PERMUTATIONS)
        self.permutations.setValue(_PERMUTATIONS)
        self.permutations.setSuffix(" permutations")
        describe(self.permutations, "permutations")
        self.test = button("test_structure", "Test genes", self._test)
        self.pair = button("pair_genes", "Compare pairs", self._pair)
        self.save = button("save_structure", "Save…", self._save)
        self.model = StructureModel()
        self.table = table_view("structure_table", self.model)
        self.note = label()
        self._lay_out()
        controller.structure.changed.connect(self.refresh)
        controller.slides.slide_changed.connect(self.refresh)
        controller.results.display_changed.connect(self._allow)
        controller.results.result_changed.connect(self._allow)
        controller.tasks.state_changed.connect(self._allow)
        self.refresh()

    def _lay_out(self) -> None:
        column = self.section.column
        column.addWidget(self.genes)
        column.addLayout(row_of(self.permutations, self.test, stretch=(2, 1)))
        column.addLayout(row_of(self.pair, self.save))
        column.addWidget(self.table)
        column.addWidget(self.note)
        self.section.fill(self)

    def refresh(self) -> None:
        """Show the last table of the current slide."""
        found = self._controller.structure.current
        self.model.show_table(found)
        header = self.table.horizontalHeader()
        assert header is not None
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)  # in the order of the table
        for column, name in enumerate(self.model.columns):
            is_name, metrics = name.startswith("gene"), self.table.fontMetrics()
            mode = QHeaderView.ResizeMode.Stretch if is_name else QHeaderView.ResizeMode.Fixed
            header.setSectionResizeMode(column, mode)
            if not is_name:
                widest = max((_HEADERS[name], _WIDEST[name]), key=metrics.horizontalAdvance)
                header.resizeSection(column, metrics.horizontalAdvance(widest) + _PADDING)
        self.note.setText(_HINT if found is None else found.note)
        rows = "" if found is None else f"{len(found.table):,} {'genes' if found.kind == 'structure' else 'pairs'}"
        self.section.set_summary(rows)
        self._allow()

    def _allow(self) -> None:
        """Enable the controls that can be used now."""
        controller = self._controller
        no_slide = "Open a slide first." if controller.slides.slide is None else None
        busy = controller.tasks.busy_reason()
        for control in (self.genes, self.permutations):
            allow(control, no_slide)
        empty = EMPTY_NAME if self.genes.names() is None else None
        allow(self.test, no_slide or busy or empty)
        few = None if len(self._pair_genes()) > 1 else "Name at least two genes, or show two genes of a result."
        allow(self.pair, no_slide or busy or empty or few)
        no_table = no_slide or (None if controller.structure.current is not None else _NO_TABLE)
        allow(self.table, no_table)
        allow(self.save, no_table or busy)

    def _pair_genes(self) -> list[str]:
        """Return the genes to compare: the typed ones, or those that are shown."""
        overlay = self._controller.results.overlay
        return self.genes.names() or ([] if overlay is None else overlay.genes)

    def _test(self) -> None:
        self._controller.structure.test(self.genes.names() or None, self.permutations.value())

    def _pair(self) -> None:
        self._controller.structure.pair(self._pair_genes())

    def _save(self) -> None:
        found = self._controller.structure.current
        path = None if found is None else ask_save_path(self, self._controller, "Save the table", [".csv"], found.kind)
        if path is not None:
            self._controller.structure.save(path)
