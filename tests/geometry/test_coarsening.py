"""Tests of coarsening a slide: groups are complete and compact, and their counts are sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.lattices import lattice_points, random_counts
from scipy import sparse

from napari_srast.errors import SettingsError
from napari_srast.geometry.coarsening import coarsen_slide
from napari_srast.geometry.lattice import detect_lattice


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 4])
def test_square_lattice_is_grouped_in_blocks_of_four(angle: float) -> None:
    centers = lattice_points("square", 8, 10, angle)
    counts = random_counts(80)
    coarse = coarsen_slide(centers, counts)
    assert coarse is not None
    assert (coarse.layout.n_pixels_per_spot == 4).all()
    assert coarse.layout.n_spots == 20
    assert coarse.layout.pitch == pytest.approx(200, rel=1e-6)
    np.testing.assert_array_equal(coarse.truth.toarray(), counts[coarse.used].toarray())
    np.testing.assert_array_equal((coarse.layout.membership @ coarse.truth).toarray(), coarse.counts.toarray())
    offset = coarse.layout.pixels - coarse.layout.spots[coarse.layout.parent]
    np.testing.assert_allclose(np.hypot(*offset.T), 100 / np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize(("scheme", "size", "reach"), [("rhombi", 4, 0.87), ("trimers", 3, 0.58), ("heptamers", 7, 1)])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_hexagonal_lattice_is_grouped_compactly(scheme, size: int, reach: float, seed: int) -> None:
    centers = lattice_points("hex", 14, 14, angle=0.2)
    coarse = coarsen_slide(centers, random_counts(196), scheme=scheme, seed=seed)
    assert coarse is not None
    sizes = coarse.layout.n_pixels_per_spot
    assert set(sizes) <= {0, size}
    assert (sizes == size).sum() * size > 0.5 * 196
    offset = coarse.layout.pixels - coarse.layout.spots[coarse.layout.parent]
    assert np.hypot(*offset.T).max() <= 100 * (reach + 0.01)
    assert detect_lattice(coarse.layout.spots).pitch == pytest.approx(100 * np.sqrt(size), rel=0.01)


def test_seed_changes_orientation_of_rhombi() -> None:
    centers = lattice_points("hex", 12, 12)
    groups = {coarsen_slide(centers, random_counts(144), seed=seed).layout.parent.tobytes() for seed in range(6)}
    assert len(groups) > 1


def test_incomplete_groups_become_scaled_neighbors() -> None:
    centers = lattice_points("square", 6, 6)[1:]
    counts = sparse.csr_matrix(np.full((35, 1), 2.0, dtype=np.float32))
    coarse = coarsen_slide(centers, counts)
    assert coarse is not None
    assert sorted(coarse.layout.n_pixels_per_spot) == [0] + [4] * 8
    np.testing.assert_allclose(coarse.counts.toarray(), 8)


def test_spot_order_does_not_change_groups() -> None:
    centers, counts = lattice_points("square", 7, 7, 0.3), random_counts(49)
    order = np.random.default_rng(0).permutation(49)

    def groups(coarse) -> set[tuple[float, ...]]:
        pixels = [
            np.sort(np.rint(coarse.truth[coarse.layout.parent == i].toarray()).sum(axis=1)).tolist()
            for i in range(coarse.layout.n_spots)
        ]
        return {tuple(p) for p in pixels}

    assert groups(coarsen_slide(centers, counts)) == groups(coarsen_slide(centers[order], counts[order]))


def test_irregular_spots_are_grouped_in_bins() -> None:
    centers = np.random.default_rng(0).uniform(0, 100, (400, 2))
    counts = random_counts(400)
    coarse = coarsen_slide(centers, counts)
    assert coarse is not None
    assert (coarse.layout.n_pixels_per_spot[coarse.layout.parent] >= 2).all()
    np.testing.assert_array_equal(
        (coarse.layout.membership @ coarse.truth).toarray()[coarse.layout.n_pixels_per_spot > 0],
        coarse.counts.toarray()[coarse.layout.n_pixels_per_spot > 0],
    )


def test_slide_with_too_few_spots_is_not_coarsened() -> None:
    assert coarsen_slide(lattice_points("square", 1, 3), random_counts(3)) is None
    assert coarsen_slide(lattice_points("square", 2, 2), random_counts(4)) is None


@pytest.mark.slides
def test_real_slides_are_coarsened_to_twice_the_pitch(slide_paths: list[Path]) -> None:
    import anndata

    for path in slide_paths:
        table = anndata.read_h5ad(path)
        lattice = detect_lattice(table.obsm["spatial"])
        coarse = coarsen_slide(table.obsm["spatial"], sparse.csr_matrix(table.X), lattice)
        assert coarse is not None
        assert coarse.layout.n_pixels > 0.5 * table.n_obs, path.name
        assert coarse.layout.pitch == pytest.approx(2 * lattice.pitch, rel=0.02), path.name
        offset = coarse.layout.pixels - coarse.layout.spots[coarse.layout.parent]
        assert np.hypot(*offset.T).max() < lattice.pitch, path.name


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(SettingsError, match="must be one of: rhombi"):
        coarsen_slide(lattice_points("hex", 4, 4), random_counts(16), scheme="sevens")  # type: ignore[arg-type]
