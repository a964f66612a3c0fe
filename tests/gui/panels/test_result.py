from __future__ import annotations

import pytest

from napari_srast.gui.layers.cursor_readout import GeneReadout, PixelReadout
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def test_cursor_readout_label_keeps_its_height(widget: SRastWidget) -> None:
    label = widget.result_panel.readout
    label.resize(300, label.minimumHeight())
    genes = tuple(GeneReadout(f"GENE{i}", 1.25, 1000.0) for i in range(6))
    readout = widget.controller.results.cursor_readout_changed
    readout.emit(PixelReadout("spot_0001", genes))
    height = label.minimumHeight()
    assert height >= label.heightForWidth(300) > 34
    readout.emit(PixelReadout())
    assert label.minimumHeight() == height
