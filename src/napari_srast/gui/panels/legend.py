"""The legend of the genes on show: color, contrast and opacity of each, to be read and to be set."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QFontMetrics, QIcon, QPixmap
from qtpy.QtWidgets import QColorDialog, QGridLayout, QLabel, QPushButton, QSlider, QWidget
from superqt import QDoubleRangeSlider

from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.layers.gene_layer import GeneStyle
from napari_srast.gui.layers.overlay import MAX_GENES
from napari_srast.gui.widgets.tooltips import describe

__all__ = ["Legend"]

_NAME_WIDTH = 74
_SCALE_WIDTH = 84


class _Row:
    """The controls of one gene."""

    def __init__(self, legend: Legend, place: int) -> None:
        self.paint: GeneStyle | None = None
        self._legend = legend
        self.color = QPushButton()
        self.color.setFixedSize(22, 20)
        self.color.clicked.connect(self._choose_color)
        self.name = QLabel()
        self.name.setFixedWidth(_NAME_WIDTH)
        self.contrast = QDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.contrast.setMinimumWidth(60)
        self.contrast.valueChanged.connect(self._on_contrast)
        self.scale = QLabel()
        self.scale.setMinimumWidth(_SCALE_WIDTH)  # and more where a number would be cut off
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setFixedWidth(46)
        self.opacity.valueChanged.connect(self._on_opacity)
        for control, name in (
            (self.color, "gene_color"),
            (self.contrast, "gene_contrast"),
            (self.opacity, "gene_opacity"),
        ):
            describe(control, name)
        self.widgets: tuple[QWidget, ...] = (self.color, self.name, self.contrast, self.scale, self.opacity)
        for column, widget in enumerate(self.widgets):
            legend.grid.addWidget(widget, place, column)

    def set(self, paint: GeneStyle | None) -> None:
        """Show how a gene is painted; None hides the row."""
        for widget in self.widgets:
            widget.setVisible(paint is not None)
        if paint is None:
            self.paint = None
            return
        another = self.paint is None or self.paint.gene != paint.gene
        if paint == self.paint:
            return
        self.paint = paint
        swatch = QPixmap(14, 14)
        swatch.fill(QColor(paint.color))
        self.color.setIcon(QIcon(swatch))
        self.color.setAccessibleName(f"Color of {paint.gene}")
        self.contrast.setAccessibleName(f"Contrast of {paint.gene}")
        self.opacity.setAccessibleName(f"Opacity of {paint.gene}")
        metrics = QFontMetrics(self.name.font())
        self.name.setText(metrics.elidedText(paint.gene, Qt.TextElideMode.ElideRight, _NAME_WIDTH))
        self.name.setToolTip(paint.gene)
        self.scale.setText(paint.scale)
        for control in (self.contrast, self.opacity):
            control.blockSignals(True)
        if another or paint.limits[1] > self.contrast.maximum():
            self.contrast.setRange(0.0, 2 * paint.limits[1])
        self.contrast.setValue(paint.limits)
        self.opacity.setValue(round(100 * paint.opacity))
        for control in (self.contrast, self.opacity):
            control.blockSignals(False)

    def _choose_color(self) -> None:
        if self.paint is None:
            return
        chosen = QColorDialog.getColor(QColor(self.paint.color), self._legend, f"Color of {self.paint.gene}")
        if chosen.isValid():
            self._legend.repaint_gene(self.paint.gene, color=chosen.name())

    def _on_contrast(self, limits: tuple[float, float]) -> None:
        if self.paint is not None and limits[0] < limits[1]:
            self._legend.repaint_gene(self.paint.gene, limits=(float(limits[0]), float(limits[1])))

    def _on_opacity(self, percent: int) -> None:
        if self.paint is not None:
            self._legend.repaint_gene(self.paint.gene, opacity=percent / 100)


class Legend(QWidget):
    """One row for each gene on show."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.grid = QGridLayout(self)
        self.grid.setContentsMargins(0, 0, 0, 0)
        self.grid.setHorizontalSpacing(4)
        self.grid.setVerticalSpacing(2)
        self.grid.setColumnStretch(2, 1)
        self.rows = [_Row(self, place) for place in range(MAX_GENES)]
        self.set(())

    def set(self, paints: Sequence[GeneStyle]) -> None:
        """Show how the genes are painted."""
        for row, paint in zip(self.rows, [*paints, *[None] * (MAX_GENES - len(paints))], strict=True):
            row.set(paint)

    def repaint_gene(
        self,
        gene: str,
        *,
        color: str | None = None,
        limits: tuple[float, float] | None = None,
        opacity: float | None = None,
    ) -> None:
        """Paint a gene differently."""
        if self._controller.results.overlay is not None:
            self._controller.results.overlay.set_style(gene, color=color, limits=limits, opacity=opacity)
