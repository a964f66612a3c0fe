"""Panel that compares drawn regions on the measured spots, and lists the genes by the difference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSignalBlocker, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QTableView,
    QWidget,
)

from napari_srast.analysis.volcano import PLOT_FORMATS
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.controllers.region_comparison import Comparison, RegionChoice
from napari_srast.gui.panels.save_dialog import ask_save_path
from napari_srast.gui.widgets.common import button, chooser, label, table_view
from napari_srast.gui.widgets.plot_window import PlotWindow
from napari_srast.gui.widgets.section import Section, row_of
from napari_srast.gui.widgets.tooltips import allow, describe

__all__ = ["ComparisonPanel", "ComparisonTable"]

_GENE, _EFFECT, _INTERVAL = range(3)
_UNCLEAR = QColor("#747d86")  # readable on both themes
_BLOCK, _MAX_BLOCK = 6.0, 100.0
_NO_REGION = "Draw or load a region on the page Prepare first."
_NO_COMPARISON = "Compare regions first."
_OUTDATED = "The regions have changed since; compare again."
_NO_INDEX = QModelIndex()
_PADDING = 30  # pixels; leaves room for the arrow of a sorted column


class ComparisonTable(QAbstractTableModel):
    """Genes with their log2 fold change and its interval, sorted by the fold change at first."""

    def __init__(self) -> None:
        super().__init__()
        self._table = pd.DataFrame()
        self._names = ("", "")
        self._rows = np.zeros(0, dtype=np.int64)
        self._filter = ""
        self._sorted_by = (_EFFECT, Qt.SortOrder.DescendingOrder)

    def show_comparison(self, compared: Comparison | None) -> None:
        """Show a comparison; None empties the table."""
        self._table = pd.DataFrame() if compared is None else compared.table
        self._names = ("", "") if compared is None else compared.names
        self._list()

    def set_filter(self, text: str) -> None:
        """List the genes whose name contains a text, in upper or lower case."""
        self._filter = text.strip().casefold()
        self._list()

    def rowCount(self, parent: QModelIndex = _NO_INDEX) -> int:  # noqa: D102
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex = _NO_INDEX) -> int:  # noqa: D102
        return 0 if parent.isValid() else 3

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: D102
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return ("Gene", "log2 FC", "95 % interval")[section]
        if role == Qt.ItemDataRole.ToolTipRole:
            return ("Sort by name.", "log2 fold change. Sort by it.", "Sort by the distance of the interval from 0.")[
                section
            ]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: D102
        if not index.isValid():
            return None
        row, column = self._table.iloc[self._rows[index.row()]], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            if column == _GENE:
                return str(row["gene"])
            return (
                f"{row['log2_fold_change']:+.2f}" if column == _EFFECT else f"{row['low']:+.2f} to {row['high']:+.2f}"
            )
        if role == Qt.ItemDataRole.ForegroundRole and row["low"] <= 0 <= row["high"]:
            return _UNCLEAR
        if role == Qt.ItemDataRole.ToolTipRole:
            rates = (f"{name}: {row[f'per_10000_{name}']:.3g}" for name in self._names)
            return f"Counts per 10,000 of {'; '.join(rates)}"
        if role == Qt.ItemDataRole.TextAlignmentRole and column != _GENE:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by name, by the fold change, or by the distance of the interval from 0."""
        self._sorted_by = (column, order)
        self._list()

    def _list(self) -> None:
        column, order = self._sorted_by
        table = self._table
        self.beginResetModel()
        if table.empty:
            self._rows = np.zeros(0, dtype=np.int64)
        else:
            names = table["gene"].astype(str).str.casefold()
            if column == _GENE:
                ranks = pd.factorize(names, sort=True)[0].astype(float)
            elif column == _EFFECT:
                ranks = table["log2_fold_change"].to_numpy(dtype=float)
            else:
                ranks = np.maximum(table["low"].to_numpy(dtype=float), -table["high"].to_numpy(dtype=float))
            rows = np.argsort(-ranks if order == Qt.SortOrder.DescendingOrder else ranks, kind="stable")
            is_listed = names.str.contains(self._filter, regex=False).to_numpy(dtype=bool)
            self._rows = rows[is_listed[rows]]
        self.endResetModel()


