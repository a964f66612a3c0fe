"""Blocks of rows, in memory and on disk."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast._utils.scratch_file import ScratchSlice
from napari_srast._utils.spill import CsrArrays, SpillBuffer


def _block(n_rows: int, seed: int) -> sparse.csr_matrix:
    return sparse.random(n_rows, 9, density=0.5, random_state=seed, format="csr", dtype=np.float32)


@pytest.mark.parametrize(("limit", "on_disk"), [(10**6, False), (0, True)])
def test_blocks_return_their_rows_in_order(limit: int, on_disk: bool) -> None:
    buffer, values = SpillBuffer(limit), _block(4, 0)
    block = buffer.add(np.array([5, 2, 3, 9]), values)
    assert isinstance(block.storage, ScratchSlice) is on_disk
    assert block.rows.tolist() == [2, 3, 5, 9]
    columns, data = block.read_entries(1, 3)
    expected = values[[2, 0]]
    np.testing.assert_array_equal(columns, expected.indices)
    np.testing.assert_array_equal(data, expected.data)
    buffer.close()


def test_rows_of_several_blocks_make_up_a_matrix() -> None:
    buffer = SpillBuffer(0)
    first, second = _block(3, 1), _block(2, 2)
    blocks = [buffer.add(np.array([0, 1, 4]), first), buffer.add(np.array([3, 2]), second)]
    expected = sparse.vstack([first[:2], second[[1, 0]], first[2:]], format="csr")
    target = CsrArrays(np.empty(expected.nnz, np.int32), np.empty(expected.nnz, np.float32), expected.indptr)
    for block in blocks:
        block.copy_rows(0, len(block.rows), target)
    np.testing.assert_array_equal(target.columns, expected.indices)
    np.testing.assert_array_equal(target.data, expected.data)
    buffer.close()


def test_released_memory_is_used_again() -> None:
    values = _block(4, 0)
    buffer = SpillBuffer(values.indices.nbytes + values.data.nbytes)
    block = buffer.add(np.arange(4), values)
    assert isinstance(buffer.add(np.arange(4), values).storage, ScratchSlice)
    buffer.release(block)
    assert not isinstance(buffer.add(np.arange(4), values).storage, ScratchSlice)
    buffer.close()
