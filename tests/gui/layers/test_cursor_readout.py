from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.layers.cursor_readout import read_pixel
from napari_srast.gui.state.displayed_result import prepare_for_display

pytestmark = pytest.mark.gui


def test_readout_has_spot_pixel_count_and_measured_count(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    slide = make_slide()
    displayed = prepare_for_display(make_result(slide))
    readout = read_pixel(displayed, ["Gene0", "Gene3"], slide.centers[20] + [10.0, -10.0])
    measured = slide.counts[20, [0, 3]].toarray()[0]
    assert readout.spot == "spot20"
    assert readout.genes == (("Gene0", measured[0] / 4, measured[0]), ("Gene3", measured[1] / 4, measured[1]))
    assert read_pixel(displayed, ["Gene0"], np.array([1e6, 1e6])).text == ""
