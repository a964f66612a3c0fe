"""Metrics match values that are computed by hand on small examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from napari_srast.evaluation.coverage import COVERAGES
from napari_srast.evaluation.metrics import fraction_better, gain_over, score_ratios
from napari_srast.geometry.blocks import square_blocks
from napari_srast.geometry.raster import Raster, make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap


def square(rows: int = 6, cols: int = 6, factor: int = 2) -> tuple[SpotPixelMap, Raster]:
    row, col = (a.ravel().astype(float) for a in np.mgrid[:rows, :cols])
    centers = np.column_stack([col, row])
    raster = make_raster(centers, factor=factor)
    return SpotPixelMap.of_raster(centers, raster), raster


def pair() -> SpotPixelMap:
    """One spot of two pixels."""
    return SpotPixelMap(
        spots=np.zeros((1, 2)), pixels=np.array([[-0.2, 0], [0.2, 0]]), parent=np.array([0, 0]), pitch=1.0
    )


def uniform(layout: SpotPixelMap, n_genes: int) -> np.ndarray:
    return np.repeat(1 / layout.n_pixels_per_spot[layout.parent][:, None], n_genes, axis=1)


def test_nats_match_hand_computation() -> None:
    truth, ratios = np.array([[3.0], [1.0]]), np.array([[0.75], [0.25]])
    smoothed = 0.999 * ratios + 0.0005
    expected = (3 * np.log(2 * smoothed[0, 0]) + np.log(2 * smoothed[1, 0])) / 4
    scores = score_ratios(sparse.csr_matrix(truth), ratios, pair())
    assert scores.nats_per_count == pytest.approx(expected)
    assert scores.gene_nats[0] == pytest.approx(expected)


def test_gain_splits_into_totals_and_composition() -> None:
    same = np.array([[3.0, 3.0], [1.0, 1.0]])
    scores = score_ratios(sparse.csr_matrix(same), same / 4, pair())
    assert scores.totals == pytest.approx(scores.nats_per_count)
    assert scores.composition == pytest.approx(0, abs=1e-12)
    apart = np.array([[3.0, 1.0], [1.0, 3.0]])
    scores = score_ratios(sparse.csr_matrix(apart), apart / 4, pair())
    assert scores.totals == pytest.approx(0, abs=1e-12)
    assert scores.composition == pytest.approx(scores.nats_per_count)
    assert scores.composition > 0.1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_uniform_scores_zero_and_truth_scores_most(seed: int) -> None:
    layout, raster = square()
    rng = np.random.default_rng(seed)
    truth = rng.poisson(3.0, (layout.n_pixels, 3)).astype(float)
    flat = score_ratios(sparse.csr_matrix(truth), uniform(layout, 3), layout, raster=raster)
    assert flat.nats_per_count == pytest.approx(0, abs=1e-12)
    assert flat.totals == pytest.approx(0, abs=1e-12)
    np.testing.assert_array_equal(flat.within_pcc, 0)
    best = score_ratios(sparse.csr_matrix(truth), layout.normalize(truth), layout, raster=raster)
    other = score_ratios(sparse.csr_matrix(truth), layout.normalize(rng.random((layout.n_pixels, 3))), layout)
    assert best.nats_per_count > max(0, other.nats_per_count)
    np.testing.assert_allclose(best.within_pcc, 1)
    np.testing.assert_allclose(best.pcc, 1)
    np.testing.assert_allclose(best.rmse, 0, atol=1e-9)
    np.testing.assert_allclose(best.ssim, 1)
    assert best.seam_ratio == pytest.approx(best.seam_ratio_truth)


def test_zero_prediction_has_a_finite_penalty() -> None:
    scores = score_ratios(sparse.csr_matrix([[1.0], [0.0]]), np.array([[0.0], [1.0]]), pair())
    assert scores.nats_per_count == pytest.approx(np.log(1e-3))


def test_totals_inflate_plain_pcc_only() -> None:
    layout, _ = square(8, 8)
    rng = np.random.default_rng(0)
    level = rng.gamma(1.0, 30.0, layout.n_spots)
    truth = rng.poisson(level[layout.parent])[:, None].astype(float)
    scores = score_ratios(sparse.csr_matrix(truth), layout.normalize(rng.random((layout.n_pixels, 1)) + 3), layout)
    assert scores.pcc[0] > 0.8
    assert abs(scores.within_pcc[0]) < 0.25


def test_inverted_map_has_negative_scores() -> None:
    scores = score_ratios(sparse.csr_matrix([[3.0], [1.0]]), np.array([[0.25], [0.75]]), pair())
    assert scores.within_pcc[0] == pytest.approx(-1)
    assert scores.nats_per_count < 0


def test_genes_without_counts_are_skipped() -> None:
    truth = sparse.csr_matrix([[3.0, 0], [1, 0]])
    scores = score_ratios(truth, np.array([[0.75, 0.5], [0.25, 0.5]]), pair())
    assert np.isnan(scores.gene_nats[1])
    assert np.isnan(scores.within_pcc[1])
    assert scores.within_spot_pcc == pytest.approx(1)


def test_depth_of_truth_does_not_change_scores() -> None:
    layout, raster = square()
    truth = sparse.csr_matrix(np.random.default_rng(0).poisson(4.0, (layout.n_pixels, 2)).astype(float))
    ratios = layout.normalize(np.random.default_rng(1).random((layout.n_pixels, 2)))
    once, thrice = (score_ratios(truth * k, ratios, layout, raster=raster) for k in (1, 3))
    assert once.nats_per_count == pytest.approx(thrice.nats_per_count)
    np.testing.assert_allclose(once.within_pcc, thrice.within_pcc)


def test_block_size_does_not_change_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, raster = square()
    truth = sparse.csr_matrix(np.random.default_rng(0).poisson(4.0, (layout.n_pixels, 7)).astype(float))
    ratios = layout.normalize(np.random.default_rng(1).random((layout.n_pixels, 7)))
    in_one_block = score_ratios(truth, ratios, layout, raster=raster).summary()
    monkeypatch.setattr("napari_srast.evaluation.metrics._BLOCK_ENTRIES", 2 * layout.n_pixels)
    block_sizes = []

    def predict(columns: np.ndarray) -> np.ndarray:
        block_sizes.append(len(columns))
        return ratios[:, columns]

    in_blocks = score_ratios(truth, predict, layout, raster=raster).summary()
    assert block_sizes == [2, 2, 2, 1]
    for name in in_one_block:
        assert in_blocks[name] == pytest.approx(in_one_block[name], abs=0.1 if "coverage" in name else 1e-9), name


def test_seam_ratio_of_plane_noise_and_blocks() -> None:
    layout, raster = square(5, 5)
    plane = 1 + layout.pixels[:, :1] + 2 * layout.pixels[:, 1:]
    scores = score_ratios(sparse.csr_matrix(plane), layout.normalize(plane), layout, raster=raster)
    assert scores.seam_ratio == pytest.approx(1)
    assert scores.seam_ratio_truth == pytest.approx(1)
    noise = np.random.default_rng(0).normal(scale=0.2, size=plane.shape)
    pair_of = np.hstack([plane + 3 + noise, plane + 3 - noise])  # the noise cancels in the sum
    scores = score_ratios(sparse.csr_matrix(pair_of), layout.normalize(pair_of), layout)
    assert scores.seam_ratio_totals == scores.seam_ratio_totals_truth == pytest.approx(1)
    assert scores.seam_ratio == pytest.approx(scores.seam_ratio_truth)
    assert scores.seam_ratio != pytest.approx(1, abs=1e-3)
    assert score_ratios(sparse.csr_matrix(plane), uniform(layout, 1), layout, raster=raster).seam_ratio == np.inf


def test_coverage_is_nominal_for_correct_ratios_only() -> None:
    layout, _ = square(20, 20)
    rng = np.random.default_rng(0)
    ratios = layout.normalize(rng.gamma(2.0, size=(layout.n_pixels, 5)))
    by_spot = np.argsort(layout.parent, kind="stable")
    truth = np.zeros_like(ratios)
    for gene in range(5):
        drawn = rng.multinomial(40, ratios[by_spot, gene].reshape(-1, 4).astype(float))
        truth[by_spot, gene] = drawn.ravel()
    calibrated = score_ratios(sparse.csr_matrix(truth), ratios, layout).coverage
    np.testing.assert_allclose(calibrated, COVERAGES, atol=0.02)
    assert score_ratios(sparse.csr_matrix(truth), uniform(layout, 5), layout).coverage[1] < 0.6


def test_seams_on_hexagons_use_touching_pixels() -> None:
    """Pixels of a coarsened slide are on no raster; each touches all of its six neighbors."""
    row, col = (a.ravel() for a in np.mgrid[:12, :12])
    pixels = np.column_stack([col + 0.5 * (row % 2), row * np.sqrt(0.75)])
    layout = SpotPixelMap(
        spots=np.column_stack([np.repeat(np.arange(6), 6), np.tile(np.arange(6), 6)]) * 2.0,
        pixels=pixels,
        parent=(row // 2) * 6 + col // 2,
        pitch=2.0,
    )
    inner = (row > 0) & (row < 11) & (col > 0) & (col < 11)
    assert (np.bincount(layout.adjacent_pixels.ravel())[inner] == 6).all()
    blocks = np.random.default_rng(0).random(36)[layout.parent][:, None]
    noisy = blocks + np.random.default_rng(1).random((144, 1))
    scores = score_ratios(sparse.csr_matrix(noisy), layout.normalize(noisy), layout)
    assert scores.seam_ratio == pytest.approx(scores.seam_ratio_truth)
    assert scores.seam_ratio > 1
    assert score_ratios(sparse.csr_matrix(blocks), uniform(layout, 1), layout).seam_ratio == np.inf


def overdispersed(concentration: float, n: int = 40) -> tuple[SpotPixelMap, np.ndarray, np.ndarray]:
    """Draw Dirichlet-multinomial counts of 400 spots with four pixels and five genes; return also the ratios."""
    layout, _ = square(20, 20)
    rng = np.random.default_rng(0)
    ratios = layout.normalize(rng.gamma(2.0, size=(layout.n_pixels, 5)))
    by_spot = np.argsort(layout.parent, kind="stable")
    truth = np.zeros_like(ratios)
    for gene in range(5):
        share = rng.gamma(concentration * ratios[by_spot, gene].reshape(-1, 4))
        share /= share.sum(axis=1, keepdims=True)
        truth[by_spot, gene] = rng.multinomial(n, share).ravel()
    return layout, truth, ratios


def test_overdispersed_counts_need_their_concentration() -> None:
    layout, truth, ratios = overdispersed(5.0)
    multinomial = score_ratios(sparse.csr_matrix(truth), ratios, layout)
    beta_binomial = score_ratios(
        sparse.csr_matrix(truth), ratios, layout, concentration=lambda n: np.full(n.shape, 5.0)
    )
    np.testing.assert_allclose(beta_binomial.coverage, COVERAGES, atol=0.02)
    assert beta_binomial.coverage == beta_binomial.coverage_high_count
    assert beta_binomial.spread_skill == pytest.approx(1, abs=0.05)
    assert multinomial.coverage[1] < 0.55
    assert multinomial.spread_skill < 0.5


def test_high_count_coverage_skips_low_counts() -> None:
    layout, truth, ratios = overdispersed(5.0)
    mixed = truth.copy()
    mixed[:, :3] = np.minimum(mixed[:, :3], 1)
    of_all = score_ratios(sparse.csr_matrix(mixed), ratios, layout)
    of_high_count = score_ratios(sparse.csr_matrix(mixed[:, 3:]), ratios[:, 3:], layout)
    np.testing.assert_allclose(of_all.coverage_high_count, of_high_count.coverage_high_count, atol=0.02)
    assert of_all.coverage[1] > of_all.coverage_high_count[1]


def test_mass_error_is_reported() -> None:
    layout = pair()
    scores = score_ratios(sparse.csr_matrix([[3.0], [1.0]]), np.array([[0.75], [0.26]]), layout)
    assert scores.mass_error == pytest.approx(0.01)


def test_strata_add_up_to_the_total() -> None:
    layout, _ = square(8, 8)
    depth = np.array([0.05, 0.2, 0.5, 2.0, 6.0, 30.0])
    truth = np.random.default_rng(0).poisson(depth / 4, (layout.n_pixels, 6)).astype(float)
    ratios = layout.normalize(np.random.default_rng(1).random((layout.n_pixels, 6)))
    scores = score_ratios(sparse.csr_matrix(truth), ratios, layout)
    strata = scores.strata()
    assert sum(s.n_genes for s in strata) == 6
    assert [s.low for s in strata] == sorted(s.low for s in strata)
    gain = [s.nats_per_count * truth.sum(axis=0)[i] for i, s in enumerate(strata)] if len(strata) == 6 else [np.nan]
    assert sum(gain) / truth.sum() == pytest.approx(scores.nats_per_count)


def test_comparison_with_a_baseline() -> None:
    layout, _ = square()
    truth = np.random.default_rng(0).poisson(5.0, (layout.n_pixels, 4)).astype(float)
    mixed = uniform(layout, 4)
    mixed[:, :3] = layout.normalize(truth)[:, :3]
    scores, flat = (score_ratios(sparse.csr_matrix(truth), r, layout) for r in (mixed, uniform(layout, 4)))
    assert fraction_better(scores, flat) == 0.75
    gained, error = gain_over(scores, flat)
    assert gained == pytest.approx(scores.nats_per_count)
    assert 0 < error < gained
    assert gain_over(flat, flat) == (0, 0)
    by_genes, error_of_genes = gain_over(scores, flat, over="genes")
    assert by_genes == pytest.approx(gained)
    assert error_of_genes > error  # one gene of four is not predicted


def test_error_over_blocks_allows_for_alike_neighbors() -> None:
    layout, _ = square(20, 20)
    block = square_blocks(layout.spots, 4 * layout.pitch)
    rng = np.random.default_rng(0)
    truth = rng.poisson(5.0, (layout.n_pixels, 1)).astype(float)
    good = np.isin(block, rng.permutation(block.max() + 1)[: block.max() // 2])[layout.parent]  # whole blocks
    ratios = np.where(good[:, None], layout.normalize(truth), uniform(layout, 1))
    scores, flat = (score_ratios(sparse.csr_matrix(truth), r, layout) for r in (ratios, uniform(layout, 1)))
    gained, error = gain_over(scores, flat)
    by_blocks, error_of_blocks = gain_over(scores, flat, over=block)
    assert by_blocks == pytest.approx(gained)
    assert error_of_blocks > 2 * error


def test_bootstrap_error_matches_error_of_a_mean() -> None:
    layout, _ = square(20, 20)
    rng = np.random.default_rng(0)
    truth = rng.multinomial(4, [0.4, 0.3, 0.2, 0.1], size=400)
    values = np.zeros((layout.n_pixels, 1))
    values[np.argsort(layout.parent, kind="stable"), 0] = truth.ravel()
    model = np.zeros((layout.n_pixels, 1))
    model[np.argsort(layout.parent, kind="stable"), 0] = np.tile([0.4, 0.3, 0.2, 0.1], 400)
    scores = score_ratios(sparse.csr_matrix(values), model, layout)
    per_spot = scores.spot_gain / scores.spot_counts
    assert scores.summary()["nats_per_count_se"] == pytest.approx(per_spot.std() / 20, rel=0.2)
