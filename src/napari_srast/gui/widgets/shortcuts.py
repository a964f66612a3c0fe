"""Every keyboard shortcut of the dock widget in one place: what is bound here is what the help lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut  # type: ignore[attr-defined]
from qtpy.QtWidgets import QWidget

__all__ = ["SHORTCUTS", "Shortcut", "bind_shortcuts", "shortcut_table"]


@dataclass(frozen=True)
class Shortcut:
    """Keys, the name of what they press or do, and what that is in words."""

    keys: str
    control: str
    text: str


# None of these is napari's; they work while the canvas has the focus, too.
SHORTCUTS = (
    Shortcut("Alt+O", "slide_path", "Type the path of a slide"),
    Shortcut("Alt+1", "prepare", "Prepare a run"),
    Shortcut("Alt+2", "explore", "Explore its result"),
    Shortcut("Alt+R", "draw_rectangle", "Draw a rectangle"),
    Shortcut("Alt+L", "draw_lasso", "Draw free-hand"),
    Shortcut("Alt+Z", "undo_region", "Take back the last change of the region"),
    Shortcut("Alt+G", "filter_genes", "Filter genes"),
    Shortcut("Alt+Return", "run", "Run"),
    Shortcut("Alt+Q", "queue", "Run after what goes on"),
    Shortcut("Alt+C", "cancel", "Cancel"),
    Shortcut("Alt+B", "blink", "Blink between before and after"),
    Shortcut("Alt+S", "view_side_by_side", "Before and after side by side"),
    Shortcut("Alt+U", "view_std", "Uncertainty"),
    Shortcut("Alt+E", "export", "Export"),
    Shortcut("Alt+K", "copy_command", "Copy the command line"),
)


def bind_shortcuts(parent: QWidget, actions: Mapping[str, Callable[[], object]]) -> None:
    """Bind every shortcut in the window of ``parent``; ``actions`` are by the names in :data:`SHORTCUTS`."""
    for shortcut in SHORTCUTS:
        bound = QShortcut(QKeySequence(shortcut.keys), parent)
        bound.setContext(Qt.ShortcutContext.WindowShortcut)
        bound.activated.connect(actions[shortcut.control])


def shortcut_table() -> str:
    """Return the shortcuts as a table, in HTML."""
    own = [*SHORTCUTS, Shortcut("Space", "", "Tick the gene in the list"), Shortcut("F", "", "Make it a favorite")]
    rows = (f"<tr><td><b>{escape(s.keys)}</b>&nbsp;&nbsp;</td><td>{escape(s.text)}</td></tr>" for s in own)
    return f"<table>{''.join(rows)}</table>"
