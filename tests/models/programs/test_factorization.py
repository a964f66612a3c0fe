"""Test the Poisson factorization: counts are conserved, planted programs are recovered."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import sparse

from napari_srast.models.programs.factorization import (
    ProgramFactorization,
    fit_activities,
    fit_programs,
    select_variable_genes,
)


def planted() -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return counts of 200 spots and 40 genes with three disjoint programs, and the activities."""
    rng = np.random.default_rng(0)
    activity = rng.dirichlet([0.3] * 3, size=200) * 400
    loading = np.zeros((3, 40))
    for p in range(3):
        loading[p, 13 * p : 13 * p + 13] = 1 / 13
    return sparse.csr_matrix(rng.poisson(activity @ loading), dtype=np.float32), activity


def test_planted_programs_are_recovered() -> None:
    counts, activity = planted()
    programs = fit_programs(counts, lambda spots: counts[spots].toarray(), n_programs=3)
    correlation = np.corrcoef(programs.attribute_counts(counts).T, activity.T)[:3, 3:]
    assert correlation.max(axis=0).min() > 0.95


def test_attributed_counts_sum_to_totals() -> None:
    counts, _ = planted()
    programs = fit_programs(counts, lambda spots: counts[spots].toarray(), n_programs=5)
    np.testing.assert_allclose(
        programs.attribute_counts(counts).sum(axis=1), np.asarray(counts.sum(axis=1)).ravel(), rtol=1e-6
    )


def test_counts_are_attributed_by_activity_and_loading() -> None:
    programs = ProgramFactorization(activity=np.ones((3, 2)), loading=np.array([[1.0, 0.0, 0.0], [3.0, 0.0, 1.0]]))
    np.testing.assert_allclose(
        programs.attribute_counts(sparse.csr_matrix(np.eye(3))), [[0.25, 0.75], [0.5, 0.5], [0.0, 1.0]]
    )


def test_fit_activities_recovers_true_activities() -> None:
    rng = np.random.default_rng(1)
    activity, loading = rng.dirichlet([0.5] * 3, size=50) * 1e4, rng.dirichlet([0.2] * 60, size=3)
    fitted = fit_activities(sparse.csr_matrix(activity @ loading), loading, n_iterations=200)
    np.testing.assert_allclose(fitted, activity, atol=60)


def test_large_slide_is_factorized_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, activity = planted()
    monkeypatch.setattr("napari_srast.models.programs.factorization._MAX_SPOTS", 80)
    programs = fit_programs(counts, lambda spots: counts[spots].toarray(), n_programs=3)
    correlation = np.corrcoef(programs.attribute_counts(counts).T, activity.T)[:3, 3:]
    assert correlation.max(axis=0).min() > 0.95


def test_early_stop_gives_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, _ = planted()
    monkeypatch.setattr("napari_srast.models.programs.factorization._MAX_ITERATIONS", 2)
    monkeypatch.setattr("napari_srast.models.programs.factorization._MAX_SPOTS", 80)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_programs(counts, lambda spots: counts[spots].toarray(), n_programs=3)


def test_variable_genes_exclude_empty_genes() -> None:
    counts, _ = planted()
    panel = select_variable_genes(counts, n_panel=39)
    assert 39 not in panel  # the gene without counts
    assert len(panel) == 39
