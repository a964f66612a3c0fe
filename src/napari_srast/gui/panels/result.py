"""Panel that explores a result: shown genes, views before and after, and the values under the cursor."""

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
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_srast.analysis.traffic_lights import LIGHTS, gene_lights
from napari_srast.core.gene_list import match_gene_list
from napari_srast.errors import InputError
from napari_srast.gui.controllers.comparison import (
    comparable,
    counterpart,
    had_image,
    image_difference,
    meaning_of,
)
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.layers.cursor_readout import PixelReadout
from napari_srast.gui.layers.overlay import MAX_GENES, ViewMode
from napari_srast.gui.panels.cells import CellPanel
from napari_srast.gui.panels.domains import DomainPanel
from napari_srast.gui.panels.export import NO_RESULT, ExportPanel
from napari_srast.gui.panels.genes import structure_column
from napari_srast.gui.panels.legend import Legend
from napari_srast.gui.panels.region_comparison import ComparisonPanel
from napari_srast.gui.panels.signatures import SignaturePanel
from napari_srast.gui.panels.structure import StructurePanel
from napari_srast.gui.panels.value_chooser import ValueChooser
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.run_request import result_title
from napari_srast.gui.widgets.common import (
    VerticalScrollArea,
    button,
    chooser,
    gene_view,
    label,
    listing_chooser,
)
from napari_srast.gui.widgets.gene_table import Column, GeneTableModel
from napari_srast.gui.widgets.section import Section, give_room
from napari_srast.gui.widgets.tooltips import allow, describe

__all__ = ["ResultPanel"]

_POINT = "Point at a pixel to read its values."


