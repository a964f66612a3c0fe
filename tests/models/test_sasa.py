"""The graph VAE on a slide of two planted domains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from napari_srast.errors import Cancelled
from napari_srast.geometry.graphs import dual_topology_graph, nearest_other_spots
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.models import sasa
from napari_srast.models.devices import available_devices
from napari_srast.models.sasa import (
    SasaConfig,
    _sum_in_order,
    _sum_of_neighbours,
    canonical_order,
    fit_sasa,
    latent_norm,
)
from napari_srast.models.sparse import csr_tensor

QUICK = SasaConfig(epochs=60, n_components=10)


def two_domains(seed: int = 0) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Return counts, centres and the domain of 12 x 12 spots: left and right halves express other genes."""
    rng = np.random.default_rng(seed)
    row, col = (a.ravel() for a in np.mgrid[:12, :12])
    domain = (col >= 6).astype(int)
    profile = np.ones((2, 30))
    profile[0, :10], profile[1, 10:20] = 4.0, 4.0
    counts = sparse.csr_matrix(rng.poisson(profile[domain]).astype(np.float32))
    return counts, np.column_stack([col, row]) * 100.0, domain


@pytest.mark.parametrize("device", available_devices())
def test_latents_tell_domains_apart(device: str) -> None:
    counts, centers, domain = two_domains()
    pool = fit_sasa(counts, centers, detect_lattice(centers), config=QUICK, device=device)
    latent = pool.latent / np.linalg.norm(pool.latent, axis=1, keepdims=True)
    alike = latent @ latent.T
    same = domain[:, None] == domain
    assert alike[same].mean() > alike[~same].mean() + 0.5


def test_denoising_comes_nearer_to_the_true_rate_than_the_counts() -> None:
    counts, centers, domain = two_domains()
    pool = fit_sasa(counts, centers, detect_lattice(centers), config=QUICK)
    profile = np.ones((2, 30))
    profile[0, :10], profile[1, 10:20] = 4.0, 4.0
    truth = profile[domain]
    error = np.mean((pool.denoise(counts) - truth) ** 2)
    assert error < 0.4 * np.mean((counts.toarray() - truth) ** 2)


@pytest.mark.parametrize("device", available_devices())
def test_same_seed_same_bytes_and_spot_order_is_followed(device: str) -> None:
    counts, centers, _ = two_domains()
    lattice = detect_lattice(centers)
    first = fit_sasa(counts, centers, lattice, config=QUICK, seed=3, device=device)
    again = fit_sasa(counts, centers, lattice, config=QUICK, seed=3, device=device)
    assert first.latent.tobytes() == again.latent.tobytes()
    turn = np.random.default_rng(1).permutation(len(centers))
    shuffled = fit_sasa(counts[turn], centers[turn], lattice, config=QUICK, seed=3, device=device)
    np.testing.assert_array_equal(shuffled.latent, first.latent[turn])


def test_nothing_is_asked_of_a_device_before_the_latents_are_fetched() -> None:
    """On the device "meta" no tensor has values: what needed one (.item(), the size of a choice) fails there."""
    counts, centers, _ = two_domains()
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        fit_sasa(counts, centers, detect_lattice(centers), config=QUICK, device="meta")


@pytest.mark.parametrize("device", [name for name in available_devices() if name != "mps"])
def test_neighbours_add_up_in_a_fixed_order_to_the_sparse_product(device: str) -> None:
    matrix = sparse.random(40, 40, 0.1, format="csr", random_state=0, dtype=np.float32)
    matrix.data[:] = 1.0
    h = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).to(device)
    adjacency = csr_tensor(matrix, device)
    torch.testing.assert_close(_sum_of_neighbours(adjacency, h).cpu(), torch.from_numpy(matrix @ h.cpu().numpy()))
    torch.testing.assert_close(_sum_in_order(adjacency, h), adjacency @ h)


