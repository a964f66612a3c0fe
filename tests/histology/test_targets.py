"""What is regressed on an image: totals and components of the counts."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_srast.histology.targets import composition_components, log_totals


def test_log_totals_are_centered_and_empty_spots_are_finite() -> None:
    totals = log_totals(sparse.csr_matrix([[3.0, 1.0], [0.0, 0.0], [8.0, 8.0]]))
    np.testing.assert_allclose(totals.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(totals[2] - totals[0], np.log(4))
    assert totals[1] == totals[0]  # the smallest positive total
    np.testing.assert_array_equal(log_totals(sparse.csr_matrix((2, 3))), 0)


def test_components_follow_the_composition_and_not_the_depth() -> None:
    rng = np.random.default_rng(0)
    kind, depth = np.arange(48) % 2, rng.uniform(50, 500, 48)
    mean = depth[:, None] * np.where(kind[:, None], [0.6, 0.2, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6])
    components = composition_components(sparse.csr_matrix(rng.poisson(mean).astype(float)))
    assert components.shape[0] == 48
    np.testing.assert_allclose(components.std(axis=0), 1)
    assert abs(np.corrcoef(components[:, 0], kind)[0, 1]) > 0.95
    assert abs(np.corrcoef(components[:, 0], np.log(depth))[0, 1]) < 0.3


def test_few_spots_have_no_components() -> None:
    assert composition_components(sparse.csr_matrix(np.ones((11, 5)))).shape == (11, 0)
    assert composition_components(sparse.csr_matrix((40, 5))).shape == (40, 0)
