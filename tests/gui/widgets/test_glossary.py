"""Terms of the window are defined as in the glossary of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices, QWhatsThisClickedEvent
from qtpy.QtWidgets import QApplication, QPushButton

from napari_srast.gui.widgets.glossary import CONTROL_TERMS, TERMS
from napari_srast.gui.widgets.tooltips import TOOLTIPS, allow, describe

pytestmark = pytest.mark.gui
GLOSSARY = Path(__file__).parents[3] / "docs" / "glossary.md"


def _entry(term: str) -> tuple[str, str]:
    """Return title and text of an entry of the documentation, without marks and line breaks."""
    found = re.search(
        rf"\({term}\)=\n(?:\(.*\)=\n)*## (.*)\n((?:(?!\(.*\)=\n|## ).*\n?)*)", GLOSSARY.read_text("utf-8")
    )
    assert found is not None, f"docs/glossary.md has no entry ({term})="
    return found[1], " ".join(found[2].replace("`", "").split())


@pytest.mark.parametrize("term", TERMS)
def test_definition_is_that_of_the_documentation(term: str) -> None:
    title, definition = TERMS[term]
    documented, text = _entry(term)
    assert title in documented
    assert text.startswith(definition)
    assert text == definition or text[len(definition)] == " "  # whole sentences


def test_terms_belong_to_controls() -> None:
    assert set(CONTROL_TERMS) <= set(TOOLTIPS)
    assert {term for terms in CONTROL_TERMS.values() for term in terms} <= set(TERMS)
    assert {"skill", "footprint", "factor", "mode"} <= {term for terms in CONTROL_TERMS.values() for term in terms}


def test_tooltip_defines_terms_and_help_links_to_the_glossary(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    button = QPushButton()
    qtbot.addWidget(button)
    describe(button, "footprint")
    assert "The pixels that receive a spot&#x27;s counts." in button.toolTip()
    assert "The pixels that receive a spot's counts." in button.accessibleDescription()
    (address,) = re.findall("href='(.*?)'", button.whatsThis())
    assert address.endswith("glossary.html#footprint")
    QApplication.sendEvent(button, QWhatsThisClickedEvent(address))
    assert opened == [QUrl(address)]
    allow(button, "A run is in progress.")
    assert button.toolTip() == "<qt>A run is in progress.</qt>"
    allow(button, None)
    assert "receive a spot" in button.toolTip()
