"""Ask for the layout of a figure."""

from __future__ import annotations

import dataclasses

from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_srast.gui.export.panel_figure import VIEW_TITLES, FigureOptions, FigureView

__all__ = ["FigureDialog"]

_MIN_DPI, _MAX_DPI = 72, 1200


class FigureDialog(QDialog):
    """Title, resolution and panels of a figure.

    Parameters
    ----------
    parent
        The widget above which it opens.
    initial
        Brightness, scale and smoothness as in the window, and the panels that are possible.
    """

    def __init__(self, parent: QWidget, initial: FigureOptions) -> None:
        super().__init__(parent)
        self.setWindowTitle("Figure for a publication")
        self._initial = initial
        self.title = QLineEdit()
        self.title.setToolTip("Text above the panels. Empty: none.")
        self.dpi = QSpinBox()
        self.dpi.setRange(_MIN_DPI, _MAX_DPI)
        self.dpi.setValue(FigureOptions.dpi)
        self.dpi.setSuffix(" dpi")
        self.dpi.setToolTip("Resolution of a PNG file, and of the images in PDF and SVG files.")
        self.views: dict[FigureView, QCheckBox] = {view: QCheckBox(VIEW_TITLES[view]) for view in initial.views}
        self.overview = QCheckBox("Whole slide as an inset")
        self.overview.setToolTip("Only if the result covers a part of the slide.")
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        form = QFormLayout()
        form.addRow("Title", self.title)
        form.addRow("Resolution", self.dpi)
        for row, box in zip(("Panels", *[""] * len(self.views)), (*self.views.values(), self.overview), strict=True):
            box.setChecked(True)
            box.toggled.connect(self._allow)
            form.addRow(row, box)
        column = QVBoxLayout(self)
        column.addLayout(form)
        column.addWidget(self.buttons)

    def options(self) -> FigureOptions:
        """Return the chosen layout."""
        return dataclasses.replace(
            self._initial,
            views=tuple(view for view, box in self.views.items() if box.isChecked()),
            title=self.title.text().strip(),
            dpi=self.dpi.value(),
            overview=self.overview.isChecked(),
        )

    def _allow(self) -> None:
        """Require at least one panel."""
        save = self.buttons.button(QDialogButtonBox.StandardButton.Save)
        if save is not None:
            save.setEnabled(any(box.isChecked() for box in self.views.values()))
