from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.run_request import result_title

pytestmark = pytest.mark.gui


def test_result_title_names_unusual_settings(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    result = make_result(make_slide())

    def title(number: int, **settings: object) -> str:
        changed = dataclasses.replace(result, settings=UpsampleSettings(**settings)) if settings else result
        return result_title(number, prepare_for_display(changed))

    assert title(2) == f"2: 64 spots, {len(result.genes)} genes, ×2, uniform"
    assert title(1, factor=4).endswith(" genes, ×4")
    assert title(1, pixel_size=25.0, mode="sample").endswith("pixels of 25, sample")
