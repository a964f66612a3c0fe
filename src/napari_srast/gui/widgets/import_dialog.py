"""Ask what an import cannot know: where the store goes, and the histology image; offer the store of an earlier one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QWidget,
)

from napari_srast.gui.state.slide_import import (
    IMAGE_SUFFIXES,
    ImportRequest,
    states_alignment,
    suggest_import,
    user_path,
)
from napari_srast.io.file_kinds import file_kind, has_suffix

__all__ = ["ImportDialog", "existing_store"]


class ImportDialog(QDialog):
    """Form for an :class:`ImportRequest`, filled with a suggestion.

    Parameters
    ----------
    source
        The file or folder to import.
    parent
        Widget below the dialog.

    Attributes
    ----------
    existing
        Store of an earlier import of the source; None if there is none.
    opens_existing
        Whether the user has chosen to open that store instead.
    """

    def __init__(self, source: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Import a slide")
        self._suggestion = suggest_import(source)
        self.existing, self.opens_existing = existing_store(source), False
        is_folder = source.is_dir()
        self.store = QLineEdit(str(self._suggestion.store))
        self.store.setToolTip("SpatialData store that is created; the source is not changed.")
        self.image = QLineEdit("" if self._suggestion.image is None else str(self._suggestion.image))
        self.image.setPlaceholderText("the image of the folder" if is_folder else "none")
        self.image.setToolTip("Histology image (.jpg, .png, .tif).")
        self.pixel_size = QDoubleSpinBox()
        self.pixel_size.setRange(0.0, 1e6)
        self.pixel_size.setDecimals(4)
        self.pixel_size.setSpecialValueText("unknown")
        self.pixel_size.setToolTip("Side of a pixel of the image in the unit of the spots, usually micrometers.")
        self.text = QLabel(
            f"'{source.name}' is converted to a SpatialData store, a folder that the window can open; the source stays "
            f"as it is.{_about_existing(self.existing)}"
        )
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setWordWrap(True)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        accept = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        assert accept is not None
        self.accept_button: QPushButton = accept
        self.accept_button.setText("Import")
        self.open_button = QPushButton("Open that store")
        self.open_button.clicked.connect(self._open_existing)
        if self.existing is not None:
            self.buttons.addButton(self.open_button, QDialogButtonBox.ButtonRole.ActionRole)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        form = QFormLayout(self)
        form.addRow(self.text)
        form.addRow("New store", _with_browse(self.store, self._browse_store))
        form.addRow("Image", _with_browse(self.image, self._browse_image))
        form.addRow("Pixel of the image", self.pixel_size)
        form.addRow(self.buttons)
        self.open_button.setDefault(self.existing is not None)
        self._form, self._states_alignment = form, states_alignment(source)
        self.store.textChanged.connect(self._refresh)
        self.image.textChanged.connect(self._refresh)
        self.pixel_size.valueChanged.connect(self._refresh)
        self.setMinimumWidth(460)
        self._refresh()

    def request(self) -> ImportRequest:
        """Return what the user has chosen."""
        image = self.image.text().strip()
        pixel_size = self.pixel_size.value() if image and not self._states_alignment else 0.0
        return dataclasses.replace(
            self._suggestion,
            store=user_path(self.store.text().strip()),
            image=user_path(image) if image else None,
            pixel_size=pixel_size or None,
        )

    def _open_existing(self) -> None:
        self.opens_existing = True
        self.accept()

    def _refresh(self) -> None:
        """Ask for the pixel size only where the source does not state how the image is aligned, and for a store."""
        is_needed = bool(self.image.text().strip()) and not self._states_alignment
        self._form.setRowVisible(self.pixel_size, is_needed)
        missing = "Give the pixel size of the image." if is_needed and self.pixel_size.value() <= 0 else ""
        missing = missing if self.store.text().strip() else "Give the store to create."
        self.accept_button.setEnabled(not missing)
        self.accept_button.setToolTip(missing)

    def _browse_store(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Store to create", self.store.text(), "SpatialData (*.zarr)")
        if path:
            self.store.setText(path if has_suffix(path, ".zarr") else f"{path}.zarr")

    def _browse_image(self) -> None:
        suffixes = " ".join(f"*{suffix}" for suffix in IMAGE_SUFFIXES)
        path, _ = QFileDialog.getOpenFileName(
            self, "Histology image", self.image.text(), f"Images ({suffixes});;All (*)"
        )
        if path:
            self.image.setText(path)


def existing_store(source: Path) -> Path | None:
    """Return the store next to a source that has its name and is not older; None if there is none.

    Parameters
    ----------
    source
        The file or folder to import.
    """
    store = source.with_name(f"{source.name.removesuffix('.h5ad')}.zarr")
    try:
        is_current = store.stat().st_mtime >= source.stat().st_mtime
    except OSError:
        return None
    return store if is_current and file_kind(store) == "store" else None


def _about_existing(store: Path | None) -> str:
    return "" if store is None else f"\n\n'{store.name}' is next to it, perhaps from an earlier import."


def _with_browse(edit: QLineEdit, browse: Callable[[], None]) -> QHBoxLayout:
    row = QHBoxLayout()
    control = QPushButton("…")
    control.setMaximumWidth(30)
    control.setAutoDefault(False)
    control.clicked.connect(lambda: browse())
    row.addWidget(edit, 1)
    row.addWidget(control)
    return row
