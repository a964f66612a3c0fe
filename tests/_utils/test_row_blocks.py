"""Test the division of rows into blocks."""

from __future__ import annotations

import numpy as np

from napari_srast._utils.row_blocks import MAX_WHOLE_ROWS, add_up, row_blocks, spread_sample


def test_rows_of_a_small_slide_are_one_block() -> None:
    assert row_blocks(MAX_WHOLE_ROWS, 1e12) == [slice(0, MAX_WHOLE_ROWS)]
    assert row_blocks(0, 0) == [slice(0, 0)]


def test_blocks_of_a_large_slide_hold_few_values_and_every_row_once() -> None:
    n_rows, n_values = 123_457, 5e7
    blocks = row_blocks(n_rows, n_values)
    np.testing.assert_array_equal(np.concatenate([np.arange(n_rows)[block] for block in blocks]), np.arange(n_rows))
    assert max(block.stop - block.start for block in blocks) * n_values / n_rows <= 4_000_000


def test_empty_rows_make_no_block_larger_than_a_small_slide() -> None:
    assert max(block.stop - block.start for block in row_blocks(10**6, 0)) == MAX_WHOLE_ROWS


def test_a_single_part_is_returned_as_it_is() -> None:
    part = np.array([-0.0, 1.0])
    assert add_up(iter([part])) is part
    np.testing.assert_array_equal(add_up(iter([part, part])), 2 * part)


def test_sample_is_spread_over_all_rows() -> None:
    sample = spread_sample(1000, 10)
    assert (sample[0], sample[-1]) == (0, 999)
    assert np.diff(sample).max() <= 112
    np.testing.assert_array_equal(spread_sample(5, 10), np.arange(5))
