from __future__ import annotations

import numpy as np
import pytest
from helpers.slides import make_slide

from napari_srast.analysis.drawing import domain_colors, length_text, round_length, spot_outlines


@pytest.mark.parametrize(("length", "rounded"), [(270.0, 200.0), (0.07, 0.05), (1.0, 1.0), (5.5, 5.0)])
def test_scale_bar_length_is_rounded_down_to_1_2_or_5(length: float, rounded: float) -> None:
    assert round_length(length) == pytest.approx(rounded)


@pytest.mark.parametrize(("length", "text"), [(50.0, "50 µm"), (500.0, "500 µm"), (1000.0, "1 mm"), (2500.0, "2.5 mm")])
def test_lengths_have_few_digits(length: float, text: str) -> None:
    assert length_text(length) == text


def test_outlines_of_spots_are_in_the_world() -> None:
    turned = np.array([[0.0, -2.0, 5.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    slide = make_slide(2, 2, transforms={"global": turned})
    (square,) = spot_outlines(slide, np.array([1]), 100.0)
    assert {tuple(corner) for corner in square} == {(-95.0, 100.0), (105.0, 100.0), (105.0, 300.0), (-95.0, 300.0)}
    (circle,) = spot_outlines(make_slide(2, 2, lattice="hex"), np.array([0]), 55.0)
    np.testing.assert_allclose(np.hypot(*circle.T), 27.5)


def test_colors_of_domains_differ() -> None:
    assert len({tuple(np.round(color, 2)) for color in domain_colors(30)}) == 30
