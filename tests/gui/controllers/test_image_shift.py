"""Move the histology to where a run has found that it fits better."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.window import click, wait_ready

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide, SlideSource
from napari_srast.errors import InputError
from napari_srast.gui.export.command_line import command_line
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget
from napari_srast.io.histology_copy import histology_element
from napari_srast.io.transforms import element_matrices

pytestmark = pytest.mark.gui
OFFSET = np.array([30.0, -20.0])
SHIFTED = {"name": "he", "offset": [30.0, -20.0], "offset_pitches": 0.36, "evidence": 2.0, "evidence_at_offset": 40.0}


@pytest.fixture
def show(widget: SRastWidget, qtbot: Any, skewed_slide: Slide, make_result: Callable[..., UpsampleResult]) -> Any:
    """Show the slide with a result whose run reports an offset of the image."""
    controller = widget.controller
    slide = dataclasses.replace(skewed_slide, coordinate_system="skewed")
    controller.slides.show(LoadedSlide(slide=slide, source=None))
    wait_ready(qtbot, widget)

    def add(**report: Any) -> None:
        provenance = {"calibration": {"image": SHIFTED | report}}
        result = dataclasses.replace(make_result(controller.slides.slide), provenance=provenance)
        controller.results.add_saved(controller.slides.current, prepare_for_display(result))
        wait_ready(qtbot, widget)

    return add


def test_a_displaced_image_is_moved_and_moved_back(widget: SRastWidget, qtbot: Any, show: Any) -> None:
    controller, panel = widget.controller, widget.result_panel.export_panel
    (layer,) = (layer for layer in controller.viewer.layers if role_of(layer) == "histology")
    show()
    slide, before = controller.slides.slide, np.array(layer.affine.affine_matrix)
    assert panel.move_image.text().startswith("Move the image by x ")
    assert panel.undo_move.isHidden()
    click(qtbot, panel.move_image)
    moved = controller.slides.slide.image
    np.testing.assert_allclose(moved.to_intrinsic[0][:2, 2], slide.image.to_intrinsic[0][:2, 2] - OFFSET)
    shown = (np.array(layer.affine.affine_matrix) - before)[:2, 2][::-1]
    np.testing.assert_allclose(shown, -slide.to_cs[:2, :2] @ OFFSET, atol=1e-3)
    assert panel.move_image.isHidden()  # the result is of the image at its old position
    controller.slides.set_coordinate_system("global")
    click(qtbot, panel.undo_move)
    np.testing.assert_allclose(controller.slides.slide.image.to_intrinsic[0], slide.image.to_intrinsic[0])
    assert not panel.move_image.isHidden()
    assert panel.undo_move.isHidden()


def test_an_image_that_fits_is_not_moved(widget: SRastWidget, show: Any) -> None:
    show(offset=[1.0, 0.0], offset_pitches=0.01, evidence=40.0)
    assert widget.result_panel.export_panel.move_image.isHidden()


def test_an_offset_without_evidence_is_not_offered(widget: SRastWidget, show: Any) -> None:
    show()
    controller = widget.controller
    assert controller.image_shift.proposal is not None
    del controller.results.current.result.provenance["calibration"]["image"]["evidence"]  # as of another version
    assert controller.image_shift.proposal is None


def test_a_saved_result_has_the_moved_image_and_no_command(widget: SRastWidget, qtbot: Any, show: Any) -> None:
    show()
    old = widget.controller.slides.slide
    click(qtbot, widget.result_panel.export_panel.move_image)
    show(evidence=40.0, offset_pitches=0.0)
    result = widget.controller.results.current.result
    matrix = element_matrices(histology_element(result.slide), "he")["global"]
    np.testing.assert_allclose(matrix[:2, 2], old.image.to_intrinsic[0][:2, 2] - OFFSET)
    slide = dataclasses.replace(result.slide, source=SlideSource(path="slide.zarr", image="he"))
    with pytest.raises(InputError, match="export it as a new store"):
        command_line(dataclasses.replace(result, slide=slide))
