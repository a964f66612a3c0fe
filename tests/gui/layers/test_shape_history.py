"""Undo and redo of shapes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Shapes

from napari_srast.gui.layers.shape_history import ShapeHistory

pytestmark = pytest.mark.gui
SQUARE = np.array([[0.0, 0.0], [0, 9], [9, 9], [9, 0]])


def test_states_are_restored_with_their_features() -> None:
    layer = Shapes(ndim=2)
    history = ShapeHistory(layer)
    layer.add_polygons(SQUARE)
    layer.features = {"name": ["tumor"]}
    assert history.record()
    layer.data = []
    assert history.record()
    assert history.undo()
    np.testing.assert_array_equal(layer.data[0], SQUARE)
    assert list(layer.features["name"]) == ["tumor"]
    assert history.redo()
    assert len(layer.data) == 0
    assert (history.can_undo, history.can_redo, history.redo()) == (True, False, False)


def test_unchanged_layer_is_no_new_state_and_a_change_forgets_what_was_undone() -> None:
    layer = Shapes(ndim=2)
    history = ShapeHistory(layer)
    history.record()
    assert not history.can_undo
    layer.add_polygons(SQUARE)
    history.record()
    history.undo()
    layer.add_polygons(SQUARE + 20)
    history.record()
    assert not history.can_redo
    assert history.undo()
    assert not history.undo()
