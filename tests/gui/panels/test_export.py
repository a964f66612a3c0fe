from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide, SlideSource
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("synthetic", [True, False])
def test_export_into_the_slide_is_disabled_for_synthetic_slides(
    synthetic: bool,
    widget: SRastWidget,
    make_slide: Callable[..., Slide],
    make_result: Callable[..., UpsampleResult],
) -> None:
    slide = dataclasses.replace(make_slide(), source=SlideSource(path="slide.zarr", synthetic=synthetic))
    controller = widget.controller
    controller.slides.show(LoadedSlide(slide=slide, source=None))
    controller.results.add_saved(controller.slides.current, prepare_for_display(make_result(slide)))
    assert widget.result_panel.export_panel.export_into.isEnabled() is not synthetic
