"""The part of the window that explores a result: genes on show, before and after, and what lies under the pointer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from napari.settings import get_plugin_settings
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_srast.errors import InputError
from napari_srast.gui.controllers.comparison import (
    comparable,
    counterpart,
    image_difference,
    looked_at_image,
    meaning_of,
)
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.layers.cursor_readout import PixelReadout
from napari_srast.gui.layers.overlay import MAX_GENES, ViewMode
from napari_srast.gui.panels.export import NO_RESULT, ExportPanel
from napari_srast.gui.panels.genes import structure_column
from napari_srast.gui.panels.legend import Legend
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.run_request import result_title
from napari_srast.gui.widgets.common import (
    VerticalScrollArea,
    button,
    chooser,
    gene_view,
    group,
    label,
    listing_chooser,
)
from napari_srast.gui.widgets.gene_table import Column, GeneTableModel, read_gene_list
from napari_srast.gui.widgets.tooltips import allow, describe

__all__ = ["ResultPanel"]

_POINT = "Point at a pixel to read its counts."


class ResultPanel(QWidget):
    """The results of a slide, their genes, and how they are shown."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._filling = False
        self._to_compare: list[DisplayedResult | None] = [None]
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(6, 6, 6, 6)
        column.addLayout(self._results_rows())
        column.addWidget(self._genes_box(), 1)
        self.export_panel = ExportPanel(controller)
        column.addWidget(self.export_panel)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(VerticalScrollArea(page))
        controller.results.result_changed.connect(self._on_result)
        controller.slides.slide_changed.connect(self._list_results)
        controller.results.display_changed.connect(self._on_shown)
        controller.tasks.state_changed.connect(self.refresh_allowed)
        controller.results.cursor_readout_changed.connect(self._on_pointed)
        self._on_result()

    def _results_rows(self) -> QVBoxLayout:
        self.results = chooser("open_results")
        self.results.activated.connect(self._choose_result)
        self.reuse = button("reuse_settings", "Reuse settings", self._controller.results.restore_settings)
        self.close_result = button("close_result", "Close", self._controller.results.drop)
        rows = QVBoxLayout()
        rows.setSpacing(4)
        rows.addWidget(self.results)  # a row of its own: what tells results apart comes last in their names
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.reuse, 1)
        row.addWidget(self.close_result, 1)
        rows.addLayout(row)
        return rows

    def _genes_box(self) -> QWidget:
        box, column = group("Genes on show")
        self.model = GeneTableModel(self, limit=MAX_GENES)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter genes")
        self.filter.setClearButtonEnabled(True)
        describe(self.filter, "result_filter")
        self.filter.textChanged.connect(self.model.set_filter)
        self.listing = listing_chooser("result_list_genes", "On show", self.model)
        self.load = button("result_import", "List…", self._choose_list)
        self.hide_all = button("hide_all", "Hide all", self.model.uncheck_all)
        row = QHBoxLayout()
        row.addWidget(self.filter, 2)
        row.addWidget(self.listing, 1)
        row.addWidget(self.load)
        row.addWidget(self.hide_all)
        column.addLayout(row)
        self.view = gene_view("result_table", self.model, self._controller)
        self.view.setMinimumHeight(90)  # more where there is room, without a scroll bar for it
        self.view.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        column.addWidget(self.view, 1)
        self.model.checked_changed.connect(self._on_checked)
        self.model.refused.connect(
            lambda: self._controller.messages.error_message.emit(
                f"At most {MAX_GENES} genes can be told apart; untick one first."
            )
        )
        self.views: dict[ViewMode, QPushButton] = {}
        row = QHBoxLayout()
        row.setSpacing(4)
        self._view_group = QButtonGroup(self)
        titles: tuple[tuple[ViewMode, str], ...] = (
            ("before", "Before"),
            ("after", "After"),
            ("side_by_side", "Side by side"),
            ("std", "Uncertainty"),
        )
        for view, title in titles:
            control = button(f"view_{view}", title, partial(self.set_view, view))
            control.setCheckable(True)
            self._view_group.addButton(control)
            self.views[view] = control
            row.addWidget(control)
        column.addLayout(row)
        self.compare = chooser("compare_with")
        self.compare.activated.connect(self._compare)
        row = QHBoxLayout()
        row.addWidget(QLabel("Compare with"))
        row.addWidget(self.compare, 1)
        column.addLayout(row)
        self.legend = Legend(self._controller)
        self.meaning = label()
        self.pointed = label()
        self.pointed.setMinimumHeight(34)  # two lines
        self.pointed.setAlignment(Qt.AlignmentFlag.AlignTop)
        column.addWidget(self.legend)
        column.addWidget(self.meaning)
        column.addWidget(self.pointed)
        row = QHBoxLayout()
        self.brightness_label = QLabel("Histology")
        self.brightness = QSlider(Qt.Orientation.Horizontal)
        self.brightness.setRange(0, 100)
        self.brightness.setValue(int(get_plugin_settings("napari-srast").defaults.histology))
        describe(self.brightness, "dim_histology")
        self.brightness.valueChanged.connect(self._on_brightness)
        row.addWidget(self.brightness_label)
        row.addWidget(self.brightness, 1)
        column.addLayout(row)
        return box

    def refresh_allowed(self) -> None:
        """Enable what can be done now."""
        finished = self._controller.results.current
        none = None if finished is not None else NO_RESULT
        for control in (
            *(self.filter, self.listing, self.load, self.hide_all, self.view, self.reuse, self.close_result),
            *(self.views[view] for view in ("before", "after", "side_by_side")),
            self.compare,
        ):
            allow(control, none)
        no_std = finished is not None and finished.result.std is None
        allow(self.views["std"], none or ("Run with the mode 'sample' to have the uncertainty." if no_std else None))
        slide = self._controller.slides.slide
        no_image = None if slide is None or slide.image is not None else "The slide has no histology."
        allow(self.brightness, none or no_image)
        allow(self.results, None if self.results.count() else NO_RESULT)

    # -------------------------------------------------------------- results

    def _list_results(self) -> None:
        """List the results in memory, then those on the disk that are not among them."""
        controller = self._controller
        self.results.clear()
        has_image = controller.slides.slide is not None and controller.slides.slide.image is not None
        for number, finished in enumerate(controller.results.all, start=1):
            blind = has_image and finished.result.settings.method == "srast" and not looked_at_image(finished.result)
            self.results.addItem(f"{result_title(number, finished)}{', without the image' if blind else ''}")
        known = {finished.result.run for finished in controller.results.all}
        runs = () if controller.slides.loaded is None else controller.slides.loaded.choices.runs
        for run in runs:
            if run not in known:
                self.results.addItem(f"saved: {run}", run)
        here = (
            controller.results.all.index(controller.results.current) if controller.results.current is not None else -1
        )
        self.results.setCurrentIndex(here)
        self.results.setPlaceholderText("No result yet" if not self.results.count() else "Choose a saved result")

    def _choose_result(self, place: int) -> None:
        controller = self._controller
        if place < len(controller.results.all):
            controller.results.choose(controller.results.all[place])
        elif controller.tasks.busy_reason() is not None:
            controller.messages.error_message.emit(str(controller.tasks.busy_reason()))
            self._list_results()
        else:
            controller.results.open_saved(self.results.itemData(place))

    def _list_compared(self) -> None:
        """List what the result on show can be compared with; what must be run for it comes last."""
        current, self._to_compare = self._controller.slides.current, [None]
        self.compare.clear()
        self.compare.addItem("measured counts")
        if current is None or current.result is None:
            return
        for other in comparable(current):
            what = image_difference(current.result.result, other.result)
            self.compare.addItem(f"{what} ({current.results.index(other) + 1})")
            self._to_compare.append(other)
        if counterpart(current) is not None:
            self.compare.addItem(f"with{'out' if looked_at_image(current.result.result) else ''} the image (run it)")

    def _compare(self, place: int) -> None:
        if place < len(self._to_compare):
            self._controller.results.compare_with(self._to_compare[place])
        else:
            self._controller.runs.submit_counterpart()
            self._on_shown()  # until it has run, the comparison stays as it was

    def _on_result(self) -> None:
        finished = self._controller.results.current
        self._list_results()
        self._list_compared()
        self._filling = True  # that no gene is ticked in a fresh list does not mean that none is to be shown
        if finished is None:
            self.model.set_genes([])
        else:
            self.model.set_genes(finished.result.genes, self._columns())
        self._filling = False
        if finished is not None:
            self.view.sortByColumn(1, Qt.SortOrder.DescendingOrder)
            self._on_brightness(self.brightness.value())
        self._on_pointed(PixelReadout())
        self._on_shown()
        self.refresh_allowed()

    def _columns(self) -> list[Column]:
        """Return what genes can be ordered by: skill, counts, spatial structure, and the method of the map."""
        finished, opened = self._controller.results.current, self._controller.slides.loaded
        assert finished is not None
        assert opened is not None
        result = finished.result
        skill = Column(
            "Skill",
            np.asarray(result.skill, dtype=float),
            lambda v: "–" if np.isnan(v) else f"{v:+.3f}",
            "Nats per count gained over an even split, measured on this very slide; above 0 is better, – is not known",
        )
        columns = [skill, Column("Counts", finished.totals, lambda v: f"{v:,.0f}", "Counts of the gene in the region")]
        if opened.structure is not None:
            columns.append(
                structure_column(opened.structure[result.slide.gene_indices([str(g) for g in result.genes])])
            )
        source = Column("Map", np.asarray(result.method).astype(str), str, "Method that the gene's map came from")
        return [*columns, source]

    # ---------------------------------------------------------------- genes

    def _on_shown(self) -> None:
        overlay = self._controller.results.overlay
        shown = [] if overlay is None else overlay.shown
        genes = [] if overlay is None else overlay.genes
        if set(self.model.checked) != set(genes):
            self.model.check(genes, only=True)
        self.model.set_swatches({paint.gene: paint.color for paint in shown})
        self.legend.set(shown)
        view: ViewMode = "after" if overlay is None else overlay.view
        self.views[view].setChecked(True)
        nothing = "" if overlay is None or overlay.genes else "No gene is on show: tick up to six above."
        self.meaning.setText(meaning_of(overlay) if overlay is not None and shown else nothing)
        compared = None if overlay is None else overlay.compared
        if compared in self._to_compare:
            self.compare.setCurrentIndex(self._to_compare.index(compared))

    def _on_checked(self) -> None:
        overlay = self._controller.results.overlay
        if overlay is not None and not self._filling and set(self.model.checked) != set(overlay.genes):
            self._controller.results.show_genes(self.model.checked)

    def import_list(self, path: Path) -> None:
        """Show the first genes that a file names, as many as can be told apart."""
        finished = self._controller.results.current
        if finished is None:
            return
        try:
            found, _ = read_gene_list(path, finished.result.genes)
        except InputError as error:
            self._controller.messages.error_message.emit(str(error))
            return
        left = f"; {len(found) - MAX_GENES} more were left out" if len(found) > MAX_GENES else ""
        self._controller.messages.status_message.emit(f"Showing {', '.join(found[:MAX_GENES])} of '{path.name}'{left}.")
        self.model.check(found[:MAX_GENES], only=True)

    def _choose_list(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import a gene list", "", "Gene lists (*.csv *.tsv *.txt);;All (*)")
        if path:
            self.import_list(Path(path))

    # ----------------------------------------------------------------- view

    def set_view(self, view: ViewMode) -> None:
        """Show before, after, both or the uncertainty."""
        if self._controller.results.overlay is not None:
            self._controller.results.overlay.set_view(view)
            self._on_shown()

    def blink(self) -> None:
        """Switch between before and after."""
        overlay = self._controller.results.overlay
        if overlay is not None:
            self.set_view("after" if overlay.view == "before" else "before")

    def _on_brightness(self, value: int) -> None:
        if self._controller.results.overlay is not None:
            self._controller.results.overlay.set_brightness(value / 100)

    def _on_pointed(self, reading: PixelReadout) -> None:
        has_result = self._controller.results.current is not None
        self.pointed.setText(reading.text or (_POINT if has_result else ""))
        # Room that was needed once is kept: the panel must not jump as the pointer moves.
        needed = self.pointed.heightForWidth(self.pointed.width())
        self.pointed.setMinimumHeight(max(self.pointed.minimumHeight(), needed))
