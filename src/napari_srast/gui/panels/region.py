"""The part of the window that draws the region."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QHBoxLayout, QWidget

from napari_srast.errors import RegionError
from napari_srast.gui.controller import Controller
from napari_srast.gui.panels.common import button, group, label
from napari_srast.gui.regions import Tool
from napari_srast.gui.tooltips import allow

__all__ = ["RegionPanel"]


class RegionPanel(QWidget):
    """Drawing tools and the live count of spots."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        box, column = group("Region")
        tools: tuple[tuple[Tool, str], ...] = (
            ("rectangle", "Rectangle"),
            ("ellipse", "Ellipse"),
            ("polygon", "Polygon"),
            ("lasso", "Lasso"),
        )
        row = QHBoxLayout()
        row.setSpacing(4)
        self.tools = [button(f"draw_{tool}", text, partial(controller.draw, tool)) for tool, text in tools]
        for tool in self.tools:
            row.addWidget(tool)
        column.addLayout(row)
        self.count = label()
        self.edit = button("edit_region", "Edit", partial(controller.draw, "edit"))
        self.clear = button("clear_region", "Clear", controller.regions.clear)
        row = QHBoxLayout()
        row.addWidget(self.count, 1)
        row.addWidget(self.edit)
        row.addWidget(self.clear)
        column.addLayout(row)
        outer = QHBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(box)
        controller.region_changed.connect(self.refresh)
        controller.coordinate_system_changed.connect(self.refresh)
        controller.phase_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Count the spots inside and enable what can be done."""
        slide = self._controller.slide
        try:
            inside = self._controller.n_spots_inside()
            problem = None
        except RegionError as error:
            inside, problem = 0, str(error)
        if slide is None:
            text = "Open a slide first."
        elif problem is not None:
            text = problem
        elif inside is None:
            text = f"No region: the whole slide, {slide.n_spots:,} spots."
        elif inside == 0:
            text = "No spot lies inside; draw over the spots."
        else:
            text = f"{inside:,} of {slide.n_spots:,} spots inside."
        self.count.setText(text)
        closed = None if slide is not None else "Open a slide first."
        for tool in self.tools:
            allow(tool, closed)
        layer = self._controller.regions.layer
        empty = closed or ("Draw a region first." if layer is None or len(layer.data) == 0 else None)
        allow(self.edit, empty)
        allow(self.clear, empty)
