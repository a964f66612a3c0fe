"""Panel that draws, saves and loads the region."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QWidget

from napari_srast._utils.text import count
from napari_srast.errors import RegionError
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.layers.regions import Tool
from napari_srast.gui.widgets.common import button, label
from napari_srast.gui.widgets.section import Section
from napari_srast.gui.widgets.tooltips import allow

__all__ = ["RegionPanel"]


class RegionPanel(QWidget):
    """Draw the region, count its spots, save and load it.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.section = Section("section_region", "Region")
        column = self.section.column
        tools: tuple[tuple[Tool, str], ...] = (
            ("rectangle", "Rectangle"),
            ("ellipse", "Ellipse"),
            ("polygon", "Polygon"),
            ("lasso", "Lasso"),
        )
        row = QHBoxLayout()
        row.setSpacing(4)
        self.tools = [button(f"draw_{tool}", text, partial(controller.regions.draw, tool)) for tool, text in tools]
        for tool in self.tools:
            row.addWidget(tool)
        column.addLayout(row)
        self.count = label()
        column.addWidget(self.count)
        self.take = button("take_shapes", "Use them as the region", self._take)
        column.addWidget(self.take)
        self.edit = button("edit_region", "Edit", partial(controller.regions.draw, "edit"))
        self.undo = button("undo_region", "Undo", lambda: controller.regions.undo())
        self.clear = button("clear_region", "Clear", lambda: controller.regions.clear())
        self.files = button("region_files", "Save, load", lambda: None)
        menu = QMenu(self.files)
        menu.setToolTipsVisible(True)
        self.save_geojson = menu.addAction("Save as GeoJSON…", self._save_geojson)
        self.load_geojson = menu.addAction("Load GeoJSON…", self._load_geojson)
        self.save_with_slide = menu.addAction("Save with the slide", controller.regions.save_with_slide)
        self.saved = menu.addMenu("Load from the slide")
        assert self.saved is not None
        self.saved.aboutToShow.connect(self._list_saved)
        menu.aboutToShow.connect(self._refresh_files)
        self.files.setMenu(menu)
        row = QHBoxLayout()
        row.setSpacing(4)
        for control in (self.edit, self.undo, self.clear, self.files):
            row.addWidget(control)
        column.addLayout(row)
        outer = QHBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.section)
        for signal in (
            controller.regions.region_changed,
            controller.slides.coordinate_system_changed,
            controller.tasks.state_changed,
            controller.slides.layers_changed,
        ):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the number of spots inside and enable the controls that can be used now."""
        slide = self._controller.slides.slide
        try:
            inside = self._controller.regions.n_spots_inside()
            problem = None
        except RegionError as error:
            inside, problem = 0, str(error)
        shapes = [] if slide is None or inside else self._controller.regions.foreign_shapes()
        if slide is None:
            text = "Open a slide first."
        elif problem is not None:
            text = problem
        elif shapes:
            text = f"The shapes in layer '{shapes[0].name}' are not part of the region."
        elif inside is None:
            text = f"No region: the whole slide is used, {count(slide.n_spots, 'spot')}."
        elif inside == 0:
            text = "No spot is inside; draw over the spots."
        else:
            text = f"{inside:,} of {slide.n_spots:,} spots inside."
        self.count.setText(text)
        self.section.set_summary(text)
        self.take.setVisible(bool(shapes))
        no_slide = None if slide is not None else "Open a slide first."
        for tool in (*self.tools, self.files):
            allow(tool, no_slide)
        layer = self._controller.regions.layer
        empty = no_slide or ("Draw a region first." if layer is None or len(layer.data) == 0 else None)
        allow(self.edit, empty)
        allow(self.clear, empty)
        allow(self.undo, no_slide or (None if self._controller.regions.can_undo else "There is nothing to undo."))

    def _take(self) -> None:
        shapes = self._controller.regions.foreign_shapes()
        if shapes:
            self._controller.regions.take(shapes[0])

    def _refresh_files(self) -> None:
        """Enable the menu items that can be used now; the tooltips of the others show the reason."""
        layer, slide = self._controller.regions.layer, self._controller.slides.slide
        is_empty = layer is None or len(layer.data) == 0
        has_no_store = slide is None or slide.source.path is None or slide.source.synthetic
        assert self.save_geojson is not None
        assert self.save_with_slide is not None
        assert self.saved is not None
        self.save_geojson.setEnabled(not is_empty)
        no_region = "Draw a region first." if is_empty else None
        self.save_geojson.setToolTip(no_region or "Save a GeoJSON file, which other programs can read.")
        obstacle = "The slide was not read from a store." if has_no_store else no_region
        busy = self._controller.tasks.busy_reason()
        self.save_with_slide.setEnabled(obstacle is None and busy is None)
        self.save_with_slide.setToolTip(
            obstacle or busy or "Add the region to the store of the slide under a new name."
        )
        self.saved.setEnabled(not has_no_store)

    def _list_saved(self) -> None:
        menu = self.saved
        assert menu is not None
        menu.clear()
        for name, region in self._controller.regions.saved().items():
            menu.addAction(name, partial(self._controller.regions.set, region))
        if not menu.actions():
            none = menu.addAction("No saved regions")
            assert none is not None
            none.setEnabled(False)

    def _save_geojson(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the region", "region.geojson", "GeoJSON (*.geojson)")
        if path:
            self._controller.regions.save_geojson(Path(path))

    def _load_geojson(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load a region", "", "GeoJSON (*.geojson *.json);;All (*)")
        if path:
            self._controller.regions.load_geojson(Path(path))
