"""Panel that counts the displayed result in segmented cells, and shows and saves them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QFileDialog, QInputDialog, QLabel, QMenu, QWidget

from napari_srast.gui.controllers.cells import CellColor, CellDisplay
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.panels.export import NO_RESULT
from napari_srast.gui.panels.save_dialog import ask_save_path
from napari_srast.gui.state.cell_sources import CellSource, file_source
from napari_srast.gui.widgets.common import button, chooser, label
from napari_srast.gui.widgets.section import Section, row_of
from napari_srast.gui.widgets.tooltips import allow

__all__ = ["CellPanel"]

_DISPLAYS: tuple[CellDisplay, ...] = ("fill", "outlines", "hidden")
_COLORS: tuple[CellColor, ...] = ("genes", "total", "sharing", "std")
_COLOR_TITLES = ("Shown genes", "All counts", "Cells per spot", "Uncertainty")
_FILE = "File…"
_FILE_KINDS = "Polygons and label images (*.geojson *.json *.tif *.tiff);;All (*)"
_NO_CELLS = "Count the cells first."
_HINT = (
    "Cells are labels or polygons of the slide, a layer of napari, such as one of cellpose or StarDist, or a file. "
    "They get the counts of the pixels that they cover."
)


class CellPanel(QWidget):
    """Choose cells, count the result in them, show them over the slide, and save them.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._sources: list[CellSource] = []
        self._files: dict[Path, str | None] = {}  # that the user has chosen, with their coordinate systems
        self.section = Section("section_cells", "Cells")
        self.section.unfold(False)
        self.source = chooser("cell_source")
        self.source.activated.connect(self._on_source)
        self.start = button("count_cells", "Count", self._count)
        self.color = chooser("color_cells", _COLOR_TITLES)
        self.color.activated.connect(lambda index: controller.cells.set_color(_COLORS[index]))
        self.display = chooser("show_cells", ("Fill", "Outlines", "Hidden"))
        self.display.activated.connect(lambda index: controller.cells.set_display(_DISPLAYS[index]))
        self.save = button("save_cells", "Save", lambda: None)
        menu = QMenu(self.save)
        menu.setToolTipsVisible(True)
        self.save_into = menu.addAction("Into the store of the slide…", self._save_into)
        self.save_into_other = menu.addAction("Into another store with this result…", self._save_into_other)
        for kind, title in (("zarr", "New SpatialData store"), ("h5ad", "Table"), ("csv", "Table")):
            menu.addAction(f"{title} (.{kind})…", partial(self._save_as, kind))
        self.save.setMenu(menu)
        self.meaning, self.note, self.readout = label(), label(), label()
        self._lay_out()
        self.section.header.clicked.connect(lambda _: self.refresh())
        for signal in (
            controller.cells.changed,
            controller.results.result_changed,
            controller.slides.layers_changed,
            controller.slides.slide_changed,
        ):
            signal.connect(self.refresh)
        controller.cells.colored.connect(self._show_meaning)
        controller.cells.readout_changed.connect(self._show_readout)
        controller.tasks.state_changed.connect(self._allow)
        self.refresh()

    def _lay_out(self) -> None:
        column = self.section.column
        column.addLayout(row_of(self.source, self.start, stretch=(2, 1)))
        column.addLayout(row_of(QLabel("Color"), self.color))
        column.addLayout(row_of(self.display, self.save))
        column.addWidget(self.meaning)
        column.addWidget(self.note)
        column.addWidget(self.readout)
        column.addStretch(1)
        self.section.fill(self)

    def refresh(self) -> None:
        """List the cells that can be counted, and describe those that were."""
        cells = self._controller.cells
        if self.section.is_open:  # a folded section does so once it is unfolded
            self._list_sources()
        self.display.setCurrentIndex(_DISPLAYS.index(cells.display))
        self.color.setCurrentIndex(_COLORS.index(cells.color))
        self._show_meaning()
        self.note.setText(cells.summary() or _HINT)
        found = cells.current
        self.section.set_summary("" if found is None else f"{len(found.obs):,}")
        if found is None or not self.readout.text():
            self._show_readout("")
        self._allow()

    def _list_sources(self) -> None:
        session = self._controller.slides.current
        files = [] if session is None else [file_source(p, session.slide, cs) for p, cs in self._files.items()]
        self._sources = [*self._controller.cells.sources(), *files]
        chosen = self.source.currentData()
        with QSignalBlocker(self.source):
            self.source.clear()
            for source in self._sources:
                self.source.addItem(source.title, source.key)
            self.source.addItem(_FILE, None)
            keys = [source.key for source in self._sources]
            self.source.setCurrentIndex(keys.index(chosen) if chosen in keys else 0)

    def _allow(self) -> None:
        """Enable the controls that can be used now."""
        controller = self._controller
        displayed, found = controller.results.current, controller.cells.current
        busy = controller.tasks.busy_reason()
        no_result = NO_RESULT if displayed is None else None
        no_source = None if self._chosen() is not None else "Choose cells first, such as a file."
        allow(self.source, no_result)
        allow(self.start, no_result or busy or no_source)
        no_cells = no_result or (None if found is not None else _NO_CELLS)
        allow(self.display, no_cells)
        outlined = None if controller.cells.display == "fill" else "Show the cells with 'Fill' to color them."
        allow(self.color, no_cells or outlined)
        allow(self.save, no_cells or busy)
        no_std = found is not None and found.std is None
        item = self.color.model().item(_COLORS.index("std"))  # type: ignore[union-attr]
        item.setEnabled(not no_std)
        item.setToolTip("Run with the mode 'sample' to compute the uncertainty." if no_std else "")
        source = None if found is None else found.result.slide.source
        has_store = source is not None and source.path is not None and not source.synthetic
        assert self.save_into is not None
        self.save_into.setEnabled(has_store)
        tooltip = "Add the cells and their tables to the store of the slide, in which the result has to be saved."
        self.save_into.setToolTip(tooltip if has_store else "The slide was not read from a store.")

    def _show_meaning(self) -> None:
        text = self._controller.cells.meaning()
        self.meaning.setText(text)
        self.meaning.setVisible(bool(text))

    def _show_readout(self, text: str) -> None:
        has_cells = self._controller.cells.current is not None
        self.readout.setText(text or ("Point at a cell to read its counts." if has_cells else ""))
        # The label never shrinks, so that the panel does not move with the cursor.
        needed = self.readout.heightForWidth(self.readout.width()) if has_cells else 0
        self.readout.setMinimumHeight(max(self.readout.minimumHeight(), needed) if has_cells else 0)

    # ------------------------------------------------------------------- cells

    def _chosen(self) -> CellSource | None:
        key = self.source.currentData()
        return next((source for source in self._sources if source.key == key), None)

    def _on_source(self, index: int) -> None:
        if self.source.itemData(index) is None:
            self._choose_file()
        self._allow()

    def _choose_file(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Choose cells", "", _FILE_KINDS)
        if chosen:
            self.add_file(Path(chosen))
        else:
            self._list_sources()

    def add_file(self, path: Path) -> None:
        """Offer the cells of a file, and choose it; ask for its coordinate system if the slide has several."""
        system = self._coordinate_system() if path.suffix.casefold() in (".geojson", ".json") else None
        self._files[path] = system
        self._list_sources()
        self.source.setCurrentIndex(self.source.findText(f"file: {path.name}"))
        self._allow()

    def _coordinate_system(self) -> str | None:
        """Ask in which coordinate system a file is that names none."""
        slide = self._controller.slides.slide
        assert slide is not None
        first, *others = slide.transforms.values()
        if all(np.allclose(first, other) for other in others):
            return None
        systems = list(slide.transforms)
        text = "Coordinate system of the file, if it names none\n(Space Ranger: pixels of the full-resolution image)"
        index = systems.index(slide.coordinate_system)
        system, is_confirmed = QInputDialog.getItem(self, "Choose cells", text, systems, index, False)
        return str(system) if is_confirmed else None

    def _count(self) -> None:
        source = self._chosen()
        if source is not None:
            self._controller.cells.count(source)

    # -------------------------------------------------------------------- save

    def _ask_name(self) -> str | None:
        name, is_confirmed = QInputDialog.getText(self, "Save cells", "Name of the cells:", text="cells")
        return name.strip() if is_confirmed else None

    def _save_into(self) -> None:
        """Ask for a name, because a store may hold several sets of cells, and save them."""
        name = self._ask_name()
        if name is not None:
            self._controller.cells.save(None, name)

    def _save_into_other(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Store (.zarr) in which the result is saved")
        name = self._ask_name() if chosen else None
        if name is not None:
            self._controller.cells.save(Path(chosen), name)

    def _save_as(self, kind: str) -> None:
        path = ask_save_path(self, self._controller, "Save cells", [f".{kind}"], "cells")
        if path is not None:
            self._controller.cells.save(path)
