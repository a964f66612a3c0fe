"""Test the alignment of embeddings: rotations are undone, slide order does not matter, bad input is rejected."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast.errors import InputError
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.embedding import SlideEmbedding
from napari_srast.models.sasa.procrustes import align_embeddings, procrustes_rotations

WIDTH, N_GENES = 4, 30


def random_rotation(seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((WIDTH, WIDTH)))[0]


def make_embedding(latent: np.ndarray, counts: sparse.csr_matrix) -> SlideEmbedding:
    n = len(latent)
    return SlideEmbedding(
        latent=latent,
        totals=np.asarray(counts.sum(axis=1), dtype=float).ravel(),
        components=latent,
        raw_latent=latent,
        context=sparse.identity(n, format="csr"),
        config=SasaConfig(latent=WIDTH),
    )


@pytest.fixture
def slides() -> tuple[list[np.ndarray], list[sparse.csr_matrix], list[np.ndarray]]:
    """Return latents and counts of three slides with the same loadings, and a random rotation of each."""
    rng = np.random.default_rng(0)
    loading = rng.standard_normal((WIDTH, N_GENES))
    latents = [rng.standard_normal((400, WIDTH)) for _ in range(3)]
    counts = [sparse.csr_matrix(rng.poisson(40 * np.exp(0.3 * z @ loading)), dtype=np.float32) for z in latents]
    return latents, counts, [random_rotation(s) for s in range(3)]


def test_rotated_slides_get_common_coordinates(slides: tuple) -> None:
    latents, counts, rotations = slides
    embeddings = [make_embedding(z @ r, c) for z, r, c in zip(latents, rotations, counts, strict=True)]
    genes = [[f"g{i}" for i in range(N_GENES)]] * 3
    aligned = align_embeddings(embeddings, counts, genes)
    # Common coordinates may differ from the true ones by one rotation for all slides.
    maps = [np.linalg.lstsq(z, a, rcond=None)[0] for z, a in zip(latents, aligned.latents, strict=True)]
    np.testing.assert_allclose(maps[0], maps[1], atol=0.1)
    np.testing.assert_allclose(maps[0], maps[2], atol=0.1)
    assert min(aligned.agreement) > 0.95
    for embedding, latent, rotation in zip(embeddings, aligned.latents, aligned.rotations, strict=True):
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(WIDTH), atol=1e-10)
        np.testing.assert_allclose(latent @ latent.T, embedding.latent @ embedding.latent.T, atol=1e-8)


def test_genes_are_matched_by_name(slides: tuple) -> None:
    latents, counts, rotations = slides
    embeddings = [make_embedding(z @ r, c) for z, r, c in zip(latents, rotations, counts, strict=True)]
    names = [f"g{i}" for i in range(N_GENES)]
    plain = align_embeddings(embeddings, counts, [names] * 3)
    order = np.random.default_rng(1).permutation(N_GENES)
    shuffled = [counts[0][:, order], *counts[1:]]
    again = align_embeddings(embeddings, shuffled, [[names[i] for i in order], names, names])
    assert plain.genes == again.genes
    np.testing.assert_allclose(plain.latents[0], again.latents[0], atol=1e-6)
    some = align_embeddings(embeddings, [counts[0][:, :10], *counts[1:]], [names[:10], names, names])
    assert some.genes == tuple(sorted(names[:10]))


def test_slide_order_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    loadings = [rng.standard_normal((WIDTH, N_GENES)) + 2 for _ in range(3)]
    forward = procrustes_rotations(loadings)
    backward = procrustes_rotations(loadings[::-1])[::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_unrelated_slides_have_low_agreement(slides: tuple) -> None:
    latents, counts, _ = slides
    rng = np.random.default_rng(5)
    names = [f"g{i}" for i in range(N_GENES)]
    unrelated = [counts[0], *(sparse.csr_matrix(c.toarray()[:, rng.permutation(N_GENES)]) for c in counts[1:])]
    embeddings = [make_embedding(z, c) for z, c in zip(latents, unrelated, strict=True)]
    assert max(align_embeddings(embeddings, unrelated, [names] * 3).agreement) < 0.8


def test_unalignable_slides_are_rejected(slides: tuple) -> None:
    latents, counts, _ = slides
    embeddings = [make_embedding(z, c) for z, c in zip(latents, counts, strict=True)]
    names = [f"g{i}" for i in range(N_GENES)]
    with pytest.raises(InputError, match="two slides"):
        align_embeddings(embeddings[:1], counts[:1], [names])
    with pytest.raises(InputError, match="share 0 genes"):
        align_embeddings(embeddings[:2], counts[:2], [names, [name.upper() for name in names]])
    narrow = make_embedding(latents[1][:, :2], counts[1])
    with pytest.raises(InputError, match="width"):
        align_embeddings([embeddings[0], narrow], counts[:2], [names, names])
