"""Create the basic widgets of the panels."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

from qtpy.QtCore import QAbstractItemModel, QEvent, QSignalBlocker, QSize, Qt
from qtpy.QtGui import QKeyEvent, QResizeEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFrame,
    QHeaderView,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QTableView,
    QWidget,
)

from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.widgets.gene_table import GeneTableModel, Listing
from napari_srast.gui.widgets.option_names import name_controls
from napari_srast.gui.widgets.tooltips import describe

__all__ = [
    "MessageArea",
    "VerticalScrollArea",
    "allow_narrow",
    "button",
    "chooser",
    "gene_view",
    "label",
    "listing_chooser",
    "table_view",
]


_COLUMN_WIDTH = 46  # pixels; leaves room for gene names next to five columns in the narrowest dock
_ARROW = 12
_TITLE_PADDING = 8
_CELL_PADDING = 14
_NAME_WIDTH = 105  # of a gene, with its check box and color
_ROW_PADDING = 6
_MIN_TABLE_HEIGHT = 140
_MESSAGE_LINES = 6
_WORD_MARGIN = 12  # pixels: Qt would wrap a word that just fits at its ellipsis
_WORD = re.compile(r"[^\s/-]{24,}")  # that Qt does not wrap, and that may be wider than a narrow label


def button(name: str, text: str, clicked: Callable[[], object]) -> QPushButton:
    """Create a push button with its tooltip."""
    control = QPushButton(text)
    describe(control, name)
    control.clicked.connect(lambda: clicked())
    return control


def chooser(name: str, items: tuple[str, ...] = ()) -> QComboBox:
    """Create a combo box with its tooltip; it may be narrower than its longest item."""
    control = QComboBox()
    control.addItems(list(items))
    allow_narrow(control)
    describe(control, name)
    return control


def allow_narrow(control: QComboBox) -> None:
    """Let a combo box be narrower than its longest item."""
    control.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    control.setMinimumWidth(78)
    control.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


class _WrappedLabel(QLabel):
    """Label that is as high as its text at its width; Qt assumes a narrow label, which is higher.

    Messages that it shows name controls of the window instead of options of the command line. A word that is wider than
    the label, such as a long gene name, is shortened in its middle, and the tooltip has the whole text.
    """

    _whole = ""

    def setText(self, text: str | None) -> None:
        self._whole = name_controls(text or "")
        self._show()

    def _show(self) -> None:
        text = self._whole
        if self.textFormat() == Qt.TextFormat.PlainText:
            metrics, room = self.fontMetrics(), self.contentsRect().width() - _WORD_MARGIN
            text = _WORD.sub(lambda word: metrics.elidedText(word[0], Qt.TextElideMode.ElideMiddle, room), text)
            self.setToolTip("" if text == self._whole else f"<qt>{escape(self._whole)}</qt>")
        if text != self.text():
            super().setText(text)

    def sizeHint(self) -> QSize:
        return QSize(super().sizeHint().width(), self.minimumSizeHint().height())

    def minimumSizeHint(self) -> QSize:
        return QSize(0, max(self.heightForWidth(max(self.width(), 1)), 0))

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        if event is not None and event.oldSize().width() != self.width():
            self._show()
            self.updateGeometry()


def label(text: str = "") -> QLabel:
    """Create a label that wraps its text instead of widening the dock."""
    control = _WrappedLabel(name_controls(text))
    control.setTextFormat(Qt.TextFormat.PlainText)  # names of layers and elements may look like HTML
    control.setWordWrap(True)
    control.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    control.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return control


def listing_chooser(name: str, checked: str, model: GeneTableModel) -> QComboBox:
    """Create a combo box that limits a gene table to checked genes or favorites.

    Parameters
    ----------
    name
        Object name, for the tooltip.
    checked
        Label of the checked genes, such as "Ticked".
    model
        The gene table.
    """
    control = chooser(name)
    kinds: tuple[tuple[str, Listing], ...] = (("All", "all"), (checked, "checked"), ("Favorites", "favorites"))
    for text, kind in kinds:
        control.addItem(text, kind)
    control.currentIndexChanged.connect(lambda _: model.set_listing(control.currentData()))
    return control


class VerticalScrollArea(QScrollArea):
    """Scroll area that scrolls vertically only and is never narrower than its content."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:  # noqa: D102
        content, bar = self.widget(), self.verticalScrollBar()
        width = 0 if content is None else content.minimumSizeHint().width()
        return QSize(width + (0 if bar is None else bar.sizeHint().width()), 200)


class MessageArea(VerticalScrollArea):
    """Show a label as high as its text, up to a few lines; a longer text scrolls and leaves the panel its room.

    Parameters
    ----------
    text
        A label that wraps its text.
    """

    def __init__(self, text: QLabel) -> None:
        super().__init__(text)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:  # noqa: D102
        text = self.widget()
        whole = 0 if text is None else text.minimumSizeHint().height()
        most = _MESSAGE_LINES * self.fontMetrics().lineSpacing()
        return QSize(0, min(whole, most) + 2 * self.frameWidth())  # napari's style gives the area a frame

    def minimumSizeHint(self) -> QSize:  # noqa: D102
        return self.sizeHint()

    def viewportEvent(self, event: QEvent | None) -> bool:  # noqa: D102
        if event is not None and event.type() == QEvent.Type.LayoutRequest:  # the text has changed
            self.updateGeometry()
        return super().viewportEvent(event)

    def show_first_line(self) -> None:
        """Scroll back to the beginning."""
        bar = self.verticalScrollBar()
        if bar is not None:
            bar.setValue(bar.minimum())


