from __future__ import annotations

import numpy as np
import pytest
from helpers.slides import make_slide

from napari_srast.analysis.resampling import block_of_spots, check_bootstrap, check_seed, resample_blocks
from napari_srast.errors import SettingsError


def test_blocks_are_squares_of_neighboring_spots():
    slide = make_slide(12, 12, 2)
    block = block_of_spots(slide, 6.0)
    assert np.bincount(block).tolist() == [36] * 4
    for one in range(4):
        assert np.ptp(slide.centers[block == one], axis=0).tolist() == [500, 500]


def test_draws_have_as_many_blocks_as_the_slide():
    weights = resample_blocks(7, 200, np.random.default_rng(0))
    assert weights.shape == (200, 7)
    assert set(weights.sum(axis=1)) == {7}
    assert weights.std() > 0


@pytest.mark.parametrize(
    ("block", "draws", "level", "seed", "message"),
    [
        (0.5, 100, 0.9, 0, "block is 0.5, but must be at least 1 pitch"),
        (np.inf, 100, 0.9, 0, "block is inf"),
        (6.0, 99, 0.9, 0, "number of draws is 99, but must be at least 100"),
        (6.0, 100, 1.0, 0, "level is 1, but must be between 0 and 1"),
        (6.0, 100, np.nan, 0, "level is nan"),
        (6.0, 100, 0.9, -1, "seed is -1, but must be between 0 and"),
        (6.0, 100, 0.9, 2**32, "seed is 4294967296"),
    ],
)
def test_numbers_out_of_their_range_are_refused(block, draws, level, seed, message):
    with pytest.raises(SettingsError, match=message):
        check_bootstrap(block, draws, level, seed)
    check_seed(2**32 - 1)
