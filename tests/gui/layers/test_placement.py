"""Test where copies of slides are shown."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Points

from napari_srast.gui.layers.placement import Placement

pytestmark = pytest.mark.gui
SHIFT = np.array([[1.0, 0, 30], [0, 2.0, 5], [0, 0, 1]])  # (x, y)


def test_layer_is_moved_in_napari_order_with_its_units() -> None:
    layer = Points(np.zeros((1, 2)))
    Placement(SHIFT, ("um", "um")).move(layer)
    np.testing.assert_array_equal(layer.affine.affine_matrix, [[2, 0, 5], [0, 1, 30], [0, 0, 1]])
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]


def test_placements_are_equal_by_matrix_and_units() -> None:
    assert Placement(SHIFT, ("um", "um")).equals(Placement(SHIFT.copy(), ("um", "um")))
    assert not Placement(SHIFT, ("um", "um")).equals(Placement(SHIFT, ("pixel", "pixel")))
    assert not Placement(SHIFT, ("um", "um")).equals(Placement(np.eye(3), ("um", "um")))
