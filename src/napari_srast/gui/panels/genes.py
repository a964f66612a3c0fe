"""Panel that chooses the genes to upsample."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from qtpy.QtCore import QModelIndex
from qtpy.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QLineEdit, QWidget

from napari_srast.core.gene_list import match_gene_list
from napari_srast.core.mass_balance import gene_totals
from napari_srast.core.result import UpsampleResult
from napari_srast.errors import InputError
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.runtime import background
from napari_srast.gui.runtime.run_modules import start_import
from napari_srast.gui.state.slide_session import SlideSession
from napari_srast.gui.state.spatial_structure import interest_order, spatial_structure, totals_at_once
from napari_srast.gui.widgets.common import button, gene_view, label, listing_chooser
from napari_srast.gui.widgets.gene_table import Column, GeneTableModel
from napari_srast.gui.widgets.section import Section
from napari_srast.gui.widgets.tooltips import allow, describe

__all__ = ["GenePanel", "structure_column"]


class GenePanel(QWidget):
    """Filter and tick genes; if no gene is ticked, all are upsampled.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._session: SlideSession | None = None
        self._ticked: dict[SlideSession, list[str]] = {}
        self._search: background.BackgroundTask | None = None
        self.section = Section("section_genes", "Genes")
        column = self.section.column
        self.model = GeneTableModel(self)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter genes")
        self.filter.setClearButtonEnabled(True)
        describe(self.filter, "gene_filter")
        self.filter.textChanged.connect(self.model.set_filter)
        self.listing = listing_chooser("list_genes", "Ticked", self.model)
        row = QHBoxLayout()
        row.addWidget(self.filter, 2)
        row.addWidget(self.listing, 1)
        column.addLayout(row)
        self.view = gene_view("gene_table", self.model, controller)
        self.view.setMinimumHeight(84)
        column.addWidget(self.view, 1)
        self.color_spots = QCheckBox("Color the spots")
        self.color_spots.setChecked(controller.preview.is_on)
        describe(self.color_spots, "color_spots")
        self.color_spots.toggled.connect(controller.preview.set_on)
        self.preview = label()
        row = QHBoxLayout()
        row.addWidget(self.color_spots)
        row.addWidget(self.preview, 1)
        column.addLayout(row)
        self.count = label()
        column.addWidget(self.count)
        self.check_listed = button("check_listed", "Tick listed", lambda: self.model.check(self.model.listed))
        self.check_none = button("check_none", "Untick all", self.model.uncheck_all)
        self.load = button("import_genes", "Import list…", self._choose_list)
        row = QHBoxLayout()
        for control in (self.check_listed, self.check_none, self.load):
            row.addWidget(control)
        column.addLayout(row)
        self.section.fill(self)
        selection = self.view.selectionModel()
        assert selection is not None
        selection.currentChanged.connect(self._on_current)
        controller.preview.changed.connect(lambda: self.preview.setText(controller.preview.text))
        self.model.checked_changed.connect(self.refresh)
        controller.slides.slide_changed.connect(self._on_slide)
        controller.results.settings_restored.connect(self._on_recalled)
        self._on_slide()

    @property
    def genes(self) -> list[str] | None:
        """The genes to upsample; None for all."""
        return self.model.checked or None

    def refresh(self) -> None:
        """Show the number of ticked genes and enable the controls that can be used now."""
        n_checked, n_genes = len(self.model.checked), self.model.n_genes
        if n_genes == 0:
            self.count.setText("")
        elif n_checked == 0:
            self.count.setText(f"None ticked: all {n_genes:,} are upsampled.")
        else:
            self.count.setText(f"{n_checked:,} of {n_genes:,} genes ticked.")
        self.section.set_summary(self.count.text())
        no_slide = None if n_genes else "Open a slide first."
        for control in (self.filter, self.listing, self.view, self.color_spots, self.check_listed, self.load):
            allow(control, no_slide)
        allow(self.check_none, no_slide or (None if n_checked else "No gene is ticked."))

    def import_list(self, path: Path) -> None:
        """Tick the genes of a file and report the genes that the slide does not have."""
        slide = self._controller.slides.slide
        if slide is None:
            return
        try:
            listed, missing = match_gene_list(path, slide.genes, slide.gene_ids)
        except InputError as error:
            self._controller.messages.error_message.emit(str(error))
            return
        self.model.check(listed)
        not_found = f"; {len(missing)} are not in the slide: {', '.join(missing[:5])}" if missing else ""
        more = " …" if len(missing) > 5 else ""
        self._controller.messages.status_message.emit(f"Ticked {len(listed)} genes of '{path.name}'{not_found}{more}.")

    def _choose_list(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import a gene list", "", "Gene lists (*.csv *.tsv *.txt);;All (*)")
        if path:
            self.import_list(Path(path))

    def _on_current(self, index: QModelIndex) -> None:
        """Show the measured counts of the gene that the user has clicked or moved to."""
        gene = self.model.gene_at(index)
        if gene is not None:
            self._controller.preview.show(gene)

    def _on_slide(self) -> None:
        """List the genes of the current slide; the ticked genes of each slide are restored."""
        current = self._controller.slides.current
        if self._session is not None:
            self._ticked[self._session] = self.model.checked
        self._ticked = {s: genes for s, genes in self._ticked.items() if s in self._controller.slides.sessions}
        self._session = current
        if self._search is not None:
            self._search.abandon()
            self._search = None
        if current is None:
            self.model.set_genes([])
            return
        loaded = current.loaded
        totals = totals_at_once(current.slide) if loaded.totals is None else loaded.totals
        self._list_genes(current, totals, self._ticked.get(current, []))
        if loaded.structure is None and (loaded.totals is not None or totals is None):
            self._find_structure(current)
        else:
            start_import()

    def _list_genes(self, session: SlideSession, totals: np.ndarray | None, ticked: list[str]) -> None:
        columns = []
        if totals is not None:
            columns.append(Column("Counts", totals, lambda v: f"{v:,.0f}", "Counts of the gene in the whole slide"))
        structure = session.loaded.structure
        if structure is not None:
            columns.append(structure_column(structure))
        slide = session.slide
        order = interest_order(slide.genes, structure)
        self.model.set_genes(slide.genes, columns, order=order, ids=slide.gene_ids)
        self.model.check(ticked)

    def _find_structure(self, session: SlideSession) -> None:
        """Compute the spatial structure of the genes of a large slide in the background; then list it.

        The counts of each gene are computed, too, if they are not known.
        """
        slide, known = session.slide, session.loaded.totals

        def on_done(found: tuple[np.ndarray, np.ndarray]) -> None:
            start_import()
            structure, totals = found
            session.loaded = dataclasses.replace(session.loaded, structure=structure, totals=totals)
            if session is not self._session or self._controller.tasks.is_shut_down:
                return
            gene, bar = self.model.gene_at(self.view.currentIndex()), self.view.verticalScrollBar()
            position = 0 if bar is None else bar.value()
            self._list_genes(session, totals, self.model.checked)
            if gene is not None and gene in self.model.listed:
                selection = self.view.selectionModel()
                assert selection is not None
                before = selection.blockSignals(True)  # its counts are shown already
                self.view.setCurrentIndex(self.model.index(self.model.listed.index(gene), 0))
                selection.blockSignals(before)
            if bar is not None:
                bar.setValue(position)

        def on_error(error: Exception) -> None:
            start_import()
            message = background.error_message(error, "computing the spatial structure of the genes")
            self._controller.messages.error_message.emit(message)

        def work(should_stop: Callable[[], bool]) -> tuple[np.ndarray, np.ndarray]:
            structure = spatial_structure(slide, should_stop)
            return structure, gene_totals(slide.counts) if known is None else known

        self._search = background.start(
            background.low_priority(background.call(work)), on_step=lambda _: None, on_done=on_done, on_error=on_error
        )

    def _on_recalled(self, result: UpsampleResult) -> None:
        """Tick the genes of a result; if it has all genes of the slide, tick none."""
        genes = [str(g) for g in result.genes]
        self.model.check([] if len(genes) == self.model.n_genes else genes, only=True)


def structure_column(structure: np.ndarray) -> Column:
    """Return the column of Moran's I.

    Parameters
    ----------
    structure
        Moran's I of each gene, shape (G,); NaN if unknown.
    """
    return Column(
        "Moran I",
        structure,
        lambda v: "" if np.isnan(v) else f"{v:.2f}",
        "Moran's I over the six nearest spots: 1 for counts that vary smoothly in space, 0 for no spatial structure",
    )
