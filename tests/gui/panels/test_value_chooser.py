from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.results import with_expression, with_random_shares
from helpers.window import wait_ready, wait_shown
from qtpy.QtWidgets import QComboBox

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


@pytest.fixture
def result(make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]) -> UpsampleResult:
    """A result of 12 genes, three of them with expression."""
    return with_expression(make_result(make_slide(5, 6, n_genes=12)), [0, 1, 2])


def _show(qtbot: Any, window: SRastWidget, result: UpsampleResult, *genes: str) -> None:
    window.controller.slides.show(LoadedSlide(slide=result.slide, source=None))
    wait_ready(qtbot, window)
    window.controller.results.add_saved(window.controller.slides.current, prepare_for_display(result))
    wait_shown(qtbot, window)
    window.controller.results.show_genes(genes)
    wait_shown(qtbot, window)


def _choose(control: QComboBox, text: str) -> None:
    index = control.findText(text)
    assert index >= 0
    control.setCurrentIndex(index)
    control.activated.emit(index)


def test_switching_values_changes_the_data_of_the_present_layer(
    open_window: Callable[[], SRastWidget], qtbot: Any, result: UpsampleResult
) -> None:
    """Expression at first, then counts, measured spots and log1p, in a real window."""
    window = open_window()
    _show(qtbot, window, result, "Gene1")
    panel, viewer = window.result_panel, window.controller.viewer
    layer, n_layers = viewer.layers["Gene1"], len(viewer.layers)
    assert panel.values.quantity.currentText() == "Expression"
    assert panel.legend.meaning.text() == "expression, counts per pixel"
    np.testing.assert_array_equal(layer.data, result.gene_image("Gene1", "expression"))
    limits = tuple(layer.contrast_limits)
    assert panel.legend.rows[0].style.limits == pytest.approx(limits)

    _choose(panel.values.quantity, "Counts")
    np.testing.assert_array_equal(layer.data, result.gene_image("Gene1"))
    assert panel.legend.meaning.text() == "counts per pixel"
    assert tuple(layer.contrast_limits) != limits
    assert panel.export_panel.quality.text().startswith("Shown: counts per pixel.\n")

    _choose(panel.values.quantity, "Expression")
    _choose(panel.values.scale, "log1p")
    expression = result.expression.toarray()
    shares = np.log1p(1e4 * expression[:, 1] / expression.sum(axis=1))
    np.testing.assert_allclose(layer.data, result.raster.to_image(shares), rtol=1e-5)
    assert panel.legend.meaning.text() == "expression, log1p per 10,000"
    slider = panel.legend.rows[0].contrast
    assert slider.maximum() == pytest.approx(2 * layer.contrast_limits[1])
    _choose(panel.values.display, "Smooth")
    assert layer.interpolation2d == "linear"
    assert len(viewer.layers) == n_layers

    _choose(panel.values.quantity, "Measured spots")
    assert window.controller.results.overlay.view == "before"
    assert viewer.layers["SRast measured spots"].visible
    assert panel.legend.meaning.text() == "measured counts, log1p per 10,000 of the spot"
    _choose(panel.values.quantity, "Expression")
    assert window.controller.results.overlay.view == "after"
    assert layer.visible


def test_legend_names_the_genes_that_have_no_expression(
    widget: SRastWidget, qtbot: Any, result: UpsampleResult
) -> None:
    _show(qtbot, widget, result, "Gene1", "Gene5")
    layers = widget.controller.viewer.layers
    np.testing.assert_array_equal(layers["Gene1"].data, result.gene_image("Gene1", "expression"))
    np.testing.assert_array_equal(layers["Gene5"].data, result.gene_image("Gene5"))
    text = "expression, counts per pixel; Gene5: counts (no expression computed)"
    assert widget.result_panel.legend.meaning.text() == text


def test_results_without_expression_show_counts(widget: SRastWidget, qtbot: Any, result: UpsampleResult) -> None:
    """Results of format 1 have none."""
    plain = with_random_shares(result)
    _show(qtbot, widget, plain, "Gene1")
    values = widget.result_panel.values
    assert values.quantity.currentText() == "Counts"
    assert not values.quantity.model().item(0).isEnabled()
    np.testing.assert_array_equal(widget.controller.viewer.layers["Gene1"].data, plain.gene_image("Gene1"))
    assert widget.result_panel.legend.meaning.text() == "counts per pixel (no expression computed)"


def test_runs_of_few_genes_cannot_be_shown_per_total(
    widget: SRastWidget, qtbot: Any, make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    _show(qtbot, widget, make_result(make_slide(5, 6, n_genes=4)), "Gene1")
    scale = widget.result_panel.values.scale
    assert not scale.isEnabled()
    assert "at least 10 genes" in scale.toolTip()
