"""Sparse matrices of SciPy and PyTorch."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_srast._utils.sparse import csr_tensor, drop_columns


def _counts() -> sparse.csr_matrix:
    return sparse.csr_matrix(np.array([[1, 0, 2], [0, 0, 0], [0, 3, 4]], dtype=np.float32))


def test_tensor_has_the_values_of_the_matrix() -> None:
    counts = _counts()
    tensor = csr_tensor(counts)
    np.testing.assert_array_equal(tensor.to_dense().numpy(), counts.toarray())
    counts.data[:] = 7
    assert set(tensor.values().tolist()) == {7.0}  # both share their memory


def test_dropped_columns_are_empty_and_the_shape_stays() -> None:
    kept = drop_columns(_counts(), np.array([False, False, True]))
    np.testing.assert_array_equal(kept.toarray(), [[1, 0, 0], [0, 0, 0], [0, 3, 0]])
    assert kept.nnz == 2
