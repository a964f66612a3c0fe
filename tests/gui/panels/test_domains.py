from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import spatialdata
from helpers.planted import planted_slide
from helpers.results import make_result, with_expression
from helpers.window import click, open_slide, run, use_fast_method, wait_ready, wait_shown
from qtpy.QtCore import Qt

from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def shown(widget: SRastWidget, qtbot: Any) -> Any:
    """The domains panel with a result of the planted slide."""
    pytest.importorskip("igraph")
    slide = planted_slide(n=8)
    result = with_expression(make_result(slide), range(40))
    widget.controller.slides.show(LoadedSlide(slide=slide, source=None))
    wait_ready(qtbot, widget)
    widget.controller.results.add_saved(widget.controller.slides.current, prepare_for_display(result))
    wait_shown(qtbot, widget)
    widget.tabs.setCurrentWidget(widget.result_panel)
    panel = widget.result_panel.domain_panel
    click(qtbot, panel.section.header)
    return panel


def find(qtbot: Any, widget: SRastWidget, panel: Any, number: int) -> None:
    panel.number.setValue(number)
    click(qtbot, panel.start)
    wait_ready(qtbot, widget)


def test_domains_are_found_shown_named_and_merged(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    maps = widget.controller.domains
    assert not shown.merge.isEnabled()
    find(qtbot, widget, shown, 4)
    found = maps.current
    assert shown.table.rowCount() == len(found.sizes) > 2
    assert maps.layer in widget.controller.viewer.layers
    np.testing.assert_array_equal(maps.layer.data, found.image())
    corner = np.array(maps.layer.data_to_world((-0.5, -0.5)))[::-1]
    np.testing.assert_allclose(corner, found.result.raster.affine[:2, 2], atol=1e-6)
    assert "same counts" in shown.note.text()
    shown.table.item(0, 0).setText("stroma")
    assert maps.current.labels.categories[0] == "stroma"
    shown.table.item(1, 0).setText("stroma")
    assert shown.table.item(1, 0).text() == "2"  # refused
    shown.table.selectRow(0)
    shown.table.setSelectionMode(shown.table.SelectionMode.MultiSelection)
    shown.table.selectRow(1)
    click(qtbot, shown.merge)
    wait_ready(qtbot, widget)
    assert len(maps.current.sizes) == len(found.sizes) - 1
    assert maps.current.sizes.iloc[0] == found.sizes.iloc[:2].sum()
    assert maps.current.labels.categories[0] == "stroma"


def test_outlines_and_hiding_change_the_layer_and_removal_is_noticed(
    widget: SRastWidget, qtbot: Any, shown: Any
) -> None:
    find(qtbot, widget, shown, 3)
    maps, layers = widget.controller.domains, widget.controller.viewer.layers
    for text, contour, visible in (("Outlines", 1, True), ("Hidden", 0, False), ("Fill", 0, True)):
        shown.display.setCurrentText(text)
        shown.display.activated.emit(shown.display.currentIndex())
        assert (maps.layer.contour, maps.layer.visible) == (contour, visible)
    layers.remove(maps.layer)
    assert maps.layer is None
    find(qtbot, widget, shown, 3)
    widget.controller.results.drop()
    assert maps.layer is None
    assert not any(layer.name == "SRast domains" for layer in layers)
    assert shown.table.rowCount() == 0
    assert not shown.start.isEnabled()


def test_domains_are_saved_in_the_store_that_holds_the_result(
    widget: SRastWidget, qtbot: Any, write_slide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("igraph")
    monkeypatch.setattr(widget, "confirm_whole_slide", lambda text: True)
    store = write_slide()
    open_slide(qtbot, widget, store)
    use_fast_method(widget)
    result = run(qtbot, widget)
    panel = widget.result_panel.domain_panel
    click(qtbot, panel.section.header)
    find(qtbot, widget, panel, 2)
    widget.controller.results.export(None)
    wait_ready(qtbot, widget)
    qtbot.mouseClick(panel.save, Qt.MouseButton.LeftButton)
    wait_ready(qtbot, widget)
    table = spatialdata.read_zarr(store).tables[f"srast_{result.run}_table"]
    assert len(table.obs["domains"].cat.categories) == len(widget.controller.domains.current.sizes)
