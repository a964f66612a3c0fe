"""The part of the window that explores a result: genes on show, before and after, trust, export."""

from __future__ import annotations

from functools import partial
from html import escape
from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_srast.gui.controller import Controller
from napari_srast.gui.genes import Column, GeneTableModel
from napari_srast.gui.overlay import MAX_GENES, View
from napari_srast.gui.panels.common import button, gene_view, group, label
from napari_srast.gui.tooltips import allow, describe
from napari_srast.gui.trust import Trust

__all__ = ["ResultPanel"]

_MEANING: dict[View, str] = {
    "after": "counts per pixel",
    "before": "measured counts per pixel of the spot",
    "std": "standard deviation of the counts per pixel",
}
_NO_RESULT = "Run first: there is no result yet."


class ResultPanel(QWidget):
    """The genes of the result, how they are shown, and what to think of them."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        outer = QVBoxLayout(self)
        outer.setContentsMargins(6, 6, 6, 6)
        outer.addWidget(self._genes_box(), 1)
        outer.addWidget(self._trust_box())
        controller.result_changed.connect(self._on_result)
        controller.shown_changed.connect(self._on_shown)
        controller.phase_changed.connect(self.refresh_allowed)
        self._on_result()

    def _genes_box(self) -> QWidget:
        box, column = group("Genes on show")
        self.model = GeneTableModel(self, limit=MAX_GENES)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter genes")
        self.filter.setClearButtonEnabled(True)
        describe(self.filter, "result_filter")
        self.filter.textChanged.connect(self.model.set_filter)
        self.checked_only = QCheckBox("Shown only")
        describe(self.checked_only, "result_checked_only")
        self.checked_only.toggled.connect(self.model.set_checked_only)
        self.hide_all = button("hide_all", "Hide all", self.model.uncheck_all)
        row = QHBoxLayout()
        row.addWidget(self.filter, 1)
        row.addWidget(self.checked_only)
        row.addWidget(self.hide_all)
        column.addLayout(row)
        self.view = gene_view("result_table", self.model)
        column.addWidget(self.view, 1)
        self.model.checked_changed.connect(self._on_checked)
        self.model.refused.connect(
            lambda: self._controller.failed.emit(f"At most {MAX_GENES} genes can be told apart; untick one first.")
        )
        self.views: dict[View, QPushButton] = {}
        row = QHBoxLayout()
        self._view_group = QButtonGroup(self)
        titles: tuple[tuple[View, str], ...] = (("before", "Before"), ("after", "After"), ("std", "Uncertainty"))
        for view, title in titles:
            control = button(f"view_{view}", title, partial(self._set_view, view))
            control.setCheckable(True)
            self._view_group.addButton(control)
            self.views[view] = control
            row.addWidget(control)
        column.addLayout(row)
        self.legend = label()
        self.meaning = label()
        column.addWidget(self.legend)
        column.addWidget(self.meaning)
        row = QHBoxLayout()
        self.brightness_label = QLabel("Histology")
        self.brightness = QSlider(Qt.Orientation.Horizontal)
        self.brightness.setRange(0, 100)
        self.brightness.setValue(30)
        describe(self.brightness, "dim_histology")
        self.brightness.valueChanged.connect(self._on_brightness)
        row.addWidget(self.brightness_label)
        row.addWidget(self.brightness, 1)
        column.addLayout(row)
        return box

    def _trust_box(self) -> QWidget:
        box, column = group("Trust and take away")
        self.trust = label()
        column.addWidget(self.trust)
        self.export = QPushButton("Export")
        describe(self.export, "export")
        menu = QMenu(self.export)
        menu.setToolTipsVisible(True)
        self.export_store = menu.addAction("New SpatialData store (.zarr)…", partial(self._export, "zarr"))
        self.export_into = menu.addAction("Into the slide's own store", self._export_into)
        self.export_h5ad = menu.addAction("Table (.h5ad)…", partial(self._export, "h5ad"))
        self.export_csv = menu.addAction("Table (.csv)…", partial(self._export, "csv"))
        self.export.setMenu(menu)
        column.addWidget(self.export)
        return box

    def refresh_allowed(self) -> None:
        """Enable what can be done now."""
        finished = self._controller.finished
        none = None if finished is not None else _NO_RESULT
        for control in (self.filter, self.checked_only, self.hide_all, self.view):
            allow(control, none)
        for view in ("before", "after"):
            allow(self.views[view], none)
        no_std = finished is not None and finished.result.std is None
        allow(self.views["std"], none or ("Run with the mode 'sample' to have the uncertainty." if no_std else None))
        no_image = (
            None if finished is None or finished.result.slide.image is not None else "The slide has no histology."
        )
        allow(self.brightness, none or no_image)
        allow(self.export, none or self._controller.obstacle())
        has_store = finished is not None and finished.result.slide.source.path is not None
        into = "Add the result to the slide's store under a fresh name."
        assert self.export_into is not None
        self.export_into.setEnabled(has_store)
        self.export_into.setToolTip(into if has_store else "The slide was not read from a store of its own.")

    def _on_result(self) -> None:
        finished = self._controller.finished
        if finished is None:
            self.model.set_genes([])
            self.trust.setText("No result yet. Prepare a run and press Run.")
        else:
            result = finished.result
            skill = Column(
                "Skill",
                np.asarray(result.skill, dtype=float),
                lambda v: "not known" if np.isnan(v) else f"{v:+.3f}",
                "Nats per count gained over an even split, measured on this very slide; above 0 is better",
            )
            source = Column(
                "Map from", np.asarray(result.method).astype(str), str, "Method that the gene's map came from"
            )
            self.model.set_genes(result.genes, [skill, source])
            self.trust.setText(_trust_text(finished.trust))
            self.views["after"].setChecked(True)
            self._on_brightness(self.brightness.value())
        self._on_shown()
        self.refresh_allowed()

    def _on_shown(self) -> None:
        overlay = self._controller.overlay
        shown = [] if overlay is None else overlay.shown
        genes = [] if overlay is None else overlay.genes
        if set(self.model.checked) != set(genes):
            self.model.check(genes, only=True)
        self.model.set_swatches({s.gene: s.color for s in shown})
        view: View = "after" if overlay is None else overlay.view
        rows = [
            f'<tr><td><span style="color:{s.color}">&#9632;</span> {escape(s.gene)}</td>'
            f'<td align="right">&nbsp; {s.limits[0]:.2g} to {s.limits[1]:.3g}</td></tr>'
            for s in shown
        ]
        self.legend.setText(f"<table>{''.join(rows)}</table>" if rows else "")
        nothing = "" if overlay is None or overlay.genes else "No gene is on show: tick up to six above."
        self.meaning.setText(_MEANING[view] if rows else nothing)

    def _on_checked(self) -> None:
        overlay = self._controller.overlay
        if overlay is not None and set(self.model.checked) != set(overlay.genes):
            self._controller.show_genes(self.model.checked)

    def _set_view(self, view: View) -> None:
        if self._controller.overlay is not None:
            self._controller.overlay.set_view(view)
            self._on_shown()

    def _on_brightness(self, value: int) -> None:
        if self._controller.overlay is not None:
            self._controller.overlay.set_brightness(value / 100)

    def _export(self, kind: str) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the result", f"result.{kind}", f"*.{kind}")
        if path:
            target = Path(path)
            self._controller.export(
                target if target.suffix == f".{kind}" else target.with_name(f"{target.name}.{kind}")
            )

    def _export_into(self) -> None:
        self._controller.export(None, into_slide=True)


def _trust_text(trust: Trust) -> str:
    error = trust.max_relative_mass_error
    mass = "exactly" if error == 0 else f"to {error:.0e}"
    lines = [f"Counts of every spot conserved {mass}."]
    if trust.negative_pixels:
        lines.append(f"{trust.negative_pixels:,} negative values: please report this.")
    if trust.measured_fraction is None:
        lines.append("The spots' size is unknown, so the measured share of the area is too.")
    elif trust.measured_fraction > 0.995:
        lines.append("All of the painted area was measured.")
    else:
        lines.append(
            f"{trust.measured_fraction:.0%} of the painted area was measured; the rest fills the gaps between spots."
        )
    return " ".join(lines)
