"""The part of the window that chooses which genes are upsampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from qtpy.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QLineEdit, QWidget

from napari_srast.errors import InputError
from napari_srast.gui.controller import Controller
from napari_srast.gui.genes import Column, GeneTableModel, read_gene_list
from napari_srast.gui.panels.common import button, gene_view, group, label
from napari_srast.gui.tooltips import allow, describe

__all__ = ["GenePanel"]


class GenePanel(QWidget):
    """Filter box and a check box for each gene; none checked means all."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        box, column = group("Genes")
        self.model = GeneTableModel(self)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter genes")
        self.filter.setClearButtonEnabled(True)
        describe(self.filter, "gene_filter")
        self.filter.textChanged.connect(self.model.set_filter)
        self.checked_only = QCheckBox("Ticked only")
        describe(self.checked_only, "checked_only")
        self.checked_only.toggled.connect(self.model.set_checked_only)
        row = QHBoxLayout()
        row.addWidget(self.filter, 1)
        row.addWidget(self.checked_only)
        column.addLayout(row)
        self.view = gene_view("gene_table", self.model)
        self.view.setMinimumHeight(110)
        column.addWidget(self.view, 1)
        self.count = label()
        column.addWidget(self.count)
        self.check_listed = button("check_listed", "Tick listed", lambda: self.model.check(self.model.listed))
        self.check_none = button("check_none", "Untick all", self.model.uncheck_all)
        self.load = button("import_genes", "Import list…", self._choose_list)
        row = QHBoxLayout()
        for control in (self.check_listed, self.check_none, self.load):
            row.addWidget(control)
        column.addLayout(row)
        outer = QHBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(box)
        self.model.checked_changed.connect(self.refresh)
        controller.slide_changed.connect(self._on_slide)
        self._on_slide()

    @property
    def genes(self) -> list[str] | None:
        """The genes to upsample; None for all."""
        return self.model.checked or None

    def refresh(self) -> None:
        """Say how many genes are checked."""
        n_checked, n_genes = len(self.model.checked), self.model.n_genes
        if n_genes == 0:
            self.count.setText("")
        elif n_checked == 0:
            self.count.setText(f"None ticked: all {n_genes:,} genes.")
        else:
            self.count.setText(f"{n_checked:,} of {n_genes:,} genes ticked.")
        closed = None if n_genes else "Open a slide first."
        for control in (self.filter, self.checked_only, self.view, self.check_listed, self.load):
            allow(control, closed)
        allow(self.check_none, closed or (None if n_checked else "No gene is ticked."))

    def import_list(self, path: Path) -> None:
        """Check the genes that a file names, and say which the slide lacks."""
        slide = self._controller.slide
        if slide is None:
            return
        try:
            found, missing = read_gene_list(path, slide.genes)
        except InputError as error:
            self._controller.failed.emit(str(error))
            return
        self.model.check(found)
        lacks = f"; the slide lacks {len(missing)}: {', '.join(missing[:5])}" if missing else ""
        more = " …" if len(missing) > 5 else ""
        self._controller.said.emit(f"Ticked {len(found)} genes of '{path.name}'{lacks}{more}.")

    def _choose_list(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import a gene list", "", "Gene lists (*.csv *.tsv *.txt);;All (*)")
        if path:
            self.import_list(Path(path))

    def _on_slide(self) -> None:
        slide = self._controller.slide
        if slide is None:
            self.model.set_genes([])
            return
        totals = np.asarray(slide.counts.sum(axis=0)).ravel()
        self.model.set_genes(
            slide.genes, [Column("Counts", totals, lambda v: f"{v:,.0f}", "Counts of the gene on the whole slide")]
        )
