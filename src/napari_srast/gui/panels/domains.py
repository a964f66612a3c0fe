"""Panel that finds the domains of the displayed result, and shows, names, merges and saves them."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDoubleSpinBox,
    QHeaderView,
    QInputDialog,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_srast._utils.text import count
from napari_srast.analysis.domains import Domains
from napari_srast.analysis.drawing import domain_colors
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.controllers.domains import DomainDisplay
from napari_srast.gui.panels.export import NO_EXPRESSION, NO_RESULT
from napari_srast.gui.panels.save_dialog import ask_save_path
from napari_srast.gui.widgets.common import button, chooser, label
from napari_srast.gui.widgets.gene_field import EMPTY_NAME, GeneField
from napari_srast.gui.widgets.section import Section, row_of
from napari_srast.gui.widgets.tooltips import allow, describe

__all__ = ["DomainPanel"]

_SHOWN_MARKERS, _LISTED_MARKERS = 4, 15
_MAX_DOMAINS = 200
_MAX_RESOLUTION = 99.99
_SEARCHED = "The resolution is searched for the number of domains; choose 'auto' to set it."
_NO_DOMAINS = "Find the domains first."
_NOT_SAVED = "not saved"
_PADDING = 14  # pixels


class DomainPanel(QWidget):
    """Find domains, show them over the slide, and list their markers.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.section = Section("section_domains", "Domains")
        self.section.unfold(False)
        column = self.section.column
        self.number = QSpinBox()
        self.number.setRange(1, _MAX_DOMAINS)
        self.number.setSuffix(" domains")
        self.number.setSpecialValueText("auto")
        describe(self.number, "number_of_domains")
        self.number.valueChanged.connect(lambda _: self._allow())
        self.resolution = QDoubleSpinBox()
        self.resolution.setRange(0.0, _MAX_RESOLUTION)
        self.resolution.setSpecialValueText("resolution auto")  # of 0
        self.resolution.setSingleStep(0.1)
        self.resolution.setPrefix("resolution ")
        describe(self.resolution, "domain_resolution")
        self.genes = GeneField("domain_genes", "all with expression")
        self.genes.textChanged.connect(lambda _: self._allow())
        self.start = button("find_domains", "Find", self._find)
        self.sets = chooser("domain_sets")
        self.sets.activated.connect(lambda _: controller.domains.choose(self.sets.currentData()))
        self.display = chooser("show_domains", ("Fill", "Outlines", "Hidden"))
        self.display.activated.connect(lambda _: self._set_display())
        self.merge = button("merge_domains", "Merge", self._merge)
        self.save = button("save_domains", "Save…", self._save)
        self.markers = button("save_markers", "Markers…", self._save_markers)
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["Domain", "Pixels", "Markers"])
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setTabKeyNavigation(False)  # Tab moves to the next control, as elsewhere
        self.table.setMinimumHeight(110)
        rows, header = self.table.verticalHeader(), self.table.horizontalHeader()
        assert rows is not None
        assert header is not None
        rows.hide()
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        for column_index, widest in enumerate(("stroma, tumor", "100,000")):
            header.resizeSection(column_index, self.table.fontMetrics().horizontalAdvance(widest) + _PADDING)
        describe(self.table, "domain_table")
        self.table.itemChanged.connect(self._rename)
        self.table.itemSelectionChanged.connect(self._allow)
        self.note = label()
        column.addWidget(self.genes)
        column.addLayout(row_of(self.number, self.resolution))
        column.addLayout(row_of(self.start, self.markers))
        column.addWidget(self.sets)
        column.addWidget(self.table)
        column.addLayout(row_of(self.display, self.merge, self.save))
        column.addWidget(self.note)
        self.section.fill(self)
        controller.domains.changed.connect(self.refresh)
        controller.results.result_changed.connect(self.refresh)
        controller.tasks.state_changed.connect(self._allow)
        self.refresh()

    def refresh(self) -> None:
        """List the domains of the displayed result."""
        found = self._controller.domains.current
        with QSignalBlocker(self.table):
            self._fill(found)
        self._list_sets()
        self.note.setText("" if found is None else _note(found))
        self.section.set_summary("" if found is None else f"{len(found.sizes):,}")
        self._allow()

    def _list_sets(self) -> None:
        """List the sets of domains to choose from; without saved ones there is no choice."""
        maps = self._controller.domains
        self.sets.clear()
        for name in maps.saved:
            self.sets.addItem(f"saved: {name}", name)
        if maps.has_unsaved:
            self.sets.addItem(_NOT_SAVED, None)
        shown = _NOT_SAVED if maps.chosen is None else f"saved: {maps.chosen}"
        self.sets.setCurrentIndex(self.sets.findText(shown))
        self.sets.setVisible(bool(maps.saved))

    def _fill(self, found: Domains | None) -> None:
        self.table.setRowCount(0 if found is None else len(found.sizes))
        if found is None:
            return
        colors = domain_colors(len(found.sizes))
        higher = found.markers[found.markers["log2_fold_change"] > 0]
        groups = {str(name): list(group["gene"]) for name, group in higher.groupby("domain", sort=False)}
        for i, (name, size) in enumerate(found.sizes.items()):
            genes = groups.get(str(name), [])[:_LISTED_MARKERS]
            for column, text in enumerate((str(name), f"{size:,}", ", ".join(genes[:_SHOWN_MARKERS]))):
                item = QTableWidgetItem(text)
                if column == 0:
                    item.setData(Qt.ItemDataRole.DecorationRole, QColor.fromRgbF(*colors[i]))
                    item.setData(Qt.ItemDataRole.UserRole, str(name))
                else:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                item.setToolTip(", ".join(genes))
                self.table.setItem(i, column, item)

    def _allow(self) -> None:
        """Enable the controls that can be used now."""
        controller = self._controller
        displayed, found = controller.results.current, controller.domains.current
        busy = controller.tasks.busy_reason()
        no_result = NO_RESULT if displayed is None else None
        without = displayed is not None and len(displayed.result.expression_columns) == 0
        no_expression = NO_EXPRESSION if without else None
        no_start = no_result or no_expression or busy
        for control in (self.number, self.genes):
            allow(control, no_start)
        allow(self.resolution, no_start or (_SEARCHED if self._n_domains() is not None else None))
        allow(self.start, no_start or (EMPTY_NAME if self.genes.names() is None else None))
        no_domains = no_result or (_NO_DOMAINS if found is None else None)
        for other in (self.display, self.table):
            allow(other, no_domains)
        no_markers = "The domains have no markers." if found is not None and found.markers.empty else None
        allow(self.markers, no_domains or busy or no_markers)
        few = "Select at least two domains." if len(self._selected()) < 2 else None
        allow(self.merge, no_domains or busy or few)
        source = None if found is None else found.result.slide.source
        no_store = source is not None and (source.path is None or source.synthetic)
        allow(self.save, no_domains or busy or ("The slide was not read from a store." if no_store else None))

    def _selected(self) -> list[str]:
        items = (self.table.item(index, 0) for index in sorted({item.row() for item in self.table.selectedItems()}))
        return [item.data(Qt.ItemDataRole.UserRole) for item in items if item is not None]

    def _n_domains(self) -> int | None:
        """Return the chosen number of domains; None for the resolution."""
        number = self.number.value()
        return None if number < 2 else number

    def _find(self) -> None:
        self._controller.domains.find(
            self._n_domains(), resolution=self.resolution.value() or None, genes=self.genes.names() or None
        )

    def _merge(self) -> None:
        self._controller.domains.merge(self._selected())

    def _save(self) -> None:
        """Ask for a name, because a store may hold several sets of domains, and save them."""
        name, is_confirmed = QInputDialog.getText(self, "Save domains", "Name of the column:", text="domains")
        if is_confirmed:
            self._controller.domains.save(name.strip())

    def _save_markers(self) -> None:
        """Ask for a file, and save the markers of all domains."""
        path = ask_save_path(self, self._controller, "Save the markers", [".csv"], "markers")
        if path is not None:
            self._controller.domains.save_markers(path)

    def _rename(self, item: QTableWidgetItem) -> None:
        if item.column() == 0:
            self._controller.domains.rename(item.data(Qt.ItemDataRole.UserRole), item.text())

    def _set_display(self) -> None:
        displays: tuple[DomainDisplay, ...] = ("fill", "outlines", "hidden")
        self._controller.domains.set_display(displays[self.display.currentIndex()])


def _note(found: Domains) -> str:
    """Return what domains were found by, and what differs from the request."""
    by = f"By {count(len(found.genes), 'gene')} at resolution {found.resolution:.3g}."
    return " ".join([by, *found.notices, str(found.markers.attrs.get("note", ""))])
