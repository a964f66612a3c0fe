"""Fit napari's window to the screen, so that the panel and at least half of the width for the canvas are visible."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

__all__ = ["ScreenFit"]

_PREFERRED = QSize(1600, 1000)
_PANEL_WIDTH = 430  # where there is room
_SEPARATOR = 14  # at most, in pixels


class ScreenFit(QObject):
    """Size of the main window and of its docks.

    On a narrow screen napari's layer controls are hidden: the legend of the panel has the same values, and
    Window > Layer controls shows them again. They are shown again before the window closes, because napari stores which
    docks are visible for its next start.

    Parameters
    ----------
    panel
        The panel, in a dock of the main window.
    """

    def __init__(self, panel: QWidget) -> None:
        super().__init__(panel)
        self._panel = panel
        self._hidden: list[QDockWidget] = []

    def fit(self, available: QSize) -> None:
        """Resize the main window to the available part of the screen, and its docks."""
        window = self._panel.window()
        dock = _dock_of(self._panel)
        if not isinstance(window, QMainWindow) or dock is None:
            return
        frame = window.frameGeometry().size() - window.geometry().size()
        size = _PREFERRED.boundedTo(available - frame)
        window.resize(size)
        window.installEventFilter(self)
        left = [
            one
            for one in window.findChildren(QDockWidget)
            if window.dockWidgetArea(one) == Qt.DockWidgetArea.LeftDockWidgetArea and one.isVisible()
        ]
        room = size.width() // 2 - 2 * _SEPARATOR
        panel_width = dock.minimumSizeHint().width()
        for one in left:
            if "controls" in one.objectName() and one.minimumSizeHint().width() + panel_width > room:
                one.hide()
                self._hidden.append(one)
        left = [one for one in left if one not in self._hidden]
        left_width = max((one.minimumSizeHint().width() for one in left), default=0)
        docks = [*left, dock]
        widths = [*[left_width] * len(left), max(panel_width, min(_PANEL_WIDTH, room - left_width))]
        window.resizeDocks(docks, widths, Qt.Orientation.Horizontal)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Show the hidden docks before the window closes; no event is filtered out."""
        if event is not None and event.type() == QEvent.Type.Close:
            for dock in self._hidden:
                dock.show()
            self._hidden = []
        return False


def _dock_of(widget: QWidget) -> QDockWidget | None:
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent
