"""Tests of the comparison of spot counts with the sums over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast.core import mass_balance
from napari_srast.core.mass_balance import gene_totals, relative_mass_error
from napari_srast.geometry.raster import Raster, make_raster


@pytest.fixture
def raster() -> Raster:
    return make_raster(np.array([[0.0, 0.0], [100.0, 0.0]]), factor=2)


@pytest.fixture
def spot_counts() -> sparse.csr_matrix:
    return sparse.csr_matrix([[4.0, 0.0], [8.0, 2.0]])


@pytest.fixture
def exact(raster: Raster, spot_counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return counts of pixels that sum to those of the spots."""
    return (spot_counts[raster.parent] / raster.n_pixels_per_spot[raster.parent][:, None]).tocsr()


def test_exact_sums_have_no_error(raster: Raster, spot_counts: sparse.csr_matrix, exact: sparse.csr_matrix) -> None:
    assert relative_mass_error(raster, exact, spot_counts) == 0
    assert relative_mass_error(raster, exact * 1.01, spot_counts) == pytest.approx(0.01)


def test_lost_counts_are_an_error(raster: Raster, spot_counts: sparse.csr_matrix, exact: sparse.csr_matrix) -> None:
    exact.data[0] = 0.0
    assert relative_mass_error(raster, exact, spot_counts) > 0.05


def test_invented_counts_are_an_infinite_error(
    raster: Raster, spot_counts: sparse.csr_matrix, exact: sparse.csr_matrix
) -> None:
    invented = exact.tolil()
    invented[np.flatnonzero(raster.parent == 0)[0], 1] = 1e-9
    assert relative_mass_error(raster, invented.tocsr(), spot_counts) == np.inf


def test_blocks_do_not_change_sums(
    raster: Raster, spot_counts: sparse.csr_matrix, exact: sparse.csr_matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mass_balance, "_ENTRIES_PER_BLOCK", 3)
    assert relative_mass_error(raster, exact, spot_counts) == 0
    np.testing.assert_array_equal(gene_totals(exact), [12, 2])
