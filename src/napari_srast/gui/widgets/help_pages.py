"""Link the pages of the documentation that explain the sections of the panel."""

from __future__ import annotations

from html import escape

from napari_srast.gui.widgets.shortcuts import GLOSSARY_URL

__all__ = ["PAGES", "SECTION_PAGES", "page_links", "page_url"]

_ROOT = GLOSSARY_URL.rsplit("/", 1)[0]
PAGES = {
    "Your first slide": "quickstart",
    "Slide": "window/opening",
    "Region": "window/region",
    "Genes, settings, run": "window/run",
    "Exploring genes": "window/genes",
    "Quality": "window/quality",
    "Domains": "window/domains",
    "Cells": "window/cells",
    "Signatures": "window/signatures",
    "Regions compared": "window/comparison",
    "Structure": "window/structure",
    "Export": "window/export",
    "Reliability and limits": "reliability",
}
"""Pages of the documentation by the title of their link."""

SECTION_PAGES = {
    "section_slide": "window/opening",
    "section_region": "window/region",
    "section_genes": "window/run",
    "section_settings": "window/run",
    "section_shown": "window/genes",
    "section_domains": "window/domains",
    "section_cells": "window/cells",
    "section_signatures": "window/signatures",
    "section_structure": "window/structure",
    "section_compare": "window/comparison",
    "section_quality": "window/quality",
}
"""Pages by the object name of the section that they explain."""


def page_url(page: str) -> str:
    """Return the address of a page of the documentation."""
    return f"{_ROOT}/{page}.html"


def page_links() -> str:
    """Return the links to all pages as HTML."""
    links = (f"<a href='{page_url(page)}'>{escape(title)}</a>" for title, page in PAGES.items())
    return f"<p>Read about: {', '.join(links)}.</p>"
