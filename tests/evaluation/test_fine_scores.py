"""Scores of maps on a held-out half, for maps whose scores are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from napari_srast.evaluation.fine_scores import HeldOutTruth, Maps, score_maps
from napari_srast.geometry.raster import make_raster

N_GENES = 12


@pytest.fixture(scope="module")
def rates() -> np.ndarray:
    """Expected counts of pixels, smooth and different for each gene, shape (Q, G)."""
    raster = _raster()
    x, y = (raster.centers / 300.0).T
    phase = np.linspace(0, 3, N_GENES)
    return 20 * np.exp(np.sin(x[:, None] + phase) + np.cos(1.5 * y[:, None] - phase))


def _raster():
    return make_raster(100.0 * np.argwhere(np.ones((8, 8))), factor=3, spot_diameter=100.0, spot_shape="square")


@pytest.fixture(scope="module")
def truth(rates: np.ndarray) -> HeldOutTruth:
    rng = np.random.default_rng(0)
    first, second = (sparse.csc_matrix(rng.poisson(rates).astype(float)) for _ in range(2))
    return HeldOutTruth(
        raster=_raster(),
        counts=first,
        other_half=second,
        measured_fraction=1.0,
        is_whole=True,
        has_bins=np.ones(len(rates), dtype=bool),
    )


@pytest.fixture(scope="module")
def spot_counts(truth: HeldOutTruth) -> sparse.csr_matrix:
    return sparse.csr_matrix(truth.raster.membership @ truth.other_half)


def test_uniform_map_gains_nothing(truth: HeldOutTruth, spot_counts: sparse.csr_matrix) -> None:
    uniform = spot_counts.toarray()[truth.raster.parent] / 9
    scores = score_maps(Maps(counts=uniform), truth, spot_counts)
    assert scores.nats_per_count == pytest.approx(0, abs=1e-9)
    assert scores.totals == pytest.approx(0, abs=1e-9)
    assert scores.seam_ratio == np.inf
    assert np.isnan([scores.stated_skill, scores.slide_nats_expression, scores.coverage_80]).all()


def test_true_rates_are_better_than_a_noisy_half(
    truth: HeldOutTruth, spot_counts: sparse.csr_matrix, rates: np.ndarray
) -> None:
    perfect = score_maps(Maps(counts=rates), truth, spot_counts)
    noisy = score_maps(Maps(counts=truth.other_half), truth, spot_counts)
    assert perfect.nats_per_count > max(noisy.nats_per_count, 0)
    assert perfect.nats_per_count == pytest.approx(perfect.totals + perfect.composition)
    assert perfect.genes_below_uniform == 0
    assert 0.8 < perfect.seam_ratio < 1.2
    summary = truth.summary()
    assert np.mean(perfect.gene_pcc) == pytest.approx(summary["pcc_ceiling"], abs=0.05)
    assert np.mean(perfect.gene_pcc_scaled) > np.mean(noisy.gene_pcc_scaled) > 0
    assert perfect.summary()["ssim"] > summary["ssim_other_half"]


def test_skill_is_compared_over_genes_that_state_one(truth: HeldOutTruth, spot_counts: sparse.csr_matrix) -> None:
    maps = Maps(counts=truth.other_half)
    achieved = score_maps(maps, truth, spot_counts).gene_nats
    scores = score_maps(replace(maps, skill=2 * achieved), truth, spot_counts)
    assert scores.stated_skill == pytest.approx(2 * scores.achieved_skill)
    assert scores.skill_rank == pytest.approx(1)
    few = np.full(N_GENES, np.nan)
    few[:9] = achieved[:9]
    assert np.isnan(score_maps(replace(maps, skill=few), truth, spot_counts).skill_rank)


def test_expression_is_scored_for_the_genes_that_have_it(
    truth: HeldOutTruth, spot_counts: sparse.csr_matrix, rates: np.ndarray
) -> None:
    columns = np.array([1, 4])
    expression = np.zeros_like(rates)
    expression[:, columns] = rates[:, columns]
    maps = Maps(counts=truth.other_half, expression=expression, expression_columns=columns)
    scores = score_maps(maps, truth, spot_counts)
    for values in (scores.gene_pcc_expression, scores.gene_pcc_scaled_expression):
        assert np.flatnonzero(np.isfinite(values)).tolist() == [1, 4]
    assert scores.slide_nats_expression > 0


@pytest.mark.parametrize(("relative_std", "covered"), [(0.0, 0.8), (0.02, 0.8), (0.5, 0.99)])
def test_coverage_grows_with_the_stated_deviation(
    truth: HeldOutTruth, spot_counts: sparse.csr_matrix, rates: np.ndarray, relative_std: float, covered: float
) -> None:
    """The rates are the true ones, so that 80 % intervals without a deviation cover as stated."""
    maps = Maps(counts=rates, expression=rates, expression_std=relative_std * rates)
    assert score_maps(maps, truth, spot_counts).coverage_80 == pytest.approx(covered, abs=0.03)


def test_blocks_of_genes_change_no_score(
    truth: HeldOutTruth, spot_counts: sparse.csr_matrix, rates: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = Maps(counts=rates, expression=rates)
    whole = score_maps(maps, truth, spot_counts)
    monkeypatch.setattr("napari_srast.evaluation.fine_scores._BLOCK_ENTRIES", 5 * len(rates))
    parts = score_maps(maps, truth, spot_counts)
    np.testing.assert_allclose(list(parts.summary().values()), list(whole.summary().values()), rtol=1e-9)