class ComparisonPanel(QWidget):
    """Choose one or two regions, compare them, and save the table and its plot.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._choices: list[RegionChoice] = []
        self.section = Section("section_compare", "Compare regions")
        self.section.unfold(False)
        self.first = chooser("compare_first")
        self.second = chooser("compare_second")
        self.block = QDoubleSpinBox()
        self.block.setRange(1.0, _MAX_BLOCK)
        self.block.setDecimals(1)
        self.block.setValue(_BLOCK)
        self.block.setSuffix(" pitches")
        describe(self.block, "compare_block")
        self.start = button("compare_regions", "Compare", self._compare)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter genes")
        self.filter.setClearButtonEnabled(True)
        describe(self.filter, "compare_filter")
        self.model = ComparisonTable()
        self.filter.textChanged.connect(self.model.set_filter)
        self.table = self._table_view()
        self.note = label()
        self.plot = button("plot_comparison", "Plot", controller.region_comparison.draw)
        self.save = button("save_comparison", "Save…", self._save)
        self._lay_out()
        for box in (self.first, self.second):
            box.activated.connect(lambda _: self._allow())
        self.section.header.clicked.connect(lambda _: self.refresh())
        controller.region_comparison.changed.connect(self._show)
        controller.region_comparison.drawn.connect(self._show_plot)
        controller.slides.slide_changed.connect(self._show)
        for signal in (controller.regions.region_changed, controller.slides.coordinate_system_changed):
            signal.connect(self.refresh)
        controller.tasks.state_changed.connect(self._allow)
        self._show()

    def _table_view(self) -> QTableView:
        view = table_view("comparison_table", self.model)
        header = view.horizontalHeader()
        assert header is not None
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(_GENE, QHeaderView.ResizeMode.Stretch)
        for section, widest in ((_EFFECT, "log2 FC"), (_INTERVAL, "-10.00 to +10.00")):
            header.resizeSection(section, view.fontMetrics().horizontalAdvance(widest) + _PADDING)
        header.setSortIndicator(_EFFECT, Qt.SortOrder.DescendingOrder)
        return view

    def _lay_out(self) -> None:
        column = self.section.column
        grid = QGridLayout()
        grid.setSpacing(4)
        grid.setColumnStretch(1, 1)
        for i, (text, control) in enumerate((("Region", self.first), ("Against", self.second))):
            grid.addWidget(QLabel(text), i, 0)
            grid.addWidget(control, i, 1, 1, 2)
        grid.addWidget(QLabel("Blocks"), 2, 0)
        grid.addWidget(self.block, 2, 1)
        grid.addWidget(self.start, 2, 2)
        column.addLayout(grid)
        column.addWidget(self.filter)
        column.addWidget(self.table)
        column.addWidget(self.note)
        column.addLayout(row_of(self.plot, self.save))
        self.section.fill(self)

    def refresh(self) -> None:
        """List the regions that can be compared now; a folded section does so once it is unfolded."""
        if not self.section.is_open:
            return
        self._choices = self._controller.region_comparison.choices()
        for box, others in ((self.first, ()), (self.second, (("all other spots", None),))):
            _fill(box, [*others, *((choice.title, choice.key) for choice in self._choices)])
        self._note()
        self._allow()

    def _show(self) -> None:
        """Show the comparison of the current slide."""
        compared = self._controller.region_comparison.current
        self.model.show_comparison(compared)
        self.section.set_summary("" if compared is None else " / ".join(compared.names))
        self._note()
        self._allow()
        self.refresh()

    def _note(self) -> None:
        comparison = self._controller.region_comparison
        compared = comparison.current
        if compared is None:
            self.note.setText("Spots of one slide are no replicates: intervals, but no p-values.")
        else:
            is_outdated = self.section.is_open and comparison.is_outdated(self._choices)
            self.note.setText(" ".join([*([_OUTDATED] if is_outdated else []), compared.summary]))

    def _allow(self) -> None:
        """Enable the controls that can be used now."""
        controller = self._controller
        busy = controller.tasks.busy_reason()
        no_slide = "Open a slide first." if controller.slides.slide is None else None
        missing = no_slide or (None if self._choices else _NO_REGION)
        for control in (self.first, self.second, self.block):
            allow(control, missing)
        allow(self.start, missing or busy or self._conflict())
        no_table = None if controller.region_comparison.current is not None else _NO_COMPARISON
        for other in (self.filter, self.table):
            allow(other, no_slide or no_table)
        for writer in (self.plot, self.save):
            allow(writer, no_slide or no_table or busy)

    def _conflict(self) -> str | None:
        """Return why the chosen regions cannot be compared with each other."""
        first, second = self._chosen()
        if first is None:
            return _NO_REGION
        if second is None:
            return None
        if first.key == second.key:
            return "Choose two different regions."
        if first.name == second.name:
            return f"Both regions are named '{first.name}'; rename one of them."
        return None

    def _chosen(self) -> tuple[RegionChoice | None, RegionChoice | None]:
        by_key = {choice.key: choice for choice in self._choices}
        return by_key.get(self.first.currentData()), by_key.get(self.second.currentData())

    def _compare(self) -> None:
        first, second = self._chosen()
        if first is not None:
            self._controller.region_comparison.compare(first, second, self.block.value())

    def _show_plot(self, compared: Comparison, picture: bytes) -> None:
        """Show a plot, from which it can be saved, also after other regions were compared."""
        title = " compared with ".join(compared.titles)
        PlotWindow(title, picture, partial(self._save_plot, compared), self).show()

    def _save_plot(self, compared: Comparison) -> None:
        """Ask for a file, and write the plot; its ending is the format."""
        path = self._ask("Plot the comparison", PLOT_FORMATS, compared)
        if path is not None:
            self._controller.region_comparison.plot(path, compared)

    def _save(self) -> None:
        """Ask for a file, and save the table."""
        compared = self._controller.region_comparison.current
        path = None if compared is None else self._ask("Save the comparison", (".csv",), compared)
        if path is not None:
            self._controller.region_comparison.save(path)

    def _ask(self, title: str, suffixes: Sequence[str], compared: Comparison) -> Path | None:
        """Ask for a file; its ending is the format. None if the user cancels."""
        return ask_save_path(self, self._controller, title, suffixes, *compared.names)


def _fill(box: QComboBox, items: list[tuple[str, Any]]) -> None:
    """List items, titles with their keys, and keep the chosen key if it is still there."""
    chosen = box.currentData()
    with QSignalBlocker(box):
        box.clear()
        for title, key in items:
            box.addItem(title, key)
        keys = [key for _, key in items]
        box.setCurrentIndex(keys.index(chosen) if chosen in keys else 0 if items else -1)
