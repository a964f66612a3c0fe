"""Allocation of the counts of spots to their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.allocation import CountAllocator

GENES = np.array(["A", "B", "C"])
LAYOUT = SpotPixelMap(
    spots=np.array([[0.0, 0.0], [10.0, 0.0]]),
    pixels=np.array([[-1.0, 0.0], [1.0, 0.0], [9.0, 0.0], [10.0, 0.0], [11.0, 0.0]]),
    parent=np.array([0, 0, 1, 1, 1]),
    pitch=10.0,
)
RATIOS = np.array([[1.0, 3.0], [3.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
COUNTS = np.array([[8.0, 6.0], [9.0, 4.0]])


def _allocate(mode: str) -> np.ndarray:
    allocator = CountAllocator(mode=mode, seed=0, genes=GENES)
    return allocator.allocate(RATIOS, COUNTS, LAYOUT, slice(0, 2), np.array([0, 1])).toarray()


def test_counts_follow_the_ratios_and_zeros_give_the_uniform_split() -> None:
    np.testing.assert_allclose(_allocate("mean"), [[2, 6], [6, 0], [3, 1], [3, 1], [3, 2]])


@pytest.mark.parametrize("mode", ["mean", "integer"])
def test_pixels_sum_to_the_counts_of_their_spot(mode: str) -> None:
    counts = _allocate(mode)
    np.testing.assert_array_equal(LAYOUT.membership @ counts, COUNTS)
    assert counts.dtype == np.float32
    if mode == "integer":
        np.testing.assert_array_equal(counts, np.rint(counts))
        assert counts[1, 1] == 0  # a ratio of 0 gets no count
