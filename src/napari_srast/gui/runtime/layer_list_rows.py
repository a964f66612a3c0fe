"""Keep napari's layer list short: hide the rows of helper layers, of unused layers and of slides that are not shown.

The layers stay in the viewer. napari has no groups of layers and no way to leave a layer out of its list, so the rows
are hidden in the list view, which Qt offers for any view.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import QAbstractItemModel, Qt, QTimer
from qtpy.QtWidgets import QListView, QMainWindow, QWidget

__all__ = ["LayerListRows"]

_VIEW_CLASS = "QtLayerList"
_DELAY_MS = 30


class LayerListRows:
    """Hides rows of the layer list in the window of a widget.

    Parameters
    ----------
    widget
        A widget in the window.
    viewer
        The viewer, or its model.
    is_listed
        Returns whether a layer is to be listed.
    """

    def __init__(self, widget: QWidget, viewer: ViewerModel, is_listed: Callable[[Layer], bool]) -> None:
        self._widget = widget
        self._is_listed = is_listed
        self._model: QAbstractItemModel | None = None  # whose changes are followed
        self._timer: QTimer | None = QTimer(widget)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.refresh)
        self._events = (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.reordered)
        for event in self._events:
            event.connect(self._on_layers)
        widget.destroyed.connect(self.disconnect)

    def refresh_later(self, *_: object) -> None:
        """Refresh soon, once for several changes."""
        if self._timer is not None and not self._timer.isActive():
            self._timer.start(_DELAY_MS)

    def _on_layers(self, event: object = None) -> None:
        """Refresh before a new row is drawn, and once more if the list view adds it after this."""
        if self._timer is not None:
            self.refresh()
            self.refresh_later()

    def refresh(self) -> None:
        """Hide the rows of layers that are not to be listed, and show all others."""
        view = self._view()
        model = None if view is None else view.model()
        if view is None or model is None:
            return
        if self._model is None:  # a layer changes its name with its role
            self._model = model
            model.dataChanged.connect(self.refresh_later)
        for row in range(model.rowCount()):
            layer = model.index(row, 0).data(Qt.ItemDataRole.UserRole)
            hidden = isinstance(layer, Layer) and not self._is_listed(layer)
            if view.isRowHidden(row) != hidden:
                view.setRowHidden(row, hidden)

    def _view(self) -> QListView | None:
        window = self._widget.window()
        while window is not None and not isinstance(window, QMainWindow):  # the panel is undocked
            parent = window.parentWidget()
            window = None if parent is None else parent.window()
        views = [] if window is None else window.findChildren(QListView)
        return next((view for view in views if type(view).__name__ == _VIEW_CLASS), None)

    def disconnect(self) -> None:
        """Disconnect from the viewer, because the widget was destroyed with its timer."""
        self._timer = None
        for event in self._events:
            event.disconnect(self._on_layers)
        if self._model is not None:
            with contextlib.suppress(RuntimeError, TypeError):  # it was deleted with the window
                self._model.dataChanged.disconnect(self.refresh_later)
