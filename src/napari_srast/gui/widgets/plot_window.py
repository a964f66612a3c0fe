"""Show a plot in a window of its own, from which it is saved."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QPixmap, QResizeEvent
from qtpy.QtWidgets import QDialog, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

__all__ = ["PlotWindow"]

_WIDTH, _HEIGHT = 640, 580  # fits a screen of 1280 x 800


class PlotWindow(QDialog):
    """A plot, as large as the window allows; other windows can be used meanwhile.

    Parameters
    ----------
    title
        Title of the window.
    picture
        The plot as PNG.
    save
        Asks for a file and writes the plot.
    parent
        Widget below the window.
    """

    def __init__(self, title: str, picture: bytes, save: Callable[[], None], parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._pixmap = QPixmap()
        self._pixmap.loadFromData(picture)
        self.picture = QLabel()
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.picture.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.picture.setStyleSheet("background: white")
        self.save = QPushButton("Save…")
        self.save.setToolTip("Write the plot as PNG, PDF or SVG.")
        self.save.clicked.connect(lambda: save())
        self.dismiss = QPushButton("Close")
        self.dismiss.clicked.connect(self.close)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.save)
        row.addWidget(self.dismiss)
        column = QVBoxLayout(self)
        column.addWidget(self.picture, 1)
        column.addLayout(row)
        self.resize(QSize(_WIDTH, _HEIGHT))

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: D102
        super().resizeEvent(event)
        ratio = self.devicePixelRatioF()
        scaled = self._pixmap.scaled(
            self.picture.size() * ratio,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
        scaled.setDevicePixelRatio(ratio)
        self.picture.setPixmap(scaled)
