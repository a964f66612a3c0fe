"""Ask which element or section of a slide to open, if several match."""

from __future__ import annotations

from qtpy.QtWidgets import QDialog, QDialogButtonBox, QListWidget, QVBoxLayout, QWidget

from napari_srast.errors import ChoiceError
from napari_srast.gui.widgets.common import label

__all__ = ["ChoiceDialog"]

_ALL = "all"  # sections
_QUESTIONS = {
    "library": "This slide has several sections, whose spots overlap. Which one do you want to open?",
    "spots": "This slide has several kinds of spots. Which ones do you want to open?",
    "table": "Several tables count the spots of this slide. Which one has the raw counts?",
    "image": "This slide has several images of the same kind and size. Which one is the histology?",
    "counts": "This table has several matrices of counts. Which one has the raw counts?",
}


class ChoiceDialog(QDialog):
    """List of the names that an option accepts.

    Parameters
    ----------
    error
        The choice that is needed.
    parent
        Widget below the dialog.
    """

    def __init__(self, error: ChoiceError, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Choose a part of the slide")
        text = _QUESTIONS[error.option]
        if error.option == "library" and _ALL in error.names:
            text += f" '{_ALL}' opens the spots of all sections as one slide."
        if error.names == (_ALL,):
            text = (
                "This slide has several sections, whose spots overlap, and no column says which spot belongs to which. "
                f"'{_ALL}' opens them as one slide. To open one section, add a column 'library_id' to the table."
            )
        self.names = QListWidget()
        self.names.addItems(list(error.names))
        self.names.setCurrentRow(0)
        self.names.itemDoubleClicked.connect(lambda _: self.accept())
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        question = label(text)
        question.setMinimumWidth(400)
        column.addWidget(question)
        column.addWidget(self.names)
        column.addWidget(self.buttons)

    def ask(self) -> str | None:
        """Show the dialog, and return the chosen name; None if it was canceled."""
        item = self.names.currentItem() if self.exec() else None
        return None if item is None else item.text()
