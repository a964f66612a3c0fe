"""Panel that scores gene sets in the pixels of the displayed result, and shows and saves the scores."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QFileDialog, QLabel, QLineEdit, QWidget

from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.panels.export import NO_EXPRESSION, NO_RESULT
from napari_srast.gui.panels.save_dialog import ask_save_path
from napari_srast.gui.widgets.common import button, chooser, label
from napari_srast.gui.widgets.section import Section, row_of
from napari_srast.gui.widgets.tooltips import allow, describe

__all__ = ["SignaturePanel"]

_NONE = "none, show the genes"
_NO_SCORES = "Score gene sets first."
_HINT = "A score is the mean log expression of a gene set, minus that of other genes of similar expression."


class SignaturePanel(QWidget):
    """Type or open gene sets, score them, and choose the score that is shown.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.section = Section("section_signatures", "Signatures")
        self.section.unfold(False)
        self.sets = QLineEdit()
        self.sets.setPlaceholderText("NAME: GENE, GENE; NAME: GENE")
        self.sets.setClearButtonEnabled(True)
        describe(self.sets, "gene_sets")
        self.sets.returnPressed.connect(self._score)
        self.sets.textChanged.connect(lambda _: self._allow())
        self.start = button("score_gene_sets", "Score", self._score)
        self.load = button("open_gene_sets", "File…", self._choose_file)
        self.shown = chooser("shown_signature")
        self.shown.activated.connect(lambda index: controller.signatures.show(self.shown.itemData(index)))
        self.save = button("save_signatures", "Save…", self._save)
        self.note = label()
        self._lay_out()
        controller.signatures.changed.connect(self.refresh)
        controller.results.result_changed.connect(self.refresh)
        controller.tasks.state_changed.connect(self._allow)
        self.refresh()

    def _lay_out(self) -> None:
        column = self.section.column
        column.addLayout(row_of(self.sets, self.start, self.load, stretch=(1, 0, 0)))
        column.addLayout(row_of(QLabel("Show"), self.shown, self.save, stretch=(0, 1, 0)))
        column.addWidget(self.note)
        column.addStretch(1)
        self.section.fill(self)

    def refresh(self) -> None:
        """List the scores of the displayed result."""
        signatures = self._controller.signatures
        scores = signatures.current
        names = [] if scores is None else [str(name) for name in scores]
        with QSignalBlocker(self.shown):
            self.shown.clear()
            self.shown.addItem(_NONE, None)
            for name in names:
                self.shown.addItem(name, name)
            shown = signatures.shown
            self.shown.setCurrentIndex(0 if shown is None else 1 + names.index(shown))
        self.note.setText(signatures.note() or _HINT)
        self.section.set_summary(", ".join(names))
        self._allow()

    def _allow(self) -> None:
        """Enable the controls that can be used now."""
        controller = self._controller
        displayed, busy = controller.results.current, controller.tasks.busy_reason()
        no_result = NO_RESULT if displayed is None else None
        without = displayed is not None and len(displayed.result.expression_columns) == 0
        no_expression = NO_EXPRESSION if without else None
        allow(self.sets, no_result or no_expression)
        allow(self.load, no_result or no_expression or busy)
        no_text = None if self.sets.text().strip() else "Type gene sets, such as 'Tumor: ERBB2, KRT19', or open a file."
        allow(self.start, no_result or no_expression or busy or no_text)
        no_scores = no_result or (None if controller.signatures.current is not None else _NO_SCORES)
        allow(self.shown, no_scores)
        allow(self.save, no_scores or busy)

    def _score(self) -> None:
        if self.start.isEnabled():
            self._controller.signatures.score_text(self.sets.text())

    def _choose_file(self) -> None:
        kinds = "Gene sets (*.gmt *.csv *.tsv *.txt);;All (*)"
        chosen, _ = QFileDialog.getOpenFileName(self, "Open gene sets", "", kinds)
        if chosen:
            self._controller.signatures.score_file(Path(chosen))

    def _save(self) -> None:
        path = ask_save_path(self, self._controller, "Save the scores", [".csv"], "signatures")
        if path is not None:
            self._controller.signatures.save(path)
