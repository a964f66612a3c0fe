from __future__ import annotations

from typing import Any

import pytest

from napari_srast.gui.widgets.gene_field import GeneField

pytestmark = pytest.mark.gui


def test_names_are_those_that_are_typed(qtbot: Any) -> None:
    field = GeneField("domain_genes", "all with expression")
    qtbot.addWidget(field)
    assert field.placeholderText() == "GENE, GENE (empty: all with expression)"
    assert "clustered" in field.toolTip()
    for text, names in (("ERBB2", ["ERBB2"]), (", KRT19,", ["ERBB2", "KRT19"]), (",,", ["ERBB2", "KRT19"])):
        qtbot.keyClicks(field, text)
        assert field.names() == names
    qtbot.keyClicks(field, "A")
    assert field.names() is None  # a name between two commas is empty
    field.clear()
    assert field.names() == []
