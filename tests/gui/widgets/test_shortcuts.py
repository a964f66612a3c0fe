from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from napari import layers
from napari._app_model import get_app_model
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QMenu, QMenuBar

from napari_srast.gui.widgets.shortcuts import GLOSSARY_URL, SHORTCUTS, shortcut_table
from napari_srast.gui.widgets.tooltips import TOOLTIPS

pytestmark = pytest.mark.gui
PAGE = Path(__file__).parents[3] / "docs" / "window" / "keyboard_and_preferences.md"


def test_every_shortcut_is_listed_and_documented() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for shortcut in SHORTCUTS:
        assert shortcut.text in shortcut_table()
        assert f"| `{shortcut.keys}` | {shortcut.text} |" in page


def test_shortcuts_are_unique_and_press_described_controls() -> None:
    assert len({shortcut.keys for shortcut in SHORTCUTS}) == len(SHORTCUTS)
    controls = {shortcut.control for shortcut in SHORTCUTS} - {
        "prepare",
        "explore",
        "filter_genes",
        "blink",
        "redo_region",
    }
    assert controls <= set(TOOLTIPS)


def _keys_of_menu(menu: QMenu | QMenuBar) -> Iterator[str]:
    """Yield the key sequences of all actions in a menu, and the mnemonics of a menu bar."""
    for action in menu.actions():
        yield from (sequence.toString() for sequence in action.shortcuts())
        if isinstance(menu, QMenuBar):
            yield QKeySequence.mnemonic(action.text()).toString()
        if action.menu() is not None:
            yield from _keys_of_menu(action.menu())


def test_shortcuts_are_not_used_by_napari(make_napari_viewer: Callable[..., Any]) -> None:
    viewer = make_napari_viewer()
    used = {str(keys) for bound in default_shortcuts.values() for keys in bound}
    used |= {str(rule.keybinding) for rule in get_app_model().keybindings}
    for keyed in (type(viewer), *(layer for layer in vars(layers).values() if hasattr(layer, "class_keymap"))):
        used |= {str(keys) for keys in keyed.class_keymap}
    of_napari = {QKeySequence(keys.replace(" ", "")).toString() for keys in used}
    of_napari |= set(_keys_of_menu(viewer.window._qt_window.menuBar())) - {""}
    of_napari |= {"Alt+D"}  # the menu for debugging, which napari adds on request
    assert {"Alt+S", "Alt+L", "Ctrl+Y", "Ctrl+Return", "Alt+Up"} & of_napari == {"Alt+S", "Alt+L", "Ctrl+Y", "Alt+Up"}
    assert (
        of_napari & {QKeySequence(shortcut.keys).toString() for shortcut in SHORTCUTS if not shortcut.in_panel} == set()
    )


def test_help_links_the_glossary() -> None:
    assert f"href='{GLOSSARY_URL}'" in shortcut_table()
    assert (PAGE.parents[1] / "glossary.md").exists()
