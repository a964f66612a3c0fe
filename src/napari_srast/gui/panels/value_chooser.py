"""Choose which values of the genes are shown: expression, counts or measured spots, their scale and their display."""

from __future__ import annotations

import dataclasses
from typing import Any

from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QHBoxLayout, QWidget

from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.state.gene_values import MIN_GENES_OF_TOTALS, Quantity, Scale
from napari_srast.gui.widgets.common import chooser
from napari_srast.gui.widgets.tooltips import allow

__all__ = ["ValueChooser"]

_QUANTITIES: tuple[Quantity, ...] = ("expression", "counts")
_MEASURED = len(_QUANTITIES)
_SCALES: tuple[Scale, ...] = ("as_is", "per_10k", "log")
# napari's combo boxes waste 45 pixels of each, and three next to each other would cut their texts.
_STYLE = """
QComboBox { padding: 3px 1px 3px 4px; }
QComboBox::drop-down { width: 15px; }
QComboBox::down-arrow { width: 12px; height: 12px; }
"""
_PADDING = 22  # pixels of a combo box besides its text
_NO_RESULT = "Run first: there is no result yet."


class ValueChooser(QWidget):
    """Three choosers in a row.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.quantity = chooser("shown_values", ("Expression", "Counts", "Measured spots"))
        self.scale = chooser("shown_scale", ("As is", "Per 10,000", "log1p"))
        self.display = chooser("shown_display", ("Nearest", "Smooth"))
        self.quantity.activated.connect(self._on_quantity)
        self.scale.activated.connect(lambda index: self._change(scale=_SCALES[index]))
        self.display.activated.connect(lambda index: self._change(smooth=bool(index)))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        self.setStyleSheet(_STYLE)
        self._choosers = (self.quantity, self.scale, self.display)
        for control in self._choosers:
            row.addWidget(control, 1)
        self.refresh()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: D102
        super().showEvent(event)
        for control in self._choosers:  # the font is that of the theme
            texts = (control.itemText(index) for index in range(control.count()))
            control.setMinimumWidth(max(map(control.fontMetrics().horizontalAdvance, texts)) + _PADDING)

    def refresh(self) -> None:
        """Show the current choice, and enable what can be chosen."""
        overlay = self._controller.results.overlay
        if overlay is None:
            for control in self._choosers:
                allow(control, _NO_RESULT)
            return
        view, values, is_std = overlay.value_view, overlay.values, overlay.view == "std"
        has_expression = values.expression is not None
        items: Any = self.quantity.model()
        items.item(0).setEnabled(has_expression)
        is_measured = overlay.view == "before" and overlay.compared is None
        quantity = _QUANTITIES.index(view.quantity if has_expression else "counts")
        self.quantity.setCurrentIndex(_MEASURED if is_measured else quantity)
        self.scale.setCurrentIndex(_SCALES.index(view.scale))
        self.display.setCurrentIndex(int(view.smooth))
        of_counts = "The uncertainty is that of the counts per pixel." if is_std else None
        few = f"The total of a pixel needs a run of at least {MIN_GENES_OF_TOTALS} genes."
        allow(self.quantity, of_counts)
        allow(self.scale, of_counts or (None if values.has_totals else few))
        allow(self.display, None)

    def _on_quantity(self, index: int) -> None:
        overlay = self._controller.results.overlay
        if overlay is None:
            return
        if index == _MEASURED:
            overlay.compare_with(None)
            overlay.set_view("before")
            self._controller.results.display_changed.emit()
        else:
            if overlay.view == "before":
                overlay.set_view("after")
            overlay.set_values(dataclasses.replace(overlay.value_view, quantity=_QUANTITIES[index]))

    def _change(self, **changes: Any) -> None:
        overlay = self._controller.results.overlay
        if overlay is not None:
            overlay.set_values(dataclasses.replace(overlay.value_view, **changes))
