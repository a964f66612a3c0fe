"""A field for the names of genes."""

from __future__ import annotations

from qtpy.QtWidgets import QLineEdit

from napari_srast.core.gene_list import parse_gene_names
from napari_srast.errors import SettingsError
from napari_srast.gui.widgets.tooltips import describe

__all__ = ["EMPTY_NAME", "GeneField"]

EMPTY_NAME = "A name in the list of genes is empty."
"""The reason for which a control is disabled while a typed name is empty."""


class GeneField(QLineEdit):
    """A line of gene names, with commas between them.

    Parameters
    ----------
    name
        Object name, which has a tooltip.
    when_empty
        What an empty field means, for its placeholder.
    """

    def __init__(self, name: str, when_empty: str) -> None:
        super().__init__()
        self.setPlaceholderText(f"GENE, GENE (empty: {when_empty})")
        self.setClearButtonEnabled(True)
        describe(self, name)

    def names(self) -> list[str] | None:
        """Return the typed genes; None if a name between two commas is empty."""
        text = self.text().strip(" ,;")
        try:
            return parse_gene_names(text) if text else []
        except SettingsError:
            return None
