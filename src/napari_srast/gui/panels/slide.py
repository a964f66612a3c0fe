"""The part of the window that opens slides and says what is open."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QHBoxLayout, QLineEdit, QWidget

from napari_srast.gui.controller import Controller
from napari_srast.gui.layers import slide_title
from napari_srast.gui.opening import Choices, shown_elsewhere
from napari_srast.gui.panels.common import button, chooser, group, label
from napari_srast.gui.tooltips import allow, describe
from napari_srast.slide import Slide, SlideSource

__all__ = ["SlidePanel"]


class SlidePanel(QWidget):
    """Path, sample and choosers."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        box, column = group("Slide")
        self.path = QLineEdit()
        self.path.setPlaceholderText("Drop a .zarr slide here, or type its path")
        describe(self.path, "slide_path")
        self.path.returnPressed.connect(self._open_path)
        self.browse = button("browse_slide", "Browse…", self._browse)
        self.sample = button("open_sample", "Sample slide", controller.open_sample)
        self.use_shown = button("use_shown", "Use the slide on show", self._use_shown)
        row = QHBoxLayout()
        row.addWidget(self.path, 1)
        row.addWidget(self.browse)
        column.addLayout(row)
        row = QHBoxLayout()
        row.addWidget(self.sample)
        row.addWidget(self.use_shown)
        row.addStretch(1)
        column.addLayout(row)
        self.about = label()
        column.addWidget(self.about)
        self._form = QFormLayout()
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.coordinate_system = chooser("coordinate_system")
        self.spots = chooser("choose_spots")
        self.table = chooser("choose_table")
        self.image = chooser("choose_image")
        for title, control in (
            ("Coordinates", self.coordinate_system),
            ("Spots", self.spots),
            ("Table", self.table),
            ("Image", self.image),
        ):
            self._form.addRow(title, control)
        column.addLayout(self._form)
        outer = QHBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(box)
        self.coordinate_system.textActivated.connect(controller.set_coordinate_system)
        for control in (self.spots, self.table, self.image):
            control.textActivated.connect(lambda _: self._reopen())
        controller.slide_changed.connect(self.refresh)
        controller.coordinate_system_changed.connect(self.refresh)
        controller.phase_changed.connect(self.refresh_allowed)
        controller.layers_changed.connect(self.refresh_allowed)
        self.refresh()

    def refresh(self) -> None:
        """Show what is open."""
        opened = self._controller.opened
        slide = None if opened is None else opened.slide
        self.about.setText("No slide is open." if slide is None else _about(slide))
        systems = () if slide is None else tuple(slide.transforms)
        _fill(self.coordinate_system, systems, None if slide is None else slide.coordinate_system)
        self._form.setRowVisible(self.coordinate_system, slide is not None)
        choices = Choices() if opened is None else opened.choices
        source = SlideSource() if slide is None else slide.source
        for control, items, current in (
            (self.spots, choices.spots, source.spots),
            (self.table, choices.tables, source.table),
            (self.image, choices.images, source.image),
        ):
            _fill(control, items, current)
            self._form.setRowVisible(control, len(items) > 1)
        if slide is not None and slide.source.path and not slide.source.synthetic:
            self.path.setText(slide.source.path)
        self.refresh_allowed()

    def refresh_allowed(self) -> None:
        """Enable what can be done now."""
        obstacle = (
            self._controller.obstacle() if self._controller.slide or self._controller.phase.value != "empty" else None
        )
        for control in (self.path, self.browse, self.sample, self.spots, self.table, self.image):
            allow(control, obstacle)
        allow(self.coordinate_system, None if self._controller.slide else "Open a slide first.")
        shown = shown_elsewhere(list(self._controller.viewer.layers))
        self.use_shown.setVisible(bool(shown))
        allow(self.use_shown, obstacle)

    def open_path(self, path: str) -> None:
        """Open a slide by its path, as if it had been typed."""
        self.path.setText(path)
        self._open_path()

    def _open_path(self) -> None:
        text = self.path.text().strip()
        if text:
            self._controller.open(str(Path(text).expanduser()))

    def _browse(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a SpatialData slide (.zarr folder)", self.path.text())
        if path:
            self.open_path(path)

    def _use_shown(self) -> None:
        shown = shown_elsewhere(list(self._controller.viewer.layers))
        if shown:
            self._controller.use_shown(shown[0])

    def _reopen(self) -> None:
        opened = self._controller.opened
        if opened is not None and opened.source is not None:
            self._controller.open(
                opened.source,
                spots=self.spots.currentText() or None,
                table=self.table.currentText() or None,
                image=self.image.currentText() or None,
            )


def _fill(control: QComboBox, items: tuple[str, ...], current: str | None) -> None:
    control.clear()
    control.addItems(list(items))
    if current in items:
        control.setCurrentIndex(items.index(current))


def _about(slide: Slide) -> str:
    size = f"{slide.n_spots:,} spots × {slide.n_genes:,} genes"
    image = "" if slide.image is not None else ", no histology"
    note = "<br><b>Generated, not a measurement.</b>" if slide.source.synthetic else ""
    return f"<b>{slide_title(slide)}</b>: {size}{image}{note}"
