"""Test what is fitted to a large slide: in blocks and from samples, with bounded memory and about the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from helpers.memory import traced_peak
from scipy import sparse

from napari_srast._utils import row_blocks as blocks_module
from napari_srast.models.programs import factorization, program_fields
from napari_srast.models.programs.factorization import select_variable_genes
from napari_srast.models.sasa import embedding as embedding_module
from napari_srast.models.sasa import fitting
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.embedding import SlideEmbedding, log_normalize

N_SPOTS, N_GENES, N_PROGRAMS = 600, 80, 3


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which 100 spots are a large slide, and blocks have 2,000 values."""

    def apply() -> None:
        monkeypatch.setattr(blocks_module, "MAX_WHOLE_ROWS", 100)
        monkeypatch.setattr(factorization, "MAX_WHOLE_ROWS", 100)
        monkeypatch.setattr(blocks_module, "_VALUES_PER_BLOCK", 2000)
        monkeypatch.setattr(factorization, "_MAX_TRANSPOSED", 3000)

    return apply


def _counts(n_spots: int = N_SPOTS, n_genes: int = N_GENES, depth: float = 150.0) -> sparse.csr_matrix:
    rng = np.random.default_rng(0)
    activity = rng.dirichlet([0.5] * N_PROGRAMS, n_spots)
    rates = depth * activity @ rng.dirichlet([0.3] * n_genes, N_PROGRAMS)
    return sparse.csr_matrix(rng.poisson(rates).astype(np.float32))


def _embedding(counts: sparse.csr_matrix) -> SlideEmbedding:
    totals = np.asarray(counts.sum(axis=1)).ravel().astype(np.float64)
    rng = np.random.default_rng(1)
    components = (counts @ rng.normal(size=(counts.shape[1], 6)) / 30).astype(np.float32)
    latent = rng.normal(size=(counts.shape[0], 4)).astype(np.float32)
    near = sparse.random(*[counts.shape[0]] * 2, 5 / counts.shape[0], random_state=2)
    near = near + sparse.eye_array(counts.shape[0])
    context = sparse.csr_matrix(sparse.diags_array(1 / np.asarray(near.sum(axis=1)).ravel()) @ near)
    return SlideEmbedding(
        latent=latent,
        totals=totals,
        components=components,
        raw_latent=latent,
        context=context,
        config=SasaConfig(),
    )


