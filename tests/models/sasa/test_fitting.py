"""Test SASA on a slide of two planted domains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from napari_srast._utils.devices import available_devices
from napari_srast.core.limits import SASA_TRAINING_PARTS
from napari_srast.core.progress import RunMonitor
from napari_srast.errors import Cancelled
from napari_srast.geometry import neighbors
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.interpolation import denoising
from napari_srast.models.sasa import embedding as embedding_module
from napari_srast.models.sasa import fitting
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.fitting import fit_sasa, latent_norm
from napari_srast.models.sasa.graph_vae import GraphVAE, Topology

QUICK = SasaConfig(epochs=60, n_components=10)


def two_domains(seed: int = 0) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Return counts, centers and the domain of 12 x 12 spots: left and right halves express different genes."""
    rng = np.random.default_rng(seed)
    row, col = (a.ravel() for a in np.mgrid[:12, :12])
    domain = (col >= 6).astype(int)
    profile = np.ones((2, 30))
    profile[0, :10], profile[1, 10:20] = 4.0, 4.0
    counts = sparse.csr_matrix(rng.poisson(profile[domain]).astype(np.float32))
    return counts, np.column_stack([col, row]) * 100.0, domain


@pytest.mark.parametrize("device", available_devices())
def test_latents_separate_domains(device: str) -> None:
    counts, centers, domain = two_domains()
    embedding = fit_sasa(counts, centers, detect_lattice(centers), config=QUICK, device=device)
    latent = embedding.latent / np.linalg.norm(embedding.latent, axis=1, keepdims=True)
    similarity = latent @ latent.T
    same_domain = domain[:, None] == domain
    assert similarity[same_domain].mean() > similarity[~same_domain].mean() + 0.5


def test_denoising_reduces_the_error() -> None:
    counts, centers, domain = two_domains()
    embedding = fit_sasa(counts, centers, detect_lattice(centers), config=QUICK)
    profile = np.ones((2, 30))
    profile[0, :10], profile[1, 10:20] = 4.0, 4.0
    truth = profile[domain]
    error = np.mean((embedding.denoise(counts) - truth) ** 2)
    assert error < 0.4 * np.mean((counts.toarray() - truth) ** 2)


@pytest.mark.parametrize("device", available_devices())
def test_fit_is_reproducible_in_any_spot_order(device: str) -> None:
    counts, centers, _ = two_domains()
    lattice = detect_lattice(centers)
    first = fit_sasa(counts, centers, lattice, config=QUICK, seed=3, device=device)
    second = fit_sasa(counts, centers, lattice, config=QUICK, seed=3, device=device)
    assert first.latent.tobytes() == second.latent.tobytes()
    permutation = np.random.default_rng(1).permutation(len(centers))
    shuffled = fit_sasa(counts[permutation], centers[permutation], lattice, config=QUICK, seed=3, device=device)
    np.testing.assert_array_equal(shuffled.latent, first.latent[permutation])


def test_fit_does_not_synchronize_with_the_device() -> None:
    """On the device "meta" tensors have no values, so any synchronization (.item(), a mask) fails."""
    counts, centers, _ = two_domains()
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        fit_sasa(counts, centers, detect_lattice(centers), config=QUICK, device="meta")


@pytest.mark.parametrize("n_spots", [1, 2, 3, 5])
def test_tiny_slides_have_latents(n_spots: int) -> None:
    counts = sparse.csr_matrix(np.arange(n_spots * 4).reshape(n_spots, 4), dtype=np.float32)
    centers = np.column_stack([np.arange(n_spots), np.zeros(n_spots)]) * 100.0
    embedding = fit_sasa(counts, centers, detect_lattice(centers, 55.0), config=QUICK)
    assert embedding.latent.shape == (n_spots, QUICK.latent)
    assert np.isfinite(embedding.latent).all()
    assert np.isfinite(embedding.denoise(counts)).all()


