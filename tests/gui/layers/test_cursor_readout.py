from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from helpers.results import with_expression

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.layers.cursor_readout import GeneReadout, read_pixel
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.gene_values import ValueView

pytestmark = pytest.mark.gui


COUNTS = ValueView(quantity="counts")


def test_readout_has_spot_pixel_count_and_measured_count(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    slide = make_slide()
    displayed = prepare_for_display(make_result(slide))
    readout = read_pixel(displayed, ["Gene0", "Gene3"], slide.centers[20] + [10.0, -10.0], COUNTS)
    measured = slide.counts[20, [0, 3]].toarray()[0]
    assert readout.spot == "spot20"
    assert readout.genes == tuple(
        GeneReadout(gene, count / 4, count) for gene, count in zip(("Gene0", "Gene3"), measured, strict=True)
    )
    assert f"Gene0 {measured[0] / 4:.3g} of the spot's {measured[0]:,.0f}" in readout.text
    assert read_pixel(displayed, ["Gene0"], np.array([1e6, 1e6]), COUNTS).text == ""


def test_readout_of_expression_is_the_entry_of_the_matrix_with_its_unit(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    slide = make_slide(n_genes=12)
    result = with_expression(make_result(slide), [0, 3])
    point = slide.centers[20] + [10.0, -10.0]
    pixel = int(result.raster.locate(point[None])[0])
    displayed = prepare_for_display(result)
    with_own, without = read_pixel(displayed, ["Gene3", "Gene5"], point, ValueView()).genes
    assert (with_own.value, with_own.unit) == (result.expression[pixel, 3], "expression, counts per pixel")
    assert (without.value, without.unit) == (result.counts[pixel, 5], "")
    assert "(expression, counts per pixel), spot" in with_own.text
    (scaled,) = read_pixel(displayed, ["Gene3"], point, ValueView(scale="log")).genes
    row = result.expression[pixel].toarray()[0]
    assert scaled.value == pytest.approx(np.log1p(1e4 * row[3] / row.sum()), rel=1e-5)
    assert scaled.unit == "expression, log1p per 10,000"
