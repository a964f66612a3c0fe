"""Table of the regions: tick, name, class, color and number of spots."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from qtpy.QtCore import QModelIndex, QPoint, QSignalBlocker, QSize, Qt
from qtpy.QtGui import QColor, QKeyEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QCompleter,
    QHeaderView,
    QLineEdit,
    QMenu,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_srast.gui.controllers.regions import Regions
from napari_srast.gui.layers.drawn_regions import DrawnRegion
from napari_srast.gui.widgets.tooltips import describe

__all__ = ["RegionTable"]

_NAME, _CLASS, _COLOR, _SPOTS = range(4)
_KEY = Qt.ItemDataRole.UserRole
_MAX_ROWS = 4  # without scrolling
_ROW_PADDING = 6
_COLOR_WIDTH = 26


class RegionTable(QTableWidget):
    """One row for each region of the current slide; hidden while there is none.

    Parameters
    ----------
    regions
        Controller of the regions.
    """

    def __init__(self, regions: Regions) -> None:
        super().__init__(0, 4)
        self._regions = regions
        self._shown: list[tuple[object, ...]] = []
        describe(self, "region_table")
        self.setHorizontalHeaderLabels(["Name", "Class", "", "Spots"])
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setStyleSheet("QTableView::indicator:unchecked { border: 1px solid #747d86; border-radius: 2px; }")
        rows, header = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert header is not None
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(self.fontMetrics().height() + _ROW_PADDING)
        rows.setMinimumSectionSize(0)
        header.setHighlightSections(False)
        header.setMinimumSectionSize(_COLOR_WIDTH)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for column in (_NAME, _CLASS):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(_COLOR, QHeaderView.ResizeMode.Fixed)
        header.resizeSection(_COLOR, _COLOR_WIDTH)
        header.setSectionResizeMode(_SPOTS, QHeaderView.ResizeMode.ResizeToContents)
        self.setItemDelegateForColumn(_CLASS, _ClassDelegate(self))
        self.itemChanged.connect(self._on_edited)
        self.itemSelectionChanged.connect(lambda: self._regions.select(self.selected_keys()))
        self.cellClicked.connect(lambda row, column: self._ask_color(row) if column == _COLOR else None)
        self.customContextMenuRequested.connect(self._open_menu)
        self.hide()

    def show_regions(self, regions: Sequence[tuple[DrawnRegion, int]]) -> None:
        """Show the regions, each with the number of its spots."""
        rows = [(r.key, r.name, r.classification, r.color, r.is_used, n_spots) for r, n_spots in regions]
        if rows == self._shown:
            return  # a cell may be being edited
        selected = self.selected_keys()
        with QSignalBlocker(self):
            self.setRowCount(len(rows))
            for row, (key, name, kind, color, is_used, n_spots) in enumerate(rows):
                self._fill(row, (name, kind, "", f"{n_spots:,}"), color)
                first = self.item(row, _NAME)
                assert first is not None
                first.setData(_KEY, key)
                first.setCheckState(Qt.CheckState.Checked if is_used else Qt.CheckState.Unchecked)
            self.clearSelection()
            for row in [row for row, values in enumerate(rows) if values[0] in selected]:
                self._select_row(row)
        self._shown = list(rows)
        if self.selected_keys() != selected:
            self._regions.select(self.selected_keys())
        self.setVisible(bool(rows))
        self.setFixedHeight(self._height(min(len(rows), _MAX_ROWS)))

    def selected_keys(self) -> list[int]:
        """Return the keys of the selected regions."""
        return [self._key(row) for row in sorted({index.row() for index in self.selectedIndexes()})]

    @property
    def classes(self) -> list[str]:
        """The classes of the regions."""
        return sorted({str(kind) for _, _, kind, *_ in self._shown if kind})

    def sizeHint(self) -> QSize:  # noqa: D102
        return QSize(super().sizeHint().width(), self.height())

    def minimumSizeHint(self) -> QSize:  # noqa: D102
        return QSize(0, self.minimumHeight())

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: D102
        keys = self.selected_keys()
        if event is None or not keys or event.modifiers() != Qt.KeyboardModifier.NoModifier:
            super().keyPressEvent(event)
        elif event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self._regions.delete(keys)
        elif event.key() == Qt.Key.Key_Space:
            ticked = {values[0] for values in self._shown if values[4]}
            self._regions.edit(keys, used=not ticked.issuperset(keys))
        else:
            super().keyPressEvent(event)

    def _fill(self, row: int, texts: Sequence[str], color: str) -> None:
        for column, text in enumerate(texts):
            item = self.item(row, column)
            if item is None:
                item = QTableWidgetItem()
                self.setItem(row, column, item)
            item.setText(text)
            item.setToolTip(f"<qt>{escape(text)}</qt>" if text else "")  # a name may look like HTML
            flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
            if column in (_NAME, _CLASS):
                flags |= Qt.ItemFlag.ItemIsEditable
            if column == _NAME:
                flags |= Qt.ItemFlag.ItemIsUserCheckable
            item.setFlags(flags)
            if column == _COLOR:
                item.setData(Qt.ItemDataRole.DecorationRole, QColor(color))
                item.setToolTip("Click to change the color; regions of a class share it.")
            if column == _SPOTS:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def _select_row(self, row: int) -> None:
        model, selection = self.model(), self.selectionModel()
        assert model is not None
        assert selection is not None
        kinds = selection.SelectionFlag
        selection.select(model.index(row, 0), kinds.Select | kinds.Rows)

    def _key(self, row: int) -> int:
        item = self.item(row, _NAME)
        return 0 if item is None else int(item.data(_KEY))

    def _height(self, n_rows: int) -> int:
        rows, header = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert header is not None
        return header.sizeHint().height() + n_rows * rows.defaultSectionSize() + 2 * self.frameWidth()

    def _on_edited(self, item: QTableWidgetItem) -> None:
        key, (_, name, kind, _, is_used, _) = self._key(item.row()), self._shown[item.row()]
        text = item.text().strip()
        if item.column() == _CLASS and text != kind:
            keys = self.selected_keys()
            self._regions.edit(keys if key in keys else [key], classification=text)
        elif item.column() == _NAME and text != name:
            self._regions.edit([key], name=text)
        elif item.column() == _NAME and (item.checkState() == Qt.CheckState.Checked) != is_used:
            self._regions.edit([key], used=not is_used)

    def _ask_color(self, row: int) -> None:
        color = QColorDialog.getColor(QColor(str(self._shown[row][3])), self, "Color of the region")
        if color.isValid():
            self._regions.edit([self._key(row)], color=color.name())

    def _open_menu(self, at: QPoint) -> None:
        row, viewport = self.rowAt(at.y()), self.viewport()
        if row >= 0 and viewport is not None:
            self.menu(row).exec(viewport.mapToGlobal(at))

    def menu(self, row: int) -> QMenu:
        """Return the context menu of a row."""
        key = self._key(row)
        keys = self.selected_keys()
        keys = keys if key in keys else [key]
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        everything = [self._key(row) for row in range(self.rowCount())]
        others = [one for one in everything if one not in keys]
        menu.addAction("Show on the slide", lambda: self._regions.show(key))
        menu.addAction("Tick only this", lambda: self._regions.use(keys))
        if others:
            menu.addAction("Tick all", lambda: self._regions.use(everything))
        menu.addAction("Color…", lambda: self._ask_color(row))
        menu.addAction("Delete", lambda: self._regions.delete(keys))
        return menu


class _ClassDelegate(QStyledItemDelegate):
    """Editor of a class that completes the names of the classes that are in the table."""

    def createEditor(self, parent: QWidget | None, option: QStyleOptionViewItem, index: QModelIndex) -> QWidget | None:
        editor = super().createEditor(parent, option, index)
        table = self.parent()
        if isinstance(editor, QLineEdit) and isinstance(table, RegionTable):
            completer = QCompleter(table.classes, editor)
            completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
            editor.setCompleter(completer)
        return editor
