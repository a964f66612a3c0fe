"""Tests of binning points onto a lattice of spots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.lattices import random_counts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from napari_srast.errors import InputError, SettingsError
from napari_srast.geometry.binning import coarsen_points


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["square", "hex"]),
    angle=st.floats(0, 1.5),
    factor=st.sampled_from([2, 3, 2.5]),
    offset=st.tuples(st.floats(0, 100), st.floats(0, 100)),
)
def test_spot_counts_are_sums_of_pixel_counts(kind, angle: float, factor: float, offset: tuple[float, float]) -> None:
    points = np.random.default_rng(0).uniform(0, 1000, (600, 2))
    counts = random_counts(600)
    coarse = coarsen_points(points, counts, pitch=100, lattice=kind, factor=factor, angle=angle, offset=offset)
    sums = coarse.layout.membership @ coarse.truth
    np.testing.assert_array_equal(sums.toarray(), coarse.counts.toarray())
    assert coarse.counts.sum() >= 0.9 * counts.sum()
    assert (coarse.counts.sum(axis=1) >= 1).all()
    assert coarse.raster.lattice.pitch == pytest.approx(100, rel=1e-6)


def test_points_stay_in_the_pixel_that_contains_them() -> None:
    points = np.random.default_rng(1).uniform(0, 800, (500, 2))
    coarse = coarsen_points(points, random_counts(500), pitch=100, factor=2)
    assert coarse.truth.sum() == random_counts(500).sum()
    pixel = coarse.raster.locate(points)
    assert (np.abs(coarse.raster.centers[pixel] - points) <= 25 + 1e-9).all()


def test_areas_without_counts_get_no_spots() -> None:
    points = np.concatenate(
        [np.random.default_rng(i).uniform(0, 300, (200, 2)) + np.array([1500 * i, 0]) for i in (0, 1)]
    )
    coarse = coarsen_points(points, random_counts(400), pitch=100, min_counts=5)
    assert ((coarse.centers[:, 0] < 450) | (coarse.centers[:, 0] > 1350)).all()
    assert (coarse.counts.sum(axis=1) >= 5).all()


def test_invalid_binning_options_are_refused() -> None:
    points = np.random.default_rng(0).uniform(0, 10, (20, 2))
    with pytest.raises(SettingsError, match="pitch"):
        coarsen_points(points, random_counts(20), pitch=0)
    with pytest.raises(SettingsError, match="lattice"):
        coarsen_points(points, random_counts(20), pitch=5, lattice="cube")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="too fine"):
        coarsen_points(points, random_counts(20), pitch=1e-4)
    with pytest.raises(InputError, match="larger pitch"):
        coarsen_points(points, random_counts(20), pitch=5, min_counts=10**6)


@pytest.mark.slides
def test_real_cells_are_binned_without_loss(data_dir: Path) -> None:
    import anndata

    path = data_dir / "highres" / "osmfish_mouse_sscortex.h5ad"
    if not path.exists():
        pytest.skip(f"{path.name} is missing from {path.parent}")
    table = anndata.read_h5ad(path)
    coarse = coarsen_points(table.obsm["spatial"], sparse.csr_matrix(table.X), pitch=100, angle=0.3)
    assert coarse.truth.sum() == table.X.sum()
    assert (coarse.raster.n_pixels_per_spot == 4).all()
