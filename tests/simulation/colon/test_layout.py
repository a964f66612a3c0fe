"""Zones and cells of the simulated colon."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from napari_srast.simulation.colon.layout import PIXEL_UM, CellType, Tissue, Zone, generate_tissue, smooth_noise


@pytest.fixture(scope="module")
def tissue() -> Tissue:
    return generate_tissue(np.random.default_rng(0))


def test_different_seeds_give_different_tissues(tissue: Tissue) -> None:
    other = generate_tissue(np.random.default_rng(1))
    assert tissue.cells.shape != other.cells.shape or not np.allclose(tissue.cells, other.cells)


def test_all_zones_and_types_occur_and_cells_do_not_overlap(tissue: Tissue) -> None:
    assert set(np.unique(tissue.zones)) == set(Zone)
    assert set(np.unique(tissue.types)) == set(CellType)
    assert len(cKDTree(tissue.cells).query_pairs(5.0)) == 0


def test_cells_are_on_tissue(tissue: Tissue) -> None:
    col, row = (tissue.cells / PIXEL_UM).astype(int).T
    shape = tissue.zones.shape
    assert (tissue.zones[row.clip(0, shape[0] - 1), col.clip(0, shape[1] - 1)] != Zone.BACKGROUND).all()


def test_noise_has_unit_variance_and_varies_slowly() -> None:
    noise = smooth_noise(np.random.default_rng(0), (400, 600), 20 * PIXEL_UM)
    assert noise.shape == (400, 600)
    assert noise.std() == pytest.approx(1, abs=0.2)
    assert np.abs(np.diff(noise, axis=1)).mean() < 0.15
