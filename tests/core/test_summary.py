"""The proof that counts were kept: every kind of loss is seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast.core.mass_balance import relative_mass_error
from napari_srast.geometry.raster import make_raster


def test_mass_errors_are_seen() -> None:
    raster = make_raster(np.array([[0.0, 0.0], [100.0, 0.0]]), factor=2)
    spot_counts = sparse.csr_matrix([[4.0, 0.0], [8.0, 2.0]])
    exact = (spot_counts[raster.parent] / raster.counts_per_spot[raster.parent][:, None]).tocsr()
    assert relative_mass_error(raster, exact, spot_counts) == 0
    assert relative_mass_error(raster, exact * 1.01, spot_counts) == pytest.approx(0.01)
    lost = exact.copy()
    lost.data[0] = 0.0
    assert relative_mass_error(raster, lost, spot_counts) > 0.05
    made_up = exact.tolil()
    made_up[0, 1] = 1e-9
    expected = np.inf if raster.parent[0] == 0 else 1e-9
    assert relative_mass_error(raster, made_up.tocsr(), spot_counts) >= expected
