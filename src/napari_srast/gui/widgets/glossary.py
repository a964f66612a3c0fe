"""Short definitions of the terms of the window: the first sentences of the glossary of the documentation.

A test compares them with ``docs/glossary.md``, which is not part of the installed package.
"""

from __future__ import annotations

from html import escape

from napari_srast.gui.widgets.shortcuts import GLOSSARY_URL

__all__ = ["CONTROL_TERMS", "TERMS", "definitions", "definitions_html"]

TERMS = {
    "pitch": ("Pitch", "The distance between neighboring spots, for example 100 µm on Visium."),
    "factor": ("Factor", "Pixels per pitch. The side of a pixel is the pitch divided by the factor."),
    "footprint": ("Footprint", "The pixels that receive a spot's counts."),
    "mode": ("Mode", "What a run computes for each pixel."),
    "expression": ("Expression", "The expected count of a pixel given all spots, in the unit of the counts."),
    "uniform-split": ("Uniform split", "The split that gives every pixel of a spot the same share."),
    "skill": (
        "Skill",
        "The expected score of a gene's map, in nats per count over the uniform split, at zero if the map is "
        "no better than a uniform split.",
    ),
    "nats-per-count": (
        "Nats per count",
        "The unit of scores: the mean, over all counts, of the natural logarithm of (ratio × number of pixels).",
    ),
    "moran-i": (
        "Moran's I",
        "How smoothly the counts of a gene vary in space: near 1 if neighboring spots have similar counts, near 0 if "
        "they are independent.",
    ),
    "domain": (
        "Domain",
        "A cluster of pixels with similar expression, usually a connected area of one kind of tissue.",
    ),
    "resolution-of-domains": (
        "Resolution of domains",
        "How finely the Leiden algorithm divides pixels into domains: larger values give more and smaller ones.",
    ),
}
"""Title and definition of each term by its anchor in the glossary."""

CONTROL_TERMS = {
    "gene_table": ("moran-i",),
    "resolution_kind": ("pitch",),
    "factor": ("factor", "pitch"),
    "footprint": ("footprint",),
    "mode": ("mode",),
    "expression": ("expression",),
    "result_table": ("skill", "nats-per-count"),
    "shown_values": ("expression",),
    "find_domains": ("domain",),
    "number_of_domains": ("resolution-of-domains",),
    "domain_resolution": ("resolution-of-domains",),
    "domain_table": ("domain",),
}
"""Terms in the tooltips of controls, by their object names."""


def definitions(control: str) -> tuple[tuple[str, str, str], ...]:
    """Return title, definition and address of the terms of a control, given by its object name."""
    terms = CONTROL_TERMS.get(control, ())
    return tuple((*TERMS[term], f"{GLOSSARY_URL}#{term}") for term in terms)


def definitions_html(control: str, *, linked: bool) -> str:
    """Return the definitions of the terms of a control as HTML, one paragraph each; empty if it has none.

    Parameters
    ----------
    control
        Object name of the control.
    linked
        Whether titles are links to the glossary: tooltips cannot be clicked, unlike the help that Shift+F1 opens.
    """
    paragraphs = []
    for title, definition, address in definitions(control):
        name = f"<a href='{address}'>{escape(title)}</a>" if linked else f"<b>{escape(title)}</b>"
        paragraphs.append(f"<p>{name}: {escape(definition)}</p>")
    return "".join(paragraphs)
