"""Panel that opens slides and chooses their elements."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QFormLayout, QHBoxLayout, QLineEdit, QMenu, QWidget

from napari_srast._utils.text import count
from napari_srast.core.slide import Slide, SlideSource
from napari_srast.errors import ChoiceError
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import has_length_unit
from napari_srast.gui.layers.scale_bar import NO_SCALE_BAR
from napari_srast.gui.state.slide_import import needs_import, user_path
from napari_srast.gui.state.slide_loading import Choices, ExternalSlide, SpotSummary, external_slides
from napari_srast.gui.state.slide_session import SlideSession, unique_titles
from napari_srast.gui.widgets.choice_dialog import ChoiceDialog
from napari_srast.gui.widgets.common import button, chooser, label
from napari_srast.gui.widgets.import_dialog import ImportDialog
from napari_srast.gui.widgets.section import Section
from napari_srast.gui.widgets.tooltips import allow, describe
from napari_srast.io.sections import ALL_SECTIONS

__all__ = ["SlidePanel"]

_DEPENDENT = {"spots": ("table", "library", "image"), "table": ("spots", "library", "image"), "library": ("image",)}
"""Elements that are chosen again after another one was chosen."""


class SlidePanel(QWidget):
    """Open slides, switch between them, and choose coordinate system, section, spots, table and image.

    Parameters
    ----------
    controller
        Controller of the window.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.section = Section("section_slide", "Slide")
        column = self.section.column
        self.path = QLineEdit()
        self.path.setPlaceholderText("Drop a slide here, or type its path")
        describe(self.path, "slide_path")
        self.path.returnPressed.connect(self._open_path)
        self.browse = button("browse_slide", "Browse…", lambda: None)
        menu = QMenu(self.browse)
        self.browse_folder = menu.addAction("Folder (.zarr, Space Ranger)…", self._browse)
        self.browse_table = menu.addAction("Table (.h5ad)…", self._browse_table)
        self.browse.setMenu(menu)
        self.sample = button("open_sample", "Sample slide", controller.slides.open_sample)
        self.recent = button("recent_slides", "Recent", lambda: None)
        self.recent_menu = QMenu(self.recent)
        self.recent_menu.aboutToShow.connect(self._list_recent)
        self.recent.setMenu(self.recent_menu)
        self.use_shown = button("use_shown", "Use the displayed slide", self._adopt_external)
        row = QHBoxLayout()
        row.addWidget(self.path, 1)
        row.addWidget(self.browse)
        column.addLayout(row)
        row = QHBoxLayout()
        row.addWidget(self.sample)
        row.addWidget(self.recent)
        row.addWidget(self.use_shown)
        row.addStretch(1)
        column.addLayout(row)
        self.slides = chooser("open_slides")
        self.close_slide = button("close_slide", "Close", controller.slides.close)
        self._open_row = QWidget()
        row = QHBoxLayout(self._open_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slides, 1)
        row.addWidget(self.close_slide)
        column.addWidget(self._open_row)
        self.all_slides = QCheckBox("Show all slides")  # the widget places it where it is visible in all tabs
        describe(self.all_slides, "show_all_slides")
        self.all_slides.toggled.connect(controller.all_slides.set_on)
        controller.all_slides.changed.connect(lambda: self.all_slides.setChecked(controller.all_slides.is_on))
        self.about = label()
        self.about.setTextFormat(Qt.TextFormat.RichText)
        column.addWidget(self.about)
        self._form = QFormLayout()
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.coordinate_system = chooser("coordinate_system")
        self.library = chooser("choose_section")
        self.spots = chooser("choose_spots")
        self.table = chooser("choose_table")
        self.image = chooser("choose_image")
        for title, control in (
            ("Coordinates", self.coordinate_system),
            ("Section", self.library),
            ("Spots", self.spots),
            ("Table", self.table),
            ("Image", self.image),
        ):
            self._form.addRow(title, control)
        column.addLayout(self._form)
        self.section.fill(self)
        self.slides.activated.connect(lambda index: controller.slides.switch(controller.slides.sessions[index]))
        self.coordinate_system.activated.connect(
            lambda _: controller.slides.set_coordinate_system(self.coordinate_system.currentData())
        )
        for option, control, _, _ in self._elements():
            control.textActivated.connect(partial(self._reopen, option))
        controller.tasks.choice_needed.connect(self._on_choice_needed)
        controller.slides.slide_changed.connect(self.refresh)
        controller.slides.coordinate_system_changed.connect(self.refresh)
        controller.tasks.state_changed.connect(self.refresh_allowed)
        controller.slides.layers_changed.connect(self.refresh_allowed)
        self.refresh()

    def refresh(self) -> None:
        """List the open slides and the elements of the current slide."""
        current = self._controller.slides.current
        slide = None if current is None else current.slide
        self.about.setText("No slide is open." if current is None else _about(current))
        self.section.set_summary("" if current is None else f"{current.title}, {_size(current.slide)}")
        self.slides.clear()
        self.slides.addItems(unique_titles(self._controller.slides.sessions))
        self.slides.setCurrentIndex(-1 if current is None else self._controller.slides.sessions.index(current))
        self._open_row.setVisible(current is not None)
        self.all_slides.setVisible(self._controller.all_slides.obstacle is None)
        choices = Choices() if current is None else current.loaded.choices
        self.coordinate_system.clear()
        for name in () if slide is None else slide.transforms:
            elements = choices.contents.get(name, ())
            self.coordinate_system.addItem(f"{name} ({', '.join(elements)})" if elements else name, name)
        if slide is not None:
            self.coordinate_system.setCurrentIndex(self.coordinate_system.findData(slide.coordinate_system))
        self._form.setRowVisible(self.coordinate_system, slide is not None)
        for _, control, items, chosen in self._elements():
            _fill(control, items, chosen)
            self._form.setRowVisible(control, len(items) > 1)
        if slide is not None and slide.source.path and not slide.source.synthetic:
            self.path.setText(slide.source.path)
        self.refresh_allowed()

    def _elements(self) -> list[tuple[str, QComboBox, tuple[str, ...], str | None]]:
        """Return option, combo box, items and the item in use of section, spots, table and image."""
        current = self._controller.slides.current
        choices = Choices() if current is None else current.loaded.choices
        source = SlideSource() if current is None else current.slide.source
        images = (*choices.images, "none") if choices.images else ()
        return [
            ("library", self.library, choices.sections, source.library or ALL_SECTIONS),
            ("spots", self.spots, choices.spots, source.spots),
            ("table", self.table, choices.tables, source.table),
            ("image", self.image, images, source.image or "none"),
        ]

    def refresh_allowed(self) -> None:
        """Enable the controls that can be used now."""
        busy = self._controller.tasks.busy_reason()
        if busy is None:  # reset a choice that was canceled or could not be read
            for _, box, items, chosen in self._elements():
                if chosen in items:
                    box.setCurrentText(str(chosen))
        for control in (self.path, self.browse, self.sample, *(box for _, box, _, _ in self._elements())):
            allow(control, busy)
        no_recent = None if self._controller.preferences.slides else "There are no recent slides."
        allow(self.recent, busy or no_recent)
        no_slide = None if self._controller.slides.slide else "Open a slide first."
        allow(self.coordinate_system, no_slide)
        opening = busy if self._controller.tasks.state is AppState.OPENING else None
        only_one = None if len(self._controller.slides.sessions) > 1 else "Only this slide is open."
        allow(self.slides, no_slide or opening or only_one)
        allow(self.close_slide, no_slide or busy)
        allow(self.all_slides, self._controller.all_slides.obstacle)
        self.use_shown.setVisible(bool(self._external()))
        allow(self.use_shown, busy)

    def open_path(self, path: str) -> None:
        """Open a slide or a result, as if the user had typed its path."""
        self.path.setText(path)
        self._open_path()

    def _open_path(self) -> None:
        text = self.path.text().strip().strip("'\"")
        if not text or self._controller.tasks.busy_reason() is not None:
            return
        path = user_path(text)
        if not needs_import(path):
            self._controller.slides.open(str(path))
            return
        QTimer.singleShot(0, partial(self._import, path))  # after the drop, whose source waits for it

    def _import(self, path: Path) -> None:
        """Ask what the import cannot know, convert the source and open the store, or the one of an earlier import."""
        dialog = ImportDialog(path, self)
        if dialog.exec():
            if dialog.opens_existing:
                self._controller.slides.open(str(dialog.existing))
            else:
                self._controller.slides.import_and_open(dialog.request())
        dialog.deleteLater()

    def _browse(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a slide (.zarr or Space Ranger folder)", self.path.text())
        if path:
            self.open_path(path)

    def _browse_table(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a table", self.path.text(), "AnnData (*.h5ad);;All (*)")
        if path:
            self.open_path(path)

    def _list_recent(self) -> None:
        self.recent_menu.clear()
        for path in self._controller.preferences.slides:
            self.recent_menu.addAction(path, partial(self.open_path, path))
        self.recent_menu.addSeparator()
        self.recent_menu.addAction("Clear this list", self._forget)

    def _forget(self) -> None:
        self._controller.preferences.forget_slides()
        self.refresh_allowed()

    def _adopt_external(self) -> None:
        external = self._external()
        if external:
            self._controller.slides.adopt_external(external[0])

    def _external(self) -> list[ExternalSlide]:
        """Return the slides that napari-spatialdata shows and that are not open in this panel."""
        adopted = {layer for slide in self._controller.slides.sessions for layer in slide.external_layers}
        return [s for s in external_slides(self._controller.viewer.layers) if not set(s.layers) & adopted]

    def _reopen(self, option: str, name: str) -> None:
        """Read the slide with another element; elements that belong to it are chosen again."""
        loaded = self._controller.slides.loaded
        chosen = {key: current for key, _, items, current in self._elements() if items}
        if loaded is None or loaded.source is None or chosen.get(option) == name:
            return
        kept = {key: value for key, value in chosen.items() if key not in _DEPENDENT.get(option, ())}
        if option != "table" and loaded.slide.source.counts is not None:
            kept["counts"] = loaded.slide.source.counts
        self._controller.slides.open(loaded.source, **{**kept, option: name})

    def _on_choice_needed(self, error: ChoiceError, answer: Callable[[str], None]) -> None:
        """Ask which part of a slide to open, after the drop, whose source waits for it."""
        QTimer.singleShot(0, partial(self._choose, error, answer))

    def _choose(self, error: ChoiceError, answer: Callable[[str], None]) -> None:
        dialog = ChoiceDialog(error, self)
        name = dialog.ask()
        dialog.deleteLater()
        if name is None:
            self._controller.messages.status_message.emit("The slide was not opened, because no part of it was chosen.")
        elif self._controller.tasks.is_idle():  # napari may have opened another slide meanwhile
            answer(name)


def _fill(control: QComboBox, items: tuple[str, ...], current: str | None) -> None:
    control.clear()
    control.addItems(list(items))
    if current in items:
        control.setCurrentIndex(items.index(current))


def _about(current: SlideSession) -> str:
    slide = current.slide
    image = "" if slide.image is not None else ", no histology"
    note = "<br><b>Synthetic, not a measurement.</b>" if slide.source.synthetic else ""
    length = "" if has_length_unit(slide) else f"<br>{NO_SCALE_BAR}"
    return f"{_size(slide)}{image}{_spots(current.loaded.spots)}{length}{note}"


def _spots(spots: SpotSummary | None) -> str:
    """Describe the depth of a slide, from which a reader can judge its quality."""
    if spots is None:
        return ""
    empty = f", {count(spots.empty, 'spot')} without counts" if spots.empty else ""
    return f"<br>Median {spots.counts:,.0f} counts and {spots.genes:,.0f} genes per spot{empty}."


def _size(slide: Slide) -> str:
    return f"{count(slide.n_spots, 'spot')} × {count(slide.n_genes, 'gene')}"
