from __future__ import annotations

from pathlib import Path

import pytest
from napari.utils.shortcuts import default_shortcuts

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
    controls = {shortcut.control for shortcut in SHORTCUTS} - {"prepare", "explore", "filter_genes", "blink"}
    assert controls <= set(TOOLTIPS)


def test_shortcuts_do_not_override_naparis() -> None:
    of_napari = {str(keys).replace(" ", "") for bound in default_shortcuts.values() for keys in bound}
    assert not of_napari & {shortcut.keys.replace("Return", "Enter") for shortcut in SHORTCUTS}


def test_help_links_the_glossary() -> None:
    assert f"href='{GLOSSARY_URL}'" in shortcut_table()
    assert (PAGE.parents[1] / "glossary.md").exists()
