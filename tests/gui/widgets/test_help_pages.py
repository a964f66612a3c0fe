from __future__ import annotations

from pathlib import Path

import pytest

from napari_srast.gui.widgets.help_pages import PAGES, page_links, page_url

pytestmark = pytest.mark.gui
DOCS = Path(__file__).parents[3] / "docs"


def test_linked_pages_exist() -> None:
    for title, page in PAGES.items():
        assert (DOCS / f"{page}.md").exists(), page
        assert title in page_links()
        assert page_url(page) in page_links()
