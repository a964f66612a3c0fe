"""Panel that draws, lists, saves and loads the regions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMenu, QMessageBox, QWidget

from napari_srast._utils.text import count
from napari_srast.errors import RegionError
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.export.save_paths import suggested_path
from napari_srast.gui.layers.regions import Tool
from napari_srast.gui.panels.region_table import RegionTable
from napari_srast.gui.widgets.common import button, label
from napari_srast.gui.widgets.section import Section, row_of
from napari_srast.gui.widgets.tooltips import allow

__all__ = ["RegionPanel"]

_BUTTON_PADDING = 24  # pixels; also for the arrow of a menu


class RegionPanel(QWidget):
    """Draw the regions, list them with their spots, save and load them.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.section = Section("section_region", "Regions")
        column = self.section.column
        tools: tuple[tuple[Tool, str], ...] = (
            ("rectangle", "Rectangle"),
            ("ellipse", "Ellipse"),
            ("polygon", "Polygon"),
            ("lasso", "Lasso"),
        )
        regions = controller.regions
        self.tools = [button(f"draw_{tool}", text, partial(regions.switch_tool, tool)) for tool, text in tools]
        self.edit = button("edit_region", "Edit", partial(regions.switch_tool, "edit"))
        self._tool_buttons = dict(zip((*(tool for tool, _ in tools), "edit"), (*self.tools, self.edit), strict=True))
        for tool in self._tool_buttons.values():
            tool.setCheckable(True)
        column.addLayout(row_of(*self.tools))
        self.offer = label()
        self.restore = button("restore_regions", "Restore", regions.recovery.restore)
        self.discard = button("discard_regions", "Discard", regions.recovery.discard)
        self._offer = QWidget()
        offer = row_of(*(self.offer, self.restore, self.discard))
        offer.setContentsMargins(0, 0, 0, 0)
        offer.setStretch(0, 1)
        self._offer.setLayout(offer)
        column.addWidget(self._offer)
        self.table = RegionTable(regions)
        column.addWidget(self.table)
        self.count = label()
        column.addWidget(self.count)
        self.take = button("take_shapes", "Use them as the region", self._take)
        column.addWidget(self.take)
        self.undo = button("undo_region", "Undo", lambda: regions.undo())
        self.redo = button("redo_region", "Redo", lambda: regions.redo())
        self.clear = button("clear_region", "Clear", lambda: regions.clear())
        self.files = button("region_files", "Files", lambda: None)
        menu = QMenu(self.files)
        menu.setToolTipsVisible(True)
        self.save_geojson = menu.addAction("Save as GeoJSON…", self._save_geojson)
        self.load_geojson = menu.addAction("Load GeoJSON…", self._load_geojson)
        self.save_with_slide = menu.addAction("Save with the slide", regions.files.save_with_slide)
        self.saved = menu.addMenu("Load from the slide")
        assert self.saved is not None
        self.saved.aboutToShow.connect(self._list_saved)
        menu.aboutToShow.connect(self._refresh_files)
        self.files.setMenu(menu)
        changes = (self.edit, self.undo, self.redo, self.clear, self.files)
        for control in changes:  # Qt gives short texts more room than a narrow dock has
            control.setMinimumWidth(control.fontMetrics().horizontalAdvance(control.text()) + _BUTTON_PADDING)
        column.addLayout(row_of(*changes))
        self.section.fill(self)
        for signal in (
            controller.regions.region_changed,
            controller.slides.coordinate_system_changed,
            controller.tasks.state_changed,
            controller.slides.layers_changed,
        ):
            signal.connect(self.refresh)
        regions.tool_changed.connect(self._show_tool)
        regions.recovery.changed.connect(self._show_offer)
        self.refresh()

    def refresh(self) -> None:
        """Show the number of spots inside and enable the controls that can be used now."""
        slide = self._controller.slides.slide
        drawn = self._controller.regions.all()
        self.table.show_regions(drawn)
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
        elif inside is None and drawn:
            text = f"No region is ticked: the whole slide is used, {count(slide.n_spots, 'spot')}."
        elif inside is None:
            text = f"No region: the whole slide is used, {count(slide.n_spots, 'spot')}."
        elif inside == 0:
            text = "No spot is inside; draw over the spots."
        else:
            ticked = sum(region.is_used for region, _ in drawn)
            of_regions = f" {ticked:,} of {len(drawn):,} regions" if ticked < len(drawn) else ""
            text = f"{inside:,} of {slide.n_spots:,} spots inside{of_regions}."
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
        can_undo, can_redo = self._controller.regions.can_undo, self._controller.regions.can_redo
        allow(self.undo, no_slide or (None if can_undo else "There is nothing to undo."))
        allow(self.redo, no_slide or (None if can_redo else "There is nothing to redo."))
        self._show_tool()
        self._show_offer()

    def _show_tool(self) -> None:
        """Show which tool is active."""
        active = self._controller.regions.tool
        for tool, control in self._tool_buttons.items():
            control.setChecked(tool == active)

    def _show_offer(self) -> None:
        """Offer regions of an earlier session that were not saved."""
        offered = self._controller.regions.recovery.offered
        self.offer.setText(f"{count(len(offered), 'region')} of an earlier session not saved.")
        self._offer.setVisible(bool(offered))

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
            obstacle or busy or "Add all regions to the store of the slide under a new name."
        )
        self.saved.setEnabled(not has_no_store)

    def _list_saved(self) -> None:
        menu = self.saved
        assert menu is not None
        menu.clear()
        for name, saved in self._controller.regions.files.saved().items():
            text = f"{name}: {count(len(saved), 'region')}"
            menu.addAction(text, partial(self._controller.regions.files.load, saved))
        if not menu.actions():
            none = menu.addAction("No saved regions")
            assert none is not None
            none.setEnabled(False)

    def _save_geojson(self) -> None:
        session = self._controller.slides.current
        if session is None:
            return
        suggested = suggested_path(session.slide, session.title, "regions", suffix=".geojson")
        path, _ = QFileDialog.getSaveFileName(self, "Save the regions", suggested, "GeoJSON (*.geojson)")
        if path:
            self._controller.regions.files.save_geojson(Path(path))

    def _load_geojson(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load regions", "", "GeoJSON (*.geojson *.json);;All (*)")
        regions = self._controller.regions
        annotations = regions.files.read_geojson(Path(path)) if path else []
        if not regions.files.may_be_pixels(annotations):
            regions.files.load(annotations)
            return
        pixels = self.ask_for_pixels(Path(path))
        if pixels is not None:
            regions.files.load(annotations, pixels=pixels)

    def ask_for_pixels(self, path: Path) -> bool | None:
        """Ask whether the coordinates of a file are pixels of the image; None if the user cancels."""
        slide = self._controller.slides.slide
        assert slide is not None
        box = QMessageBox(self)
        box.setWindowTitle("Load regions")
        box.setTextFormat(Qt.TextFormat.PlainText)  # the name of the file may look like HTML
        box.setText(f"'{path.name}' does not say in which unit its coordinates are. QuPath uses pixels of the image.")
        pixels = box.addButton(f"Pixels of {slide.source.image or 'the image'}", QMessageBox.ButtonRole.YesRole)
        unit = "" if slide.cs_unit == "unknown" else f" ({slide.cs_unit})"
        box.addButton(f"Coordinates of {slide.coordinate_system}{unit}", QMessageBox.ButtonRole.NoRole)
        cancel = box.addButton(QMessageBox.StandardButton.Cancel)
        box.exec()
        return None if box.clickedButton() is cancel else box.clickedButton() is pixels