@pytest.mark.parametrize("n_spots", [1, 2, 3, 5])
def test_tiny_slides_have_latents(n_spots: int) -> None:
    counts = sparse.csr_matrix(np.arange(n_spots * 4).reshape(n_spots, 4), dtype=np.float32)
    centers = np.column_stack([np.arange(n_spots), np.zeros(n_spots)]) * 100.0
    pool = fit_sasa(counts, centers, detect_lattice(centers, 55.0), config=QUICK)
    assert pool.latent.shape == (n_spots, QUICK.latent)
    assert np.isfinite(pool.latent).all()
    assert np.isfinite(pool.denoise(counts)).all()


def test_a_large_slide_is_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, centers, _ = two_domains()
    lattice = detect_lattice(centers)
    whole = fit_sasa(counts, centers, lattice, config=QUICK)
    monkeypatch.setattr("napari_srast.models.sasa._ENCODED", 50)
    in_parts = fit_sasa(counts, centers, lattice, config=QUICK)
    np.testing.assert_allclose(in_parts.latent, whole.latent, rtol=1e-3, atol=1e-4)


def test_stop_token_is_heard() -> None:
    counts, centers, _ = two_domains()
    with pytest.raises(Cancelled):
        fit_sasa(counts, centers, detect_lattice(centers), config=QUICK, should_stop=lambda: True)


def test_latent_norm_whitens_signal_and_shrinks_noise() -> None:
    rng = np.random.default_rng(0)
    strong, weak = 10 * rng.normal(size=500), 0.01 * rng.normal(size=500)
    normalised = latent_norm(np.column_stack([strong, weak]), np.full((500, 2), 0.1))
    variance = normalised.var(axis=0)
    assert variance.max() == pytest.approx(1.0, abs=0.02)
    assert variance.min() < 0.01
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-6)


def test_latent_norm_of_a_turned_latent_keeps_inner_products() -> None:
    rng = np.random.default_rng(1)
    latent = rng.normal(size=(200, 4)) * [3, 2, 1, 0.5]
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    noise = np.full((200, 4), 0.2)
    plain, turned = latent_norm(latent, noise), latent_norm(latent @ rotation, noise)
    np.testing.assert_allclose(plain @ plain.T, turned @ turned.T, atol=1e-4)


def test_canonical_order_depends_on_content_alone() -> None:
    counts, centers, _ = two_domains()
    turn = np.random.default_rng(2).permutation(len(centers))
    order = canonical_order(counts, centers)
    np.testing.assert_array_equal(turn[canonical_order(counts[turn], centers[turn] + 7.0)], order)


def test_canonical_order_is_the_same_in_pieces_and_with_zeros_that_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, centers, _ = two_domains()
    for spot in (5, 143):
        counts.data[counts.indptr[spot] : counts.indptr[spot + 1]] = 0
    order = canonical_order(counts, centers)
    stored = counts.copy()
    stored.eliminate_zeros()
    assert stored.nnz < counts.nnz
    np.testing.assert_array_equal(canonical_order(stored, centers), order)
    monkeypatch.setattr(sasa, "_ENTRIES_AT_ONCE", 40)
    np.testing.assert_array_equal(canonical_order(counts, centers), order)


def test_graph_has_both_topologies_without_loops() -> None:
    counts, centers, _ = two_domains()
    graph = dual_topology_graph(centers, counts.toarray(), detect_lattice(centers), n_expression=5)
    inner = 5 * 12 + 5
    assert graph.spatial[inner].sum() >= 8
    assert graph.spatial.diagonal().sum() == graph.expression.diagonal().sum() == 0
    assert (graph.spatial != graph.spatial.T).nnz == 0
    assert graph.expression.sum(axis=1).min() >= 5


def test_nearest_other_spots_leave_out_the_parent_and_keep_the_order() -> None:
    spots = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    index, distance = nearest_other_spots(spots, np.array([[0.4, 0.0]]), np.array([0]), 2)
    assert index.tolist() == [[1, 2]]
    np.testing.assert_allclose(distance, [[0.6, 1.6]])
    index, distance = nearest_other_spots(spots[:2], np.array([[0.4, 0.0]]), np.array([0]), 3)
    assert index[0, 0] == 1
    assert np.isinf(distance[0, 1:]).all()