def test_large_slide_is_encoded_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, centers, _ = two_domains()
    lattice = detect_lattice(centers)
    at_once = fit_sasa(counts, centers, lattice, config=QUICK)
    monkeypatch.setattr("napari_srast.models.sasa.graph_vae._ENCODER_BATCH", 50)
    in_batches = fit_sasa(counts, centers, lattice, config=QUICK)
    np.testing.assert_allclose(in_batches.latent, at_once.latent, rtol=1e-3, atol=1e-4)


def test_large_slide_is_trained_on_parts_of_its_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, centers, domain = two_domains()
    sizes: list[int] = []
    encode = GraphVAE.encode

    def recorded(self: GraphVAE, x: torch.Tensor, *topologies: Topology) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(x))
        assert all(one.adjacency.shape == (len(x), len(x)) for one in topologies)
        return encode(self, x, *topologies)

    monkeypatch.setattr(GraphVAE, "encode", recorded)
    monkeypatch.setattr(fitting, "MAX_SASA_TRAINING_SPOTS", 128)
    embedding = fit_sasa(counts, centers, detect_lattice(centers), config=QUICK)
    assert max(sizes[:-1]) <= 128 / SASA_TRAINING_PARTS + 8  # spots of a step
    assert sizes[-1] == len(centers)
    latent = embedding.latent / np.linalg.norm(embedding.latent, axis=1, keepdims=True)
    similarity = latent @ latent.T
    same_domain = domain[:, None] == domain
    assert similarity[same_domain].mean() > similarity[~same_domain].mean() + 0.4


def test_graph_and_context_of_a_large_slide_share_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, centers, _ = two_domains()
    permutation = np.random.default_rng(1).permutation(len(centers))
    counts, centers = counts[permutation], centers[permutation]
    lattice = detect_lattice(centers)
    searches: list[int] = []
    search = neighbors.expression_neighbors

    def recorded(features: np.ndarray, n_nearest: int) -> np.ndarray:
        searches.append(features.shape[1])
        return search(features, n_nearest)

    for module in (embedding_module, denoising, neighbors):
        monkeypatch.setattr(module, "expression_neighbors", recorded)
    monkeypatch.setattr(fitting, "MAX_WHOLE_ROWS", len(centers) - 1)
    config = SasaConfig(epochs=20, n_components=12)
    embedding = fit_sasa(counts, centers, lattice, config=config)
    assert searches == [10, config.latent]
    context = embedding_module.spot_context(embedding.components, embedding.latent, centers / lattice.pitch)
    np.testing.assert_allclose(embedding.context.toarray(), context.toarray(), atol=1e-7)


def test_parts_cover_a_sample_and_are_spread_over_it() -> None:
    points = np.argwhere(np.ones((16, 20))).astype(float)
    parts = fitting._spread_parts(points)
    assert len(parts) == SASA_TRAINING_PARTS
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(points)))
    for part in parts:
        assert np.ptp(points[part, 1]) > 10


def test_fit_can_be_canceled() -> None:
    counts, centers, _ = two_domains()
    with pytest.raises(Cancelled):
        fit_sasa(counts, centers, detect_lattice(centers), config=QUICK, monitor=RunMonitor(should_stop=lambda: True))


def test_latent_norm_whitens_signal_and_shrinks_noise() -> None:
    rng = np.random.default_rng(0)
    strong, weak = 10 * rng.normal(size=500), 0.01 * rng.normal(size=500)
    normalized = latent_norm(np.column_stack([strong, weak]), np.full((500, 2), 0.1))
    variance = normalized.var(axis=0)
    assert variance.max() == pytest.approx(1.0, abs=0.02)
    assert variance.min() < 0.01
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-6)


def test_latent_norm_ignores_rotations() -> None:
    rng = np.random.default_rng(1)
    latent = rng.normal(size=(200, 4)) * [3, 2, 1, 0.5]
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    noise = np.full((200, 4), 0.2)
    plain, rotated = latent_norm(latent, noise), latent_norm(latent @ rotation, noise)
    np.testing.assert_allclose(plain @ plain.T, rotated @ rotated.T, atol=1e-4)
