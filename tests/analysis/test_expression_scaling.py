"""Expression of a result, normalized per pixel."""

from __future__ import annotations

import numpy as np

from napari_srast.analysis.expression_scaling import log_normalize


def test_rows_are_scaled_to_10000_before_the_logarithm() -> None:
    values = np.array([[1.0, 3.0], [0.0, 0.0], [10.0, 30.0]])
    normalized = log_normalize(values)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized[0], np.log1p([2500, 7500]), rtol=1e-6)
    np.testing.assert_array_equal(normalized[1], 0)
    np.testing.assert_array_equal(normalized[2], normalized[0])  # depth does not matter