class _GeneView(QTableView):
    """Gene table in which F toggles a favorite and the space bar a check box, whatever the current column.

    After each change a ``QTreeView`` queries all rows from Python, which takes 0.1 s for 20,000 genes. A ``QTableView``
    with a fixed row height queries the visible rows only.
    """

    def __init__(self, model: GeneTableModel, controller: Controller) -> None:
        super().__init__()
        self._controller, self._genes = controller, model
        self._widths: dict[int, int] = {}
        self.setModel(model)

    def sizeHint(self) -> QSize:
        """Return the smallest size: the table grows where there is room, but never needs a scroll bar of the page."""
        return QSize(super().sizeHint().width(), self.minimumHeight())

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        self.hide_columns_without_room()

    def hide_columns_without_room(self) -> None:
        """Hide the last columns while the names of the genes would have too little room."""
        header, viewport = self.horizontalHeader(), self.viewport()
        assert header is not None
        assert viewport is not None
        room = viewport.width() - _NAME_WIDTH
        for column in range(1, header.count()):
            room -= self._widths.get(column, _COLUMN_WIDTH)
            header.setSectionHidden(column, room < 0)

    def set_column_widths(self, widths: dict[int, int]) -> None:
        """Set the widths of columns in pixels, by their index."""
        header = self.horizontalHeader()
        assert header is not None
        self._widths = widths
        for column, width in widths.items():
            header.setSectionHidden(column, False)
            header.resizeSection(column, width)
        self.hide_columns_without_room()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        gene = self._genes.gene_at(self.currentIndex())
        if event is None or gene is None or event.modifiers() != Qt.KeyboardModifier.NoModifier:
            super().keyPressEvent(event)
        elif event.key() == Qt.Key.Key_F:
            self._controller.preferences.toggle_favorite(gene)
        elif event.key() == Qt.Key.Key_Space:
            self._genes.toggle(gene)
        else:
            super().keyPressEvent(event)


def _title_width(header: QHeaderView, column: int) -> int:
    """Return the width that the title of a column needs, with the arrow of a sorted column."""
    style, model = header.style(), header.model()
    assert style is not None
    assert model is not None
    title = str(model.headerData(column, Qt.Orientation.Horizontal))
    arrow = style.pixelMetric(QStyle.PixelMetric.PM_HeaderMarkSize, None, header)
    return header.fontMetrics().horizontalAdvance(title) + min(arrow, _ARROW) + _TITLE_PADDING


def _set_up_table(view: QTableView) -> QHeaderView:
    """Give a table rows of a fixed height that are selected as a whole, and return its header."""
    view.setShowGrid(False)
    view.setWordWrap(False)
    view.setTabKeyNavigation(False)  # Tab moves to the next control, as elsewhere
    view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    rows, header = view.verticalHeader(), view.horizontalHeader()
    assert rows is not None
    assert header is not None
    rows.hide()
    rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
    rows.setDefaultSectionSize(view.fontMetrics().height() + _ROW_PADDING)
    header.setHighlightSections(False)
    return header


def table_view(name: str, model: QAbstractItemModel) -> QTableView:
    """Create the view of a table that is sorted by its column headings, in the order of the model at first."""
    view = QTableView()
    view.setModel(model)
    view.setMinimumHeight(_MIN_TABLE_HEIGHT)
    _set_up_table(view).setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
    view.setSortingEnabled(True)
    describe(view, name)
    return view


def gene_view(name: str, model: GeneTableModel, controller: Controller) -> QTableView:
    """Create the view of a gene table, sortable by its column headings."""
    view = _GeneView(model, controller)
    header = _set_up_table(view)
    view.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # names of genes may differ at their end only
    view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    header.setStretchLastSection(False)
    header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
    header.setSortIndicatorClearable(False)
    view.setSortingEnabled(True)
    # napari's theme draws an unchecked box in the background color of the table.
    view.setStyleSheet("QTableView::indicator:unchecked { border: 1px solid #747d86; border-radius: 2px; }")
    describe(view, name)

    n_fitted = 0

    def fit() -> None:
        """Set column widths when the columns have changed, not after each keystroke in the filter, and the arrow."""
        nonlocal n_fitted
        with QSignalBlocker(header):  # the model is sorted already
            header.setSortIndicator(*model.sorted_column)
        if header.count() == n_fitted:
            return
        n_fitted = header.count()
        if n_fitted:
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        widths = {}
        for column in range(1, header.count()):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Interactive)
            number = model.longest_number(column)
            longest = max(header.fontMetrics().horizontalAdvance(number), view.fontMetrics().horizontalAdvance(number))
            longest += _CELL_PADDING
            widths[column] = max(_COLUMN_WIDTH, longest, _title_width(header, column))
        view.set_column_widths(widths)

    controller.preferences.favorites_changed.connect(lambda: model.set_favorites(controller.preferences.genes))
    model.set_favorites(controller.preferences.genes)
    model.modelReset.connect(fit)
    return view
