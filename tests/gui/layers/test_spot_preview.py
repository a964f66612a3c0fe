from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Points

from napari_srast.gui.layers.spot_preview import CountsPicture, SpotPreview

pytestmark = pytest.mark.gui


def test_colored_spots_have_no_border_of_another_color() -> None:
    layer = Points(np.zeros((3, 2)), face_color="white", border_color="blue", border_width=0.1)
    plain = layer.border_color.copy()
    preview = SpotPreview(layer)
    values = np.array([0.0, 1.0, 4.0])
    for high in (4.0, 2.0):
        preview.color(CountsPicture(limits=(0.0, high), values=values, levels=None))
        np.testing.assert_array_equal(layer.border_color, layer.face_color)  # napari draws it on very small spots
        assert (layer.border_width == 0).all()
    preview.outline()
    np.testing.assert_array_equal(layer.border_color, plain)
    assert (layer.border_width == 0.1).all()
