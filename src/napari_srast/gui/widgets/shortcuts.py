"""Define the keyboard shortcuts of the dock widget, bind them, and list them in the help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut  # type: ignore[attr-defined]
from qtpy.QtWidgets import QWidget

__all__ = ["GLOSSARY_URL", "SHORTCUTS", "Shortcut", "bind_shortcuts", "shortcut_table"]

GLOSSARY_URL = "https://napari-srast.readthedocs.io/page/glossary.html"


@dataclass(frozen=True)
class Shortcut:
    """A keyboard shortcut.

    Parameters
    ----------
    keys
        Key sequence, in Qt's notation.
    control
        Object name of the control that it activates, or name of an action.
    text
        Description for the help.
    in_panel
        Whether it works only while the panel has the focus, because a layer of napari may use it on the canvas.
    """

    keys: str
    control: str
    text: str
    in_panel: bool = False


# No action, menu or mnemonic of napari uses these, except those for the panel; a test asks napari. They also work while
# the canvas has the focus.
SHORTCUTS = (
    Shortcut("Alt+O", "slide_path", "Type the path of a slide"),
    Shortcut("Alt+1", "prepare", "Prepare a run"),
    Shortcut("Alt+2", "explore", "Explore the result"),
    Shortcut("Alt+R", "draw_rectangle", "Draw a rectangle"),
    Shortcut("Alt+Shift+R", "draw_lasso", "Draw freehand"),
    Shortcut("Ctrl+Z", "undo_region", "Undo the last change of the region", in_panel=True),
    Shortcut("Ctrl+Shift+Z", "redo_region", "Redo the change of the region", in_panel=True),
    Shortcut("Alt+G", "filter_genes", "Filter genes"),
    Shortcut("Alt+Return", "run", "Run"),
    Shortcut("Alt+Q", "queue", "Queue a run"),
    Shortcut("Alt+X", "cancel", "Cancel the run"),
    Shortcut("Alt+B", "blink", "Switch between before and after"),
    Shortcut("Alt+Shift+B", "view_side_by_side", "Before and after side by side"),
    Shortcut("Alt+U", "view_std", "Uncertainty"),
    Shortcut("Alt+E", "export", "Export"),
    Shortcut("Alt+K", "copy_command", "Copy the command line"),
)


def bind_shortcuts(parent: QWidget, actions: Mapping[str, Callable[[], object]]) -> None:
    """Bind all shortcuts.

    Parameters
    ----------
    parent
        Widget in which, or in whose window, the shortcuts work.
    actions
        Functions by the names in :data:`SHORTCUTS`.
    """
    for shortcut in SHORTCUTS:
        bound = QShortcut(QKeySequence(shortcut.keys), parent)
        in_panel, in_window = Qt.ShortcutContext.WidgetWithChildrenShortcut, Qt.ShortcutContext.WindowShortcut
        bound.setContext(in_panel if shortcut.in_panel else in_window)
        bound.activated.connect(actions[shortcut.control])


def shortcut_table() -> str:
    """Return the shortcuts as an HTML table, with a link to the glossary."""
    listed = [*SHORTCUTS, Shortcut("Space", "", "Tick the gene in the list"), Shortcut("F", "", "Toggle a favorite")]
    rows = (f"<tr><td><b>{escape(s.keys)}</b>&nbsp;&nbsp;</td><td>{escape(s.text)}</td></tr>" for s in listed)
    return f"<table>{''.join(rows)}</table><p>Terms are explained in the <a href='{GLOSSARY_URL}'>glossary</a>.</p>"