class ResultPanel(QWidget):
    """Choose a result of the current slide, its shown genes and the view.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._is_filling = False
        self._to_compare: list[DisplayedResult | None] = [None]
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(6, 6, 6, 6)
        column.addLayout(self._results_rows())
        self.section = self._genes_section()
        column.addWidget(self.section)
        self.export_panel = ExportPanel(controller)
        column.addWidget(self.export_panel.verdict)
        for control in (self.export_panel.move_image, self.export_panel.undo_move):
            column.addWidget(control)
        self.domain_panel = DomainPanel(controller)
        column.addWidget(self.domain_panel)
        self.cell_panel = CellPanel(controller)
        column.addWidget(self.cell_panel)
        self.signature_panel = SignaturePanel(controller)
        column.addWidget(self.signature_panel)
        self.comparison_panel = ComparisonPanel(controller)
        column.addWidget(self.comparison_panel)
        self.structure_panel = StructurePanel(controller)
        column.addWidget(self.structure_panel)
        column.addWidget(self.export_panel.section)
        give_room(column, self.section, self.section)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(VerticalScrollArea(page), 1)
        outer.addWidget(self.export_panel)  # always visible
        controller.results.result_changed.connect(self._on_result)
        controller.slides.slide_changed.connect(self._list_results)
        controller.results.display_changed.connect(self._on_shown)
        controller.tasks.state_changed.connect(self.refresh_allowed)
        controller.results.cursor_readout_changed.connect(self._on_readout)
        self._on_result()

    def _results_rows(self) -> QVBoxLayout:
        self.results = chooser("open_results")
        self.results.activated.connect(self._choose_result)
        self.reuse = button("reuse_settings", "Reuse settings", self._controller.results.restore_settings)
        self.close_result = button("close_result", "Close", self._controller.results.drop)
        rows = QVBoxLayout()
        rows.setSpacing(4)
        rows.addWidget(self.results)  # a separate row, because results differ in the last words of their names
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.reuse, 1)
        row.addWidget(self.close_result, 1)
        rows.addLayout(row)
        return rows

    def _genes_section(self) -> Section:
        section = Section("section_shown", "Shown genes")
        column = section.column
        self.model = GeneTableModel(self, limit=MAX_GENES)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter genes")
        self.filter.setClearButtonEnabled(True)
        describe(self.filter, "result_filter")
        self.filter.textChanged.connect(self.model.set_filter)
        self.listing = listing_chooser("result_list_genes", "Shown", self.model)
        self.load = button("result_import", "List…", self._choose_list)
        self.hide_all = button("hide_all", "Hide all", self.model.uncheck_all)
        row = QHBoxLayout()
        row.addWidget(self.filter, 2)
        row.addWidget(self.listing, 1)
        row.addWidget(self.load)
        row.addWidget(self.hide_all)
        column.addLayout(row)
        self.view = gene_view("result_table", self.model, self._controller)
        self.view.setMinimumHeight(90)
        column.addWidget(self.view, 1)
        self.model.checked_changed.connect(self._on_checked)
        self.model.refused.connect(
            lambda: self._controller.messages.error_message.emit(
                f"At most {MAX_GENES} genes can be shown; untick one first."
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
        self.values = ValueChooser(self._controller)
        column.addWidget(self.values)
        self.compare = chooser("compare_with")
        self.compare.activated.connect(self._compare)
        row = QHBoxLayout()
        row.addWidget(QLabel("Compare with"))
        row.addWidget(self.compare, 1)
        column.addLayout(row)
        self.legend = Legend(self._controller)
        self.meaning = self.legend.meaning
        self.readout = label()
        self.readout.setMinimumHeight(34)  # two lines
        self.readout.setAlignment(Qt.AlignmentFlag.AlignTop)
        column.addWidget(self.legend)
        column.addWidget(self.readout)
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
        return section

    def refresh_allowed(self) -> None:
        """Enable the controls that can be used now."""
        displayed = self._controller.results.current
        no_result = None if displayed is not None else NO_RESULT
        for control in (
            *(self.filter, self.listing, self.load, self.hide_all, self.view, self.reuse, self.close_result),
            *(self.views[view] for view in ("before", "after", "side_by_side")),
            self.compare,
        ):
            allow(control, no_result)
        no_std = displayed is not None and displayed.result.std is None
        allow(
            self.views["std"],
            no_result or ("Run with the mode 'sample' to compute the uncertainty." if no_std else None),
        )
        slide = self._controller.slides.slide
        no_image = None if slide is None or slide.image is not None else "The slide has no histology."
        allow(self.brightness, no_result or no_image)
        self.values.refresh()
        allow(self.results, None if self.results.count() else NO_RESULT)

    # -------------------------------------------------------------- results

    def _list_results(self) -> None:
        """List the results in memory, then the saved results that are not in memory."""
        controller = self._controller
        self.results.clear()
        has_image = controller.slides.slide is not None and controller.slides.slide.image is not None
        for number, displayed in enumerate(controller.results.all, start=1):
            result = displayed.result
            without_image = has_image and result.settings.method == "srast" and not had_image(result)
            self.results.addItem(f"{result_title(number, displayed)}{', without the image' if without_image else ''}")
        in_memory = {displayed.result.run for displayed in controller.results.all}
        runs = () if controller.slides.loaded is None else controller.slides.loaded.choices.runs
        for run in runs:
            if run not in in_memory:
                self.results.addItem(f"saved: {run}", run)
        current = controller.results.current
        self.results.setCurrentIndex(-1 if current is None else controller.results.all.index(current))
        self.results.setPlaceholderText("No result yet" if not self.results.count() else "Choose a saved result")

    def _choose_result(self, index: int) -> None:
        controller = self._controller
        if index < len(controller.results.all):
            controller.results.choose(controller.results.all[index])
        elif controller.tasks.busy_reason() is not None:
            controller.messages.error_message.emit(str(controller.tasks.busy_reason()))
            self._list_results()
        else:
            controller.results.open_saved(self.results.itemData(index))

    def _list_compared(self) -> None:
        """List what the displayed result can be compared with; a result that must be computed first is last."""
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
            self.compare.addItem(f"with{'out' if had_image(current.result.result) else ''} the image (run it)")

    def _compare(self, index: int) -> None:
        if index < len(self._to_compare):
            self._controller.results.compare_with(self._to_compare[index])
        else:
            self._controller.runs.submit_counterpart()
            self._on_shown()  # the comparison does not change until the run is done

    def _on_result(self) -> None:
        displayed = self._controller.results.current
        self._list_results()
        self._list_compared()
        self._is_filling = True  # new rows are unticked, but the shown genes must stay
        if displayed is None:
            self.model.set_genes([])
        else:
            self.model.set_genes(displayed.result.genes, self._columns())
        self._is_filling = False
        if displayed is not None:
            if self.model.sorted_column[0] < 0:  # until the user sorts by another column
                self.view.sortByColumn(2, Qt.SortOrder.DescendingOrder)
            self._on_brightness(self.brightness.value())
        self._on_readout(PixelReadout())
        self._on_shown()
        self.refresh_allowed()

    def _columns(self) -> list[Column]:
        """Return the columns of the gene table: quality, skill, counts and spatial structure."""
        displayed, loaded = self._controller.results.current, self._controller.slides.loaded
        assert displayed is not None
        assert loaded is not None
        result = displayed.result
        skill = Column(
            "Skill",
            np.asarray(result.skill, dtype=float),
            lambda v: "–" if np.isnan(v) else f"{v:+.3f}",
            "Expected gain over a uniform split in nats per count; Details name its source; – is unknown",
        )
        columns = [skill, Column("Counts", displayed.totals, lambda v: f"{v:,.0f}", "Counts of the gene in the region")]
        if loaded.structure is not None:
            columns.append(
                structure_column(loaded.structure[result.slide.gene_indices([str(g) for g in result.genes])])
            )
        lights = gene_lights(result)
        quality = Column(
            "Quality",
            np.array([light.gain for light in lights]),
            lambda v: "" if np.isnan(v) else f"{v:+.3f}",
            "▲ better than interpolation, ■ no clear gain, ? unknown, with the gain in nats per count; point at a "
            "value for the reason",
            marks=[(*LIGHTS[light.light], light.reason) for light in lights],
        )
        return [quality, *columns]

    # ---------------------------------------------------------------- genes

    def _on_shown(self) -> None:
        overlay = self._controller.results.overlay
        shown = [] if overlay is None else overlay.shown
        genes = [] if overlay is None else overlay.genes
        if set(self.model.checked) != set(genes):
            self.model.check(genes, only=True)
        self.model.set_swatches({style.gene: style.color for style in shown})
        view: ViewMode = "after" if overlay is None else overlay.view
        self.views[view].setChecked(True)
        hint = "" if overlay is None or overlay.genes else "No gene is shown: tick up to six above."
        self.legend.set(shown, meaning_of(overlay) if overlay is not None and shown else hint)
        self.values.refresh()
        compared = None if overlay is None else overlay.compared
        if compared in self._to_compare:
            self.compare.setCurrentIndex(self._to_compare.index(compared))

    def _on_checked(self) -> None:
        overlay = self._controller.results.overlay
        if overlay is not None and not self._is_filling and set(self.model.checked) != set(overlay.genes):
            self._controller.results.show_genes(self.model.checked)

    def import_list(self, path: Path) -> None:
        """Show the first genes of a file, at most :data:`MAX_GENES`."""
        displayed = self._controller.results.current
        if displayed is None:
            return
        try:
            listed, _ = match_gene_list(path, displayed.result.genes)
        except InputError as error:
            self._controller.messages.error_message.emit(str(error))
            return
        omitted = f"; {len(listed) - MAX_GENES} more were left out" if len(listed) > MAX_GENES else ""
        self._controller.messages.status_message.emit(
            f"Showing {', '.join(listed[:MAX_GENES])} of '{path.name}'{omitted}."
        )
        self.model.check(listed[:MAX_GENES], only=True)

    def _choose_list(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import a gene list", "", "Gene lists (*.csv *.tsv *.txt);;All (*)")
        if path:
            self.import_list(Path(path))

    # ----------------------------------------------------------------- view

    def set_view(self, view: ViewMode) -> None:
        """Switch the view to before, after, side by side or uncertainty."""
        if self._controller.results.overlay is not None:
            self._controller.signatures.show(None)
            if view != "side_by_side":
                self._controller.cells.uncover()
            self._controller.results.overlay.set_view(view)
            self._on_shown()

    def toggle_before_after(self) -> None:
        """Switch between before and after."""
        overlay = self._controller.results.overlay
        if overlay is not None:
            self.set_view("after" if overlay.view == "before" else "before")

    def _on_brightness(self, value: int) -> None:
        if self._controller.results.overlay is not None:
            self._controller.results.overlay.set_brightness(value / 100)

    def _on_readout(self, readout: PixelReadout) -> None:
        has_result = self._controller.results.current is not None
        self.readout.setText(readout.text or (_POINT if has_result else ""))
        # The label never shrinks, so that the panel does not move with the cursor.
        needed = self.readout.heightForWidth(self.readout.width())
        self.readout.setMinimumHeight(max(self.readout.minimumHeight(), needed))
