"""Tests of sampled counts: distribution, sums, and independence of what else is sampled in the call."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import comb, gammaln

from napari_srast.calibration import count_sampling
from napari_srast.calibration.count_sampling import SampleKeys, sample_counts
from napari_srast.geometry.spot_pixel_map import SpotPixelMap


def squares(n_spots: int, n_pixels: int = 4) -> SpotPixelMap:
    """Return spots with ``n_pixels`` pixels each, all at the origin."""
    parent = np.repeat(np.arange(n_spots), n_pixels)
    return SpotPixelMap(spots=np.zeros((n_spots, 2)), pixels=np.zeros((len(parent), 2)), parent=parent, pitch=1.0)


def ragged(seed: int = 0) -> SpotPixelMap:
    """Return 200 spots with 0 to 7 pixels each, in random order."""
    rng = np.random.default_rng(seed)
    parent = rng.permutation(np.repeat(np.arange(200), rng.integers(0, 8, 200)))
    return SpotPixelMap(spots=np.zeros((200, 2)), pixels=np.zeros((len(parent), 2)), parent=parent, pitch=1.0)


@pytest.mark.parametrize("a", [None, 0.4, 30.0])
def test_samples_are_integers_with_the_sums_of_the_spots(a: float | None) -> None:
    layout, rng = ragged(), np.random.default_rng(1)
    ratios = rng.random((layout.n_pixels, 6)) ** 4
    counts = rng.poisson([0.2, 3, 20, 30, 300, 1e5], (200, 6)).astype(float)
    concentration = None if a is None else np.full(counts.shape, a)
    sampled = sample_counts(ratios, counts, layout, 1, concentration=concentration).toarray()
    np.testing.assert_array_equal(sampled, np.rint(sampled))
    assert sampled.min() >= 0
    np.testing.assert_array_equal(layout.membership @ sampled, counts * (layout.n_pixels_per_spot > 0)[:, None])


@pytest.mark.parametrize("n", [3, count_sampling._MAX_URN_COUNTS, count_sampling._MAX_URN_COUNTS + 1, 400])
@pytest.mark.parametrize("a", [None, 0.5, 6.0, 500.0])
def test_samples_have_the_moments_of_the_distribution(n: int, a: float | None) -> None:
    ratio, n_spots = np.array([0.1, 0.0, 0.6, 0.3]), 40_000
    concentration = None if a is None else np.full((n_spots, 1), a)
    counts = np.full((n_spots, 1), float(n))
    sampled = sample_counts(np.tile(ratio, n_spots)[:, None], counts, squares(n_spots), 5, concentration=concentration)
    by_spot = sampled.toarray().reshape(n_spots, 4)
    variance = n * ratio * (1 - ratio) * (1 if a is None else (n + a) / (1 + a))
    assert not by_spot[:, 1].any()  # no share, no counts
    error = np.sqrt(variance / n_spots)
    assert (np.abs(by_spot.mean(axis=0) - n * ratio) <= 4 * error).all()
    np.testing.assert_allclose(by_spot.var(axis=0), variance, rtol=0.06)


@pytest.mark.parametrize("max_urn_counts", [0, 24], ids=["quantiles", "urn"])
@pytest.mark.parametrize("a", [None, 0.5, 3.0])
def test_outcomes_have_their_probabilities(
    monkeypatch: pytest.MonkeyPatch, max_urn_counts: int, a: float | None
) -> None:
    monkeypatch.setattr(count_sampling, "_MAX_URN_COUNTS", max_urn_counts)
    n, ratio, n_spots = 4, np.array([0.5, 0.2, 0.3]), 60_000
    concentration = None if a is None else np.full((n_spots, 1), a)
    counts = np.full((n_spots, 1), float(n))
    sampled = sample_counts(
        np.tile(ratio, n_spots)[:, None], counts, squares(n_spots, 3), 2, concentration=concentration
    )
    outcome_of_spot = sampled.toarray().reshape(n_spots, 3).astype(int)
    outcomes = [(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]

    def probability(y: tuple[int, ...]) -> float:
        ways = comb(n, y[0]) * comb(n - y[0], y[1])
        if a is None:
            return float(ways * np.prod(ratio ** np.array(y)))
        alpha = a * ratio
        terms = (gammaln(np.array(y) + alpha) - gammaln(alpha)).sum() - gammaln(n + a) + gammaln(a)
        return float(ways * np.exp(terms))

    observed = [int((outcome_of_spot == outcome).all(axis=1).sum()) for outcome in outcomes]
    expected = np.array([probability(outcome) for outcome in outcomes]) * n_spots
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("a", [None, 5.0])
def test_samples_do_not_depend_on_other_genes_and_spots(a: float | None) -> None:
    layout, rng = ragged(), np.random.default_rng(3)
    genes = np.array([f"G{i}" for i in range(9)])
    ratios, counts = rng.random((layout.n_pixels, 9)), rng.poisson(30, (200, 9)).astype(float)

    def sampled(spots: np.ndarray, columns: np.ndarray) -> np.ndarray:
        kept = np.isin(layout.parent, spots)
        part = SpotPixelMap(
            spots=layout.spots[spots],
            pixels=layout.pixels[kept],
            parent=np.searchsorted(spots, layout.parent[kept]),
            pitch=1.0,
        )
        part_counts = counts[spots][:, columns]
        keys = SampleKeys.of(genes[columns], spots)
        concentrations = None if a is None else np.full(part_counts.shape, a)
        return sample_counts(
            ratios[kept][:, columns], part_counts, part, 7, keys=keys, concentration=concentrations
        ).toarray()

    whole = sampled(np.arange(200), np.arange(9))
    some, few = np.arange(20, 90), np.array([7, 2, 4])
    np.testing.assert_array_equal(sampled(some, few), whole[np.isin(layout.parent, some)][:, few])


def test_genes_spots_and_seeds_are_independent() -> None:
    layout = squares(2000)
    ratios, counts = np.full((8000, 2), 0.25), np.full((2000, 2), 7.0)
    one, other = (sample_counts(ratios, counts, layout, seed).toarray() for seed in (0, 1))
    for a, b in ((one[:, 0], one[:, 1]), (one[:, 0], other[:, 0]), (one[:-4, 0], one[4:, 0])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.04


def test_batch_size_changes_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, rng = ragged(), np.random.default_rng(4)
    ratios, counts = rng.random((layout.n_pixels, 5)), rng.poisson([1, 5, 20, 40, 90], (200, 5)).astype(float)
    concentrations = np.full(counts.shape, 2.0)
    whole = sample_counts(ratios, counts, layout, 0, concentration=concentrations)
    monkeypatch.setattr(count_sampling, "_MAX_BATCH", 100)
    assert (sample_counts(ratios, counts, layout, 0, concentration=concentrations) != whole).nnz == 0


@pytest.mark.filterwarnings("error")
def test_extreme_ratios_and_counts_are_sampled() -> None:
    layout = squares(300, 5)
    share = np.array([0.0, 1e-300, 1e-20, 1e-9, 1.0])
    ratios = np.tile(np.random.default_rng(0).permuted(np.tile(share, (300, 1)), axis=1).ravel()[:, None], (1, 4))
    ratios[:5] = 0.0  # a uniform split
    counts = np.tile([1.0, 25.0, 5000.0, 2.0**24], (300, 1))
    for a in (None, np.exp(-1.0), np.exp(8.0)):
        concentrations = None if a is None else np.full(counts.shape, a)
        sampled = sample_counts(ratios, counts, layout, 0, concentration=concentrations).toarray()
        np.testing.assert_array_equal(layout.membership @ sampled, counts)
        assert sampled.min() >= 0
        assert not sampled[5:][ratios[5:] == 0].any()
    assert sample_counts(ratios, 0 * counts, layout, 0).nnz == 0
    assert sample_counts(ratios[:, :0], counts[:, :0], layout, 0).shape == (1500, 0)
