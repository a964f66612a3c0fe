"""Square blocks divide points by place."""

from __future__ import annotations

import numpy as np

from napari_srast.geometry.blocks import square_blocks


def test_blocks_are_squares_and_have_consecutive_indices() -> None:
    points = np.array([[0.0, 0.0], [0.9, 0.9], [1.1, 0.0], [0.0, 5.2], [0.5, 5.9]])
    block = square_blocks(points + 7, 1.0)
    assert block[0] == block[1]
    assert block[3] == block[4]
    assert len({block[0], block[2], block[3]}) == 3
    assert set(block) == {0, 1, 2}
