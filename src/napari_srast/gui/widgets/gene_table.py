"""Table model for tens of thousands of genes with check boxes, filtering and sorting.

The model filters and sorts its rows with one pass over the names. A ``QSortFilterProxyModel`` queries each row from
Python and reports each run of hidden rows separately, which causes a noticeable delay with 20,000 genes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from psygnal import Signal
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt
from qtpy.QtGui import QColor, QFont, QPainter, QPixmap

from napari_srast.core.gene_list import without_version

__all__ = ["Column", "GeneTableModel", "Listing"]

Listing = Literal["all", "checked", "favorites"]

_NO_INDEX = QModelIndex()
_SYMBOL = 12  # pixels, side of a mark


@dataclass(frozen=True, eq=False)
class Column:
    """A column of the gene table.

    Parameters
    ----------
    title
        Heading.
    values
        One value per gene, shape (G,); numbers or text.
    text
        Formats one value.
    tooltip
        Tooltip of the heading.
    marks
        A mark before each value with its color and its tooltip, G tuples; None for no marks.
    """

    title: str
    values: np.ndarray
    text: Callable[[Any], str]
    tooltip: str = ""
    marks: Sequence[tuple[str, str, str]] | None = None


class GeneTableModel(QAbstractTableModel):
    """Table of genes with check boxes and further columns.

    Parameters
    ----------
    limit
        Largest number of checked genes; None for no limit.

    Attributes
    ----------
    checked_changed
        Signal, emitted after the checked genes have changed.
    refused
        Signal, emitted if a gene was not checked because of the limit.
    """

    checked_changed = Signal()
    refused = Signal()

    def __init__(self, parent: QObject | None = None, *, limit: int | None = None) -> None:
        super().__init__(parent)
        self._limit = limit
        self._genes: list[str] = []
        self._folded: list[str] = []
        self._searched: list[str] = []  # names and ids
        self._row_of: dict[str, int] = {}
        self._columns: tuple[Column, ...] = ()
        self._checked = np.zeros(0, dtype=bool)
        self._rows = np.zeros(0, dtype=np.int64)
        self._order = np.zeros(0, dtype=np.int64)
        self._initial = self._order
        self._sorted_by: tuple[str, Qt.SortOrder] | None = None
        self._filter = ""
        self._listing: Listing = "all"
        self._favorites: frozenset[str] = frozenset()
        self._swatches: dict[str, QPixmap] = {}

    # ---------------------------------------------------------------- genes

    def set_genes(
        self,
        genes: Iterable[str],
        columns: Sequence[Column] = (),
        *,
        order: np.ndarray | None = None,
        ids: Iterable[str] | None = None,
    ) -> None:
        """Replace all genes and uncheck them; the filter, and the column that the user sorts by, are not changed.

        Parameters
        ----------
        genes
            Names of the genes.
        columns
            Further columns.
        order
            Indices of the genes in the order in which they are listed until the user sorts them, shape (G,). None: as
            given.
        ids
            Second name of each gene, such as its Ensembl id, which the filter finds, too. None: there are none.
        """
        self.beginResetModel()
        self._genes = [str(g) for g in genes]
        self._folded = [g.casefold() for g in self._genes]
        second = self._genes if ids is None else [str(name) for name in ids]
        self._searched = [f"{g}\n{name.casefold()}" for g, name in zip(self._folded, second, strict=True)]
        self._row_of = {g: i for i, g in enumerate(self._genes)}
        self._columns = tuple(columns)
        self._checked = np.zeros(len(self._genes), dtype=bool)
        self._initial = np.arange(len(self._genes)) if order is None else order
        self._order = self._sort_rows()
        self._swatches = {}
        self._rows = self._visible()
        self.endResetModel()
        self.checked_changed.emit()

    @property
    def n_genes(self) -> int:
        """Number of genes, listed or not."""
        return len(self._genes)

    @property
    def checked(self) -> list[str]:
        """The checked genes, in the order of :meth:`set_genes`."""
        return [self._genes[i] for i in np.flatnonzero(self._checked)]

    @property
    def listed(self) -> list[str]:
        """The genes that match the filter, in table order."""
        return [self._genes[i] for i in self._rows]

    def check(self, genes: Iterable[str], *, only: bool = False) -> None:
        """Check genes, up to the limit.

        Parameters
        ----------
        genes
            Names of genes; names that are not in the table are ignored.
        only
            Whether to uncheck all other genes.
        """
        wanted = np.zeros(len(self._genes), dtype=bool) if only else self._checked.copy()
        for gene in genes:
            if gene in self._row_of:
                wanted[self._row_of[gene]] = True
        self._set_checked(wanted)

    def toggle(self, gene: str) -> None:
        """Check a gene if it is unchecked, else uncheck it."""
        self._toggle(self._row_of[gene])

    def uncheck_all(self) -> None:
        """Uncheck every gene."""
        self._set_checked(np.zeros(len(self._genes), dtype=bool))

    def set_swatches(self, colors: dict[str, str]) -> None:
        """Show a colored square next to some genes; ``colors`` maps names to "#rrggbb"."""
        self._swatches = {}
        for gene, color in colors.items():
            square = QPixmap(12, 12)
            square.fill(QColor(color))
            self._swatches[gene] = square
        self._repaint()

    # ----------------------------------------------------- filter and order

    def set_filter(self, text: str) -> None:
        """List only genes whose name contains ``text``, ignoring case."""
        self._filter = without_version(text.strip()).casefold()
        self._reset_rows()

    def set_listing(self, listing: Listing) -> None:
        """List all genes, only checked ones, or only favorites."""
        self._listing = listing
        self._reset_rows()

    def set_favorites(self, genes: Iterable[str]) -> None:
        """Mark the user's favorites."""
        self._favorites = frozenset(genes)
        if self._listing == "favorites":
            self._reset_rows()
        else:
            self._repaint()

    def gene_at(self, index: QModelIndex) -> str | None:
        """Return the gene in the row of an index; None for an invalid index."""
        return self._genes[self._rows[index.row()]] if index.isValid() else None

    @property
    def sorted_column(self) -> tuple[int, Qt.SortOrder]:
        """Column by which the genes are sorted, and the direction; column -1 for the initial order."""
        if self._sorted_by is not None:
            for column in range(1 + len(self._columns)):
                if self._title(column) == self._sorted_by[0]:
                    return column, self._sorted_by[1]
        return -1, Qt.SortOrder.AscendingOrder

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by name (column 0) or by another column; missing values come last in both orders.

        The choice also holds for genes that are set later, if they have a column of this title. Column -1 returns to
        the initial order.
        """
        self._sorted_by = (self._title(column), order) if 0 <= column <= len(self._columns) else None
        self._order = self._sort_rows()
        self._reset_rows()

    def longest_number(self, column: int) -> str:
        """Return the longest number of a column, of its smallest and its largest value; empty for other columns."""
        values = self._columns[column - 1].values if column > 0 else np.zeros(0, dtype=str)
        if values.dtype.kind not in "fiu" or not np.isfinite(values.astype(float)).any():
            return ""
        longest = max((self._columns[column - 1].text(end(values)) for end in (np.nanmin, np.nanmax)), key=len)
        has_marks = self._columns[column - 1].marks is not None
        return f"■■{longest}" if has_marks else longest  # a symbol and its gap

    def _title(self, column: int) -> str:
        return "Gene" if column == 0 else self._columns[column - 1].title

    def _sort_rows(self) -> np.ndarray:
        """Return the indices of all genes in the chosen order."""
        column, order = self.sorted_column
        descending = order == Qt.SortOrder.DescendingOrder
        if column < 0:
            return self._initial
        if column > 0 and self._columns[column - 1].values.dtype.kind in "fiu":
            numbers = self._columns[column - 1].values.astype(float)
            flipped = -numbers if descending else numbers
            return np.argsort(np.where(np.isnan(numbers), np.inf, flipped), kind="stable")
        texts = np.array(self._folded, dtype=object) if column == 0 else self._columns[column - 1].values.astype(str)
        keys: np.ndarray = np.argsort(texts, kind="stable")
        return keys[::-1] if descending else keys

    def _visible(self) -> np.ndarray:
        mask = np.ones(len(self._genes), dtype=bool)
        if self._filter:
            mask &= np.fromiter((self._filter in g for g in self._searched), dtype=bool, count=len(self._searched))
        if self._listing == "checked":
            mask &= self._checked
        elif self._listing == "favorites":
            mask &= np.fromiter((g in self._favorites for g in self._genes), dtype=bool, count=len(self._genes))
        return self._order[mask[self._order]]

    def _reset_rows(self) -> None:
        self.beginResetModel()
        self._rows = self._visible()
        self.endResetModel()

    def _repaint(self) -> None:
        if len(self._rows):
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._rows) - 1, len(self._columns)))

    def _toggle(self, row: int) -> None:
        wanted = self._checked.copy()
        wanted[row] = not wanted[row]
        self._set_checked(wanted)

    def _set_checked(self, wanted: np.ndarray) -> None:
        if self._limit is not None and wanted.sum() > self._limit:
            added = np.flatnonzero(wanted & ~self._checked)
            wanted = wanted.copy()
            wanted[added[max(self._limit - int((wanted & self._checked).sum()), 0) :]] = False
            self.refused.emit()
        if (wanted == self._checked).all():
            self._repaint()
            return
        self._checked = wanted
        if self._listing == "checked":
            self._reset_rows()
        else:
            self._repaint()
        self.checked_changed.emit()

    # --------------------------------------------------------------- Qt API

    def rowCount(self, parent: QModelIndex = _NO_INDEX) -> int:  # noqa: D102
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex = _NO_INDEX) -> int:  # noqa: D102
        return 0 if parent.isValid() else 1 + len(self._columns)

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:  # noqa: D102
        if not index.isValid():
            return Qt.ItemFlag.NoItemFlags
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        return flags | Qt.ItemFlag.ItemIsUserCheckable if index.column() == 0 else flags

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: D102
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self._title(section)
        if role == Qt.ItemDataRole.ToolTipRole and section > 0:
            return self._columns[section - 1].tooltip
        if role == Qt.ItemDataRole.InitialSortOrderRole and section > 0:
            is_number = self._columns[section - 1].values.dtype.kind in "fiu"
            return int(is_number)  # numbers are sorted in descending order first
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: D102
        if not index.isValid():
            return None
        row, column = int(self._rows[index.row()]), index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            if column == 0:
                gene = self._genes[row]
                return f"★ {gene}" if gene in self._favorites else gene
            values = self._columns[column - 1]
            return values.text(values.values[row])
        if column == 0:
            if role == Qt.ItemDataRole.CheckStateRole:
                return Qt.CheckState.Checked if self._checked[row] else Qt.CheckState.Unchecked
            if role == Qt.ItemDataRole.DecorationRole:
                return self._swatches.get(self._genes[row])
        marks = self._columns[column - 1].marks if column > 0 else None
        if marks is not None and role == Qt.ItemDataRole.DecorationRole:
            return _symbol(*marks[row][:2])
        if marks is not None and role == Qt.ItemDataRole.ToolTipRole:
            return marks[row][2]
        if marks is not None and role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{marks[row][0]} {self.data(index)}"
        if (
            column > 0
            and role == Qt.ItemDataRole.TextAlignmentRole
            and self._columns[column - 1].values.dtype.kind in "fiu"
        ):
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:  # noqa: D102
        if role != Qt.ItemDataRole.CheckStateRole or index.column() != 0:
            return False
        row = self._rows[index.row()]
        if self._checked[row] != (Qt.CheckState(value) == Qt.CheckState.Checked):
            self._toggle(row)
        return True


@functools.lru_cache(maxsize=16)
def _symbol(text: str, color: str) -> QPixmap:
    """Return a picture of a mark; a colored text would have too little contrast on one of the themes."""
    picture = QPixmap(2 * _SYMBOL, 2 * _SYMBOL)
    picture.setDevicePixelRatio(2.0)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    font = QFont()
    font.setPixelSize(_SYMBOL)
    font.setBold(True)
    painter.setFont(font)
    painter.setPen(QColor(color))
    painter.drawText(0, 0, _SYMBOL, _SYMBOL, Qt.AlignmentFlag.AlignCenter, text)
    painter.end()
    return picture
