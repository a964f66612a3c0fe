"""Tests of denoised counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast.interpolation import Denoiser, denoise


def tissue(seed: int = 0) -> tuple[np.ndarray, np.ndarray, sparse.csr_matrix]:
    """Return spots (400, 2), their expected counts (400, 150), and Poisson counts."""
    rng = np.random.default_rng(seed)
    spots = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2)
    domain = np.sin(spots[:, 0] / 4) + np.cos(spots[:, 1] / 5)
    programs = np.column_stack([np.exp(domain), np.exp(-domain), np.ones(400)])
    truth = programs @ rng.gamma(1.0, 0.4, size=(3, 150))
    return spots, truth, sparse.csr_matrix(rng.poisson(truth).astype(np.float32))


def test_denoising_reduces_the_error() -> None:
    spots, truth, counts = tissue()
    denoised = denoise(counts, spots, 1.0)
    raw_error = np.mean((counts.toarray() - truth) ** 2)
    assert np.mean((denoised - truth) ** 2) < 0.3 * raw_error


def test_gene_totals_and_size_factors_are_kept() -> None:
    spots, _, counts = tissue()
    denoised = denoise(counts, spots, 1.0)
    np.testing.assert_allclose(denoised.sum(axis=0), np.asarray(counts.sum(axis=0)).ravel(), rtol=1e-4)
    spot_totals = np.asarray(counts.sum(axis=1)).ravel()
    np.testing.assert_allclose(denoised.sum(axis=1), spot_totals, rtol=0.25)


def test_selected_columns_equal_those_of_all_genes() -> None:
    spots, _, counts = tissue()
    denoiser = Denoiser(counts, spots, 1.0)
    np.testing.assert_allclose(denoiser.fields(np.array([7, 3])), denoiser.fields()[:, [7, 3]], rtol=1e-5)


def test_denoising_is_deterministic() -> None:
    spots, _, counts = tissue()
    assert denoise(counts, spots, 1.0).tobytes() == denoise(counts, spots, 1.0).tobytes()


@pytest.mark.parametrize(("n_spots", "n_genes"), [(1, 1), (1, 5), (2, 3), (6, 1)])
def test_small_tables_and_empty_spots_are_denoised(n_spots: int, n_genes: int) -> None:
    counts = np.random.default_rng(0).poisson(4.0, (n_spots, n_genes))
    counts[0] = 0
    denoised = denoise(sparse.csr_matrix(counts), np.arange(2.0 * n_spots).reshape(n_spots, 2), 1.0)
    assert np.isfinite(denoised).all()
    assert (denoised >= 0).all()
    assert (denoised[0] == 0).all()
