"""Coarse slides are sums of their truth, and groups on every lattice are whole and compact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from napari_srast.errors import InputError, SettingsError
from napari_srast.geometry.coarsening import coarsen_points, coarsen_slide, lattice_frame
from napari_srast.geometry.lattice import detect_lattice


def lattice_points(kind: str, rows: int, cols: int, angle: float = 0.0, stretch: float = 1.0) -> np.ndarray:
    row, col = (a.ravel().astype(float) for a in np.mgrid[:rows, :cols])
    points = np.column_stack([col + 0.5 * (row % 2), row * np.sqrt(0.75)] if kind == "hex" else [col, row])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return 100 * (points * [stretch, 1]) @ turn


def random_counts(n: int, n_genes: int = 4, seed: int = 0) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(2.0, (n, n_genes)).astype(np.float32))


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["square", "hex"]),
    angle=st.floats(0, 1.5),
    factor=st.sampled_from([2, 3, 2.5]),
    offset=st.tuples(st.floats(0, 100), st.floats(0, 100)),
)
def test_low_resolution_is_the_sum_of_the_truth(kind, angle: float, factor: float, offset: tuple[float, float]) -> None:
    points = np.random.default_rng(0).uniform(0, 1000, (600, 2))
    counts = random_counts(600)
    found = coarsen_points(points, counts, pitch=100, lattice=kind, factor=factor, angle=angle, offset=offset)
    sums = found.layout.membership @ found.truth
    np.testing.assert_array_equal(sums.toarray(), found.counts.toarray())
    assert found.counts.sum() >= 0.9 * counts.sum()
    assert (found.counts.sum(axis=1) >= 1).all()
    assert found.raster.lattice.pitch == pytest.approx(100, rel=1e-6)


def test_points_on_squares_are_all_kept_in_the_pixel_that_contains_them() -> None:
    points = np.random.default_rng(1).uniform(0, 800, (500, 2))
    found = coarsen_points(points, random_counts(500), pitch=100, factor=2)
    assert found.truth.sum() == random_counts(500).sum()
    pixel = found.raster.locate(points)
    assert (np.abs(found.raster.centers[pixel] - points) <= 25 + 1e-9).all()


def test_empty_places_have_no_spots() -> None:
    points = np.concatenate(
        [np.random.default_rng(i).uniform(0, 300, (200, 2)) + np.array([1500 * i, 0]) for i in (0, 1)]
    )
    found = coarsen_points(points, random_counts(400), pitch=100, min_counts=5)
    assert ((found.centers[:, 0] < 450) | (found.centers[:, 0] > 1350)).all()
    assert (found.counts.sum(axis=1) >= 5).all()


def test_points_that_cannot_be_binned_are_refused() -> None:
    points = np.random.default_rng(0).uniform(0, 10, (20, 2))
    with pytest.raises(SettingsError, match="pitch"):
        coarsen_points(points, random_counts(20), pitch=0)
    with pytest.raises(SettingsError, match="lattice"):
        coarsen_points(points, random_counts(20), pitch=5, lattice="cube")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="too fine"):
        coarsen_points(points, random_counts(20), pitch=1e-4)
    with pytest.raises(InputError, match="larger pitch"):
        coarsen_points(points, random_counts(20), pitch=5, min_counts=10**6)


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 4])
def test_squares_join_in_blocks_of_four(angle: float) -> None:
    centers = lattice_points("square", 8, 10, angle)
    counts = random_counts(80)
    found = coarsen_slide(centers, counts)
    assert found is not None
    assert (found.layout.n_pixels_of_spot == 4).all()
    assert found.layout.n_spots == 20
    assert found.layout.pitch == pytest.approx(200, rel=1e-6)
    np.testing.assert_array_equal(found.truth.toarray(), counts[found.used].toarray())
    np.testing.assert_array_equal((found.layout.membership @ found.truth).toarray(), found.counts.toarray())
    offset = found.layout.pixels - found.layout.spots[found.layout.parent]
    np.testing.assert_allclose(np.hypot(*offset.T), 100 / np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize(("scheme", "size", "reach"), [("rhombi", 4, 0.87), ("trimers", 3, 0.58), ("sevens", 7, 1.0)])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_hexagons_join_in_compact_groups(scheme, size: int, reach: float, seed: int) -> None:
    centers = lattice_points("hex", 14, 14, angle=0.2)
    found = coarsen_slide(centers, random_counts(196), scheme=scheme, seed=seed)
    assert found is not None
    sizes = found.layout.n_pixels_of_spot
    assert set(sizes) <= {0, size}
    assert (sizes == size).sum() * size > 0.5 * 196
    offset = found.layout.pixels - found.layout.spots[found.layout.parent]
    assert np.hypot(*offset.T).max() <= 100 * (reach + 0.01)
    assert detect_lattice(found.layout.spots).pitch == pytest.approx(100 * np.sqrt(size), rel=0.01)


def test_seeds_turn_the_rhombi() -> None:
    centers = lattice_points("hex", 12, 12)
    groups = {coarsen_slide(centers, random_counts(144), seed=seed).layout.parent.tobytes() for seed in range(6)}
    assert len(groups) > 1


def test_groups_that_lack_members_are_scaled_neighbors() -> None:
    centers = lattice_points("square", 6, 6)[1:]
    counts = sparse.csr_matrix(np.full((35, 1), 2.0, dtype=np.float32))
    found = coarsen_slide(centers, counts)
    assert found is not None
    assert sorted(found.layout.n_pixels_of_spot) == [0] + [4] * 8
    np.testing.assert_allclose(found.counts.toarray(), 8)


def test_order_of_spots_changes_no_group() -> None:
    centers, counts = lattice_points("square", 7, 7, 0.3), random_counts(49)
    order = np.random.default_rng(0).permutation(49)

    def groups(found) -> set[tuple[float, ...]]:
        pixels = [
            np.sort(np.rint(found.truth[found.layout.parent == i].toarray()).sum(axis=1)).tolist()
            for i in range(found.layout.n_spots)
        ]
        return {tuple(p) for p in pixels}

    assert groups(coarsen_slide(centers, counts)) == groups(coarsen_slide(centers[order], counts[order]))


def test_irregular_spots_join_in_bins() -> None:
    centers = np.random.default_rng(0).uniform(0, 100, (400, 2))
    counts = random_counts(400)
    found = coarsen_slide(centers, counts)
    assert found is not None
    assert (found.layout.n_pixels_of_spot[found.layout.parent] >= 2).all()
    np.testing.assert_array_equal(
        (found.layout.membership @ found.truth).toarray()[found.layout.n_pixels_of_spot > 0],
        found.counts.toarray()[found.layout.n_pixels_of_spot > 0],
    )


def test_too_few_spots_cannot_be_coarsened() -> None:
    assert coarsen_slide(lattice_points("square", 1, 3), random_counts(3)) is None
    assert coarsen_slide(lattice_points("square", 2, 2), random_counts(4)) is None


def test_a_stretched_hexagonal_array_is_numbered_without_slips() -> None:
    centers = lattice_points("hex", 60, 60, angle=0.1, stretch=1.03)
    frame = lattice_frame(centers, detect_lattice(centers))
    assert len(np.unique(frame.nodes, axis=0)) == len(centers)
    np.testing.assert_allclose(frame.position(frame.nodes), centers, atol=1)
    np.testing.assert_allclose(frame.place(centers), frame.nodes, atol=0.02)


@pytest.mark.slides
def test_real_slides_coarsen_to_twice_their_pitch(slide_paths: list[Path]) -> None:
    import anndata

    for path in slide_paths:
        table = anndata.read_h5ad(path)
        lattice = detect_lattice(table.obsm["spatial"])
        found = coarsen_slide(table.obsm["spatial"], sparse.csr_matrix(table.X), lattice)
        assert found is not None
        assert found.layout.n_pixels > 0.5 * table.n_obs, path.name
        assert found.layout.pitch == pytest.approx(2 * lattice.pitch, rel=0.02), path.name
        offset = found.layout.pixels - found.layout.spots[found.layout.parent]
        assert np.hypot(*offset.T).max() < lattice.pitch, path.name


@pytest.mark.slides
def test_a_real_cell_slide_bins_without_loss(data_dir: Path) -> None:
    import anndata

    path = data_dir / "highres" / "osmfish_mouse_sscortex.h5ad"
    if not path.exists():
        pytest.skip(f"{path.name} is missing from {path.parent}")
    table = anndata.read_h5ad(path)
    found = coarsen_points(table.obsm["spatial"], sparse.csr_matrix(table.X), pitch=100, angle=0.3)
    assert found.truth.sum() == table.X.sum()
    assert (found.raster.counts_per_spot == 4).all()
