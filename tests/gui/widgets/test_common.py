from __future__ import annotations

from typing import Any

import pytest

from napari_srast.gui.widgets.common import label

pytestmark = pytest.mark.gui
NAME = "ENSMUSG00000000324_Zic1_transcript_variant_X324_uncharacterized_LOC2565756"


def test_words_that_are_wider_than_a_label_are_shortened_in_their_middle(qtbot: Any) -> None:
    control = label()
    qtbot.addWidget(control)
    control.resize(200, 60)
    control.show()
    control.setText(f"No clear gain: {NAME}, KRT19.")
    shown = control.text()
    assert shown.startswith("No clear gain: ENSM")
    assert "…" in shown
    assert shown.endswith("KRT19.")
    assert max(map(control.fontMetrics().horizontalAdvance, shown.split())) <= 200
    assert control.toolTip() == f"<qt>No clear gain: {NAME}, KRT19.</qt>"
    control.resize(1200, 60)
    qtbot.waitUntil(lambda: control.text() == f"No clear gain: {NAME}, KRT19.", timeout=5000)
    assert control.toolTip() == ""
    control.resize(200, 60)
    control.setText("Saved to /a/path/that/Qt/wraps/at-its-separators/and/is/longer/than/the/label.zarr")
    assert "…" not in control.text()
