"""Held-out scores match closed forms: known ratios, zeros, totals against composition, mixtures with a flat map."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.evaluation.held_out import PROPORTIONS, cell_gain, fraction_below, slide_gain, split, totals_nats

PARENT = np.array([0, 0, 1, 1, 1])


def test_split_sums_to_one_and_is_uniform_without_counts() -> None:
    ratios = split(np.array([[3.0, 0], [1, 0], [2, 5], [2, 0], [4, 5]]), PARENT)
    np.testing.assert_allclose(ratios[:, 0], [0.75, 0.25, 0.25, 0.25, 0.5])
    np.testing.assert_allclose(ratios[:, 1], [0.5, 0.5, 0.5, 0, 0.5])


def test_cell_gain_is_counts_times_log_of_ratio_over_uniform() -> None:
    truth = np.array([[3.0], [1], [0], [0], [2]])
    ratios = np.array([[0.75], [0.25], [0.2], [0.2], [0.6]])
    expected = 3 * np.log(1.5) + np.log(0.5) + 2 * np.log(1.8)
    assert cell_gain(ratios, truth, PARENT)[0] == pytest.approx(expected)


def test_zero_ratio_costs_the_log_of_a_thousandth_per_count() -> None:
    gain = cell_gain(np.array([[0.0], [1]]), np.array([[4.0], [0]]), np.array([0, 0]))
    assert gain[0] == pytest.approx(4 * np.log(1e-3))


def test_totals_are_zero_for_opposite_genes_and_all_of_the_gain_for_equal_ones() -> None:
    parent = np.array([0, 0])
    opposite = np.array([[0.75, 0.25], [0.25, 0.75]])
    share = np.array([0.5, 0.5])
    assert totals_nats(opposite @ share, np.array([4.0, 4]), parent) == pytest.approx(0)
    equal = np.array([[0.75, 0.75], [0.25, 0.25]])
    truth = np.array([[3.0, 3], [1, 1]])
    nats = cell_gain(equal, truth, parent).sum() / truth.sum()
    assert totals_nats(equal @ share, truth.sum(axis=1), parent) == pytest.approx(nats)
    assert np.isnan(totals_nats(equal @ share, np.zeros(2), parent))


def test_only_genes_with_enough_counts_are_called_below_the_uniform_split() -> None:
    assert fraction_below(np.array([-1.0, 2, -9, 0]), np.array([100.0, 500, 99, 100])) == pytest.approx(1 / 3)
    assert np.isnan(fraction_below(np.array([-1.0]), np.array([99.0])))


def test_slide_gain_of_flat_and_of_perfect_maps() -> None:
    truth = np.array([[4.0], [0], [0], [0]])
    np.testing.assert_allclose(slide_gain(np.full((4, 1), 7.0), truth), 0, atol=1e-12)
    expected = [4 * np.log(4 * (1 - e) + e) for e in PROPORTIONS]
    np.testing.assert_allclose(slide_gain(np.array([[2.0], [0], [0], [0]]), truth), expected)
    np.testing.assert_allclose(slide_gain(truth * 100, truth), slide_gain(truth, truth))  # in any unit
    wrong = slide_gain(np.array([[0.0], [1], [0], [0]]), truth)
    np.testing.assert_allclose(wrong, 4 * np.log(PROPORTIONS))
