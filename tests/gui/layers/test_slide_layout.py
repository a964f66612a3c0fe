from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.core.slide import Slide
from napari_srast.gui.layers.slide_layout import arrange, world_box

pytestmark = pytest.mark.gui
CANVAS = (800.0, 600.0)


def test_current_slide_stays_and_no_slides_overlap(make_slide: Callable[..., Slide], skewed_slide: Slide) -> None:
    slides = [make_slide(4, 9), skewed_slide, make_slide(3, 3), make_slide(12, 4), make_slide(5, 5)]
    places = arrange(slides, 3, CANVAS)
    np.testing.assert_array_equal(places[3].matrix, np.eye(3))
    np.testing.assert_allclose([places[3].low, places[3].high], world_box(slides[3]))
    for i, one in enumerate(places):
        for other in places[:i]:
            assert (one.low >= other.high).any() or (other.low >= one.high).any()
    again = arrange(slides, 0, CANVAS)
    between = [[place.low - of[0].low for place in of] for of in (places, again)]
    np.testing.assert_allclose(between[0], between[1], atol=1e-6)  # the order does not depend on the current slide


@pytest.mark.parametrize(
    ("unit", "scale_of_system", "factor"), [("um", 1.0, 1.0), ("mm", 1.0, 1000.0), ("nm", 1.0, 0.001), ("um", 0.5, 2.0)]
)
def test_slides_of_different_units_have_their_physical_size(
    unit: str, scale_of_system: float, factor: float, make_slide: Callable[..., Slide]
) -> None:
    system = np.diag([scale_of_system, scale_of_system, 1.0])
    other = make_slide(6, 6, unit=unit, transforms={"global": system})
    place = arrange([make_slide(6, 6, unit="um"), other], 0, CANVAS)[1]
    assert place.is_to_scale
    assert place.matrix[0, 0] == pytest.approx(factor)
    low, high = world_box(other)
    np.testing.assert_allclose(place.high - place.low, factor * (high - low))


def test_slide_of_unknown_unit_is_as_large_as_the_current_one(make_slide: Callable[..., Slide]) -> None:
    slides = [make_slide(6, 6, unit="um"), make_slide(6, 6, pitch=3.0, spot_diameter=3.0, unit="unknown")]
    places = arrange(slides, 0, CANVAS)
    assert [place.is_to_scale for place in places] == [True, False]
    np.testing.assert_allclose(places[1].high - places[1].low, places[0].high - places[0].low)
