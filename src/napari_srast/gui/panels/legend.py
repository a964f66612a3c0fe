"""Legend of the displayed genes, with controls for color, contrast limits and opacity."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QFontMetrics, QIcon, QLinearGradient, QPainter, QPixmap
from qtpy.QtWidgets import QColorDialog, QGridLayout, QLabel, QPushButton, QSlider, QWidget
from superqt import QDoubleRangeSlider

from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.layers.gene_colors import GeneStyle
from napari_srast.gui.layers.overlay import MAX_GENES
from napari_srast.gui.widgets.common import label
from napari_srast.gui.widgets.tooltips import describe

__all__ = ["Legend"]

_NAME_WIDTH = 70
_SCALE_WIDTH = 84
_MAX_SCALE_WIDTH = 108  # of the limits; longer ones are in the tooltip


class _Row:
    """The controls of one gene."""

    def __init__(self, legend: Legend, row: int) -> None:
        self.style: GeneStyle | None = None
        self._unit = ""
        self._legend = legend
        self.color = QPushButton()
        self.color.setFixedSize(22, 20)
        self.color.clicked.connect(self._choose_color)
        self.name = QLabel()
        self.name.setFixedWidth(_NAME_WIDTH)
        self.contrast = QDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.contrast.setMinimumWidth(40)
        self.contrast.valueChanged.connect(self._on_contrast)
        self.scale = QLabel()
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setFixedWidth(36)
        self.opacity.valueChanged.connect(self._on_opacity)
        for control, name in (
            (self.color, "gene_color"),
            (self.contrast, "gene_contrast"),
            (self.opacity, "gene_opacity"),
        ):
            describe(control, name)
        self.widgets: tuple[QWidget, ...] = (self.color, self.name, self.contrast, self.scale, self.opacity)
        for column, widget in enumerate(self.widgets):
            legend.grid.addWidget(widget, row, column)

    def set(self, style: GeneStyle | None, unit: str = "") -> None:
        """Show the style of a gene, with limits in a unit; None hides the row."""
        for widget in self.widgets:
            widget.setVisible(style is not None)
        if style is None:
            self.style = None
            return
        is_other_scale = self.style is None or self.style.gene != style.gene or unit != self._unit
        if style == self.style and unit == self._unit:
            return
        self.style, self._unit = style, unit
        self.color.setIcon(QIcon(_ramp(style, self.color.iconSize().width())))
        self.color.setAccessibleName(f"Color of {style.gene}")
        self.contrast.setAccessibleName(f"Contrast of {style.gene}")
        self.opacity.setAccessibleName(f"Opacity of {style.gene}")
        metrics = QFontMetrics(self.name.font())
        self.name.setText(metrics.elidedText(style.gene, Qt.TextElideMode.ElideMiddle, _NAME_WIDTH))
        self.name.setToolTip(style.gene)
        limits = self.scale.fontMetrics().elidedText(style.scale, Qt.TextElideMode.ElideRight, _MAX_SCALE_WIDTH)
        self.scale.setText(limits)
        self.scale.setToolTip(style.scale)
        self.scale.setMinimumWidth(max(_SCALE_WIDTH, self.scale.fontMetrics().horizontalAdvance(limits)))
        for control in (self.contrast, self.opacity):
            control.blockSignals(True)
        if is_other_scale or style.limits[1] > self.contrast.maximum():
            self.contrast.setRange(0.0, 2 * style.limits[1])
        self.contrast.setValue(style.limits)
        self.opacity.setValue(round(100 * style.opacity))
        for control in (self.contrast, self.opacity):
            control.blockSignals(False)

    def _choose_color(self) -> None:
        if self.style is None:
            return
        chosen = QColorDialog.getColor(QColor(self.style.color), self._legend, f"Color of {self.style.gene}")
        if chosen.isValid():
            self._legend.set_style(self.style.gene, color=chosen.name())

    def _on_contrast(self, limits: tuple[float, float]) -> None:
        if self.style is not None and limits[0] < limits[1]:
            self._legend.set_style(self.style.gene, limits=(float(limits[0]), float(limits[1])))

    def _on_opacity(self, percent: int) -> None:
        if self.style is not None:
            self._legend.set_style(self.style.gene, opacity=percent / 100)


def _ramp(style: GeneStyle, size: int) -> QPixmap:
    """Return a square with the colors of a gene, from its low contrast limit (left) to its high one."""
    pixmap = QPixmap(size, size)
    pixmap.fill(QColor("#333333"))  # about the gray of dimmed histology, below transparent colors
    ramp = QLinearGradient(0, 0, size, 0)
    stops = style.colormap_stops
    ramp.setStops([(i / (len(stops) - 1), QColor(f"#{stop[7:]}{stop[1:7]}")) for i, stop in enumerate(stops)])
    painter = QPainter(pixmap)
    painter.fillRect(pixmap.rect(), ramp)
    painter.end()
    return pixmap


class Legend(QWidget):
    """One row for each displayed gene.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.grid = QGridLayout(self)
        self.grid.setContentsMargins(0, 0, 0, 0)
        self.grid.setHorizontalSpacing(4)
        self.grid.setVerticalSpacing(2)
        self.grid.setColumnStretch(2, 1)
        self.rows = [_Row(self, row) for row in range(MAX_GENES)]
        self.meaning = label()
        self.grid.addWidget(self.meaning, MAX_GENES, 0, 1, -1)
        self.all_slides = label()
        self.grid.addWidget(self.all_slides, MAX_GENES + 1, 0, 1, -1)
        controller.all_slides.changed.connect(self._show_note)
        self._show_note()
        self.set(())

    def set(self, styles: Sequence[GeneStyle], meaning: str = "") -> None:
        """Show the styles of genes, at most :data:`MAX_GENES`, and what their colors mean, with the unit."""
        for row, style in zip(self.rows, [*styles, *[None] * (MAX_GENES - len(styles))], strict=True):
            row.set(style, meaning)
        self.meaning.setText(meaning)

    def _show_note(self) -> None:
        self.all_slides.setText(self._controller.all_slides.note)
        self.all_slides.setVisible(bool(self._controller.all_slides.note))

    def set_style(
        self,
        gene: str,
        *,
        color: str | None = None,
        limits: tuple[float, float] | None = None,
        opacity: float | None = None,
    ) -> None:
        """Change the style of a gene; see :meth:`Overlay.set_style`."""
        if self._controller.results.overlay is not None:
            self._controller.results.overlay.set_style(gene, color=color, limits=limits, opacity=opacity)