def test_denoiser_in_blocks_equals_the_whole(in_blocks: Callable[[], None]) -> None:
    counts = _counts()
    embedding = _embedding(counts)
    whole = embedding.fit_denoiser(counts)
    in_blocks()
    parts = embedding.fit_denoiser(counts)
    np.testing.assert_allclose(parts.coefficients, whole.coefficients, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(parts.field_scale, whole.field_scale, rtol=1e-7)


def test_features_of_neighbors_of_a_large_slide_take_half_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = _counts()
    whole = _embedding(counts).neighborhood_mean
    monkeypatch.setattr(embedding_module, "MAX_WHOLE_ROWS", 100)
    large = _embedding(counts).neighborhood_mean
    assert (whole.dtype, large.dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(large, whole, rtol=1e-4, atol=1e-5)


def test_components_and_panels_in_blocks_equal_the_whole(in_blocks: Callable[[], None]) -> None:
    counts = _counts()
    totals = np.asarray(counts.sum(axis=1)).ravel().astype(np.float64)
    config = SasaConfig(n_components=8, n_panel=40)
    components, panel = fitting._components(counts, totals, config)
    genes = select_variable_genes(counts, 20)
    in_blocks()
    of_parts, panel_of_parts = fitting._components(counts, totals, config)
    np.testing.assert_array_equal(panel_of_parts, panel)
    np.testing.assert_allclose(of_parts, components, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(select_variable_genes(counts, 20), genes)


def test_components_of_a_slide_in_one_block_come_from_a_part_of_its_spots(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = _counts()
    totals = np.asarray(counts.sum(axis=1)).ravel()
    of_all, _ = fitting._components(counts, totals, SasaConfig(n_panel=40, n_components=5))
    monkeypatch.setattr(fitting, "_MAX_PCA_SPOTS", N_SPOTS // 2)
    of_half, _ = fitting._components(counts, totals, SasaConfig(n_panel=40, n_components=5))
    assert of_half.shape == of_all.shape
    plane = of_all[:, : N_PROGRAMS - 1] - of_all[:, : N_PROGRAMS - 1].mean(axis=0)  # programs add up to 1
    leading = of_half[:, : N_PROGRAMS - 1] - of_half[:, : N_PROGRAMS - 1].mean(axis=0)
    unexplained = leading - plane @ np.linalg.lstsq(plane, leading, rcond=None)[0]
    assert unexplained.var() < 0.05 * leading.var()


def test_loadings_of_a_large_slide_explain_it_as_well(in_blocks: Callable[[], None]) -> None:
    counts = _counts()
    activity = np.random.default_rng(3).gamma(1.0, size=(N_SPOTS, N_PROGRAMS)) * 10

    def divergence() -> float:
        rates = activity @ factorization._fit_loadings(counts, activity)
        return float((rates - counts.multiply(np.log(np.maximum(rates, 1e-12)))).sum())

    whole = divergence()
    in_blocks()
    assert divergence() <= whole + 1e-3 * abs(whole)


def test_gene_that_the_sample_lacks_gets_its_loadings(in_blocks: Callable[[], None]) -> None:
    in_blocks()
    counts = _counts().tolil()
    sample = blocks_module.spread_sample(N_SPOTS, 100)
    counts[:, 7] = 0
    others = np.setdiff1d(np.arange(N_SPOTS), sample)[:50]
    counts[others, 7] = 3
    activity = np.full((N_SPOTS, N_PROGRAMS), 0.1)
    activity[others, 1] = 10.0
    loading = factorization._fit_loadings(counts.tocsr(), activity)
    assert loading[1, 7] > 5 * max(loading[0, 7], loading[2, 7]) > 0


def test_programs_of_a_large_slide_keep_every_count(in_blocks: Callable[[], None]) -> None:
    in_blocks()
    counts = _counts()
    fields = program_fields.fit_program_fields(counts, _embedding(counts))
    np.testing.assert_allclose(fields.fields[:, -1], np.asarray(counts.sum(axis=1)).ravel(), rtol=1e-5)
    assert fields.programs.loading.shape == (fields.programs.n_programs, N_GENES)


def test_log_normalized_counts_share_the_indices_of_the_counts() -> None:
    counts = _counts(n_spots=3000, n_genes=200)
    totals = np.asarray(counts.sum(axis=1)).ravel().astype(np.float64)
    counts.sum_duplicates()
    with traced_peak() as peak:
        logged = log_normalize(counts, totals, 100.0)
    assert peak.n_bytes < 9 * counts.nnz + 1e5  # bytes: one double for each count
    expected = np.log1p(counts.toarray().astype(np.float64) / totals[:, None] * 100.0)
    np.testing.assert_allclose(logged.toarray(), expected, rtol=1e-12)


def test_counts_with_repeated_entries_are_not_changed() -> None:
    repeated = sparse.csr_matrix((np.ones(3, np.float32), [1, 0, 0], [0, 3]), shape=(1, 2))
    logged = log_normalize(repeated, np.array([3.0]), 3.0)
    np.testing.assert_allclose(logged.toarray(), np.log1p([[2.0, 1.0]]))
    assert repeated.nnz == 3


def test_memory_of_a_fit_does_not_grow_with_spots_times_genes(
    in_blocks: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_blocks()
    monkeypatch.setattr(blocks_module, "_VALUES_PER_BLOCK", 50_000)
    counts = _counts(n_spots=4000, n_genes=400, depth=60)
    embedding = _embedding(counts)
    assert len(embedding.neighborhood_mean) == 4000  # cached before
    panel = counts[:, :300]
    with traced_peak() as peak:
        embedding.fit_denoiser(panel)
    dense = 8 * panel.shape[0] * panel.shape[1]
    assert peak.n_bytes < dense / 3
    totals = embedding.totals
    with traced_peak() as peak:
        fitting._components(counts, totals, SasaConfig(n_components=8, n_panel=50))
    assert peak.n_bytes < 20 * counts.nnz
