"""The graph VAE on a slide of two planted domains."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast._utils.devices import available_devices
from napari_srast.errors import Cancelled
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.fitting import fit_sasa, latent_norm

QUICK = SasaConfig(epochs=60, n_components=10)


def two_domains(seed: int = 0) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Return counts, centers and the domain of 12 x 12 spots: left and right halves express other genes."""
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
    monkeypatch.setattr("napari_srast.models.sasa.graph_vae._ENCODED", 50)
    in_parts = fit_sasa(counts, centers, lattice, config=QUICK)
    np.testing.assert_allclose(in_parts.latent, whole.latent, rtol=1e-3, atol=1e-4)


def test_stop_token_is_heard() -> None:
    counts, centers, _ = two_domains()
    with pytest.raises(Cancelled):
        fit_sasa(counts, centers, detect_lattice(centers), config=QUICK, should_stop=lambda: True)


def test_latent_norm_whitens_signal_and_shrinks_noise() -> None:
    rng = np.random.default_rng(0)
    strong, weak = 10 * rng.normal(size=500), 0.01 * rng.normal(size=500)
    normalized = latent_norm(np.column_stack([strong, weak]), np.full((500, 2), 0.1))
    variance = normalized.var(axis=0)
    assert variance.max() == pytest.approx(1.0, abs=0.02)
    assert variance.min() < 0.01
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-6)


def test_latent_norm_of_a_turned_latent_keeps_inner_products() -> None:
    rng = np.random.default_rng(1)
    latent = rng.normal(size=(200, 4)) * [3, 2, 1, 0.5]
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    noise = np.full((200, 4), 0.2)
    plain, turned = latent_norm(latent, noise), latent_norm(latent @ rotation, noise)
    np.testing.assert_allclose(plain @ plain.T, turned @ turned.T, atol=1e-4)
