"""The summary gives every study the same weight and chooses the best baseline of each pseudo-slide."""

from __future__ import annotations

import pytest
from helpers.score_rows import make_row

from napari_srast.training.score_report import mean_of_studies, summarize

ROWS = [
    make_row("a", "one", default=0.06, gp=0.02, bilinear=0.01),
    make_row("a", "two", default=0.02, gp=0.02, bilinear=0.03, error=0.02),
    make_row("b", "three", default=0.01, gp=0.005, bilinear=0.02),
]


def test_summary_matches_hand_computation() -> None:
    summary = summarize(ROWS)
    nats = summary["nats_per_count"]
    assert (summary["n_cases"], summary["n_studies"]) == (3, 2)
    assert nats["default"] == pytest.approx((0.04 + 0.01) / 2)
    assert nats["best_of_each_case"] == pytest.approx((0.025 + 0.02) / 2)
    assert nats["ratio_to_best_of_each_case"] == pytest.approx(0.025 / 0.0225)
    assert nats["best_single_baseline"] == "bilinear"
    assert nats["ratio_to_best_single"] == pytest.approx(0.025 / 0.02)
    assert summary["cases_below"] == 2
    assert summary["cases_behind"] == 1  # the other is within two standard errors
    assert summary["coverage_80_calibrated_deep"] == pytest.approx(0.79)
    assert summary["seam_ratio_to_truth_mean"] == pytest.approx(4)
    assert summary["seam_ratio_to_truth_draw"] == pytest.approx(1.1)
    assert summary["seam_ratio_to_truth_totals_mean"] == pytest.approx(1.5)


def test_losses_are_corrected_for_the_number_of_cases() -> None:
    rows = [make_row("a", str(i), default=0.02, gp=0.022, bilinear=0.0) for i in range(20)]  # two errors below gp
    assert summarize(rows[:1])["losses"]["gp"] == {"below": 1, "significant": 1}
    assert summarize(rows)["losses"]["gp"] == {"below": 20, "significant": 0}
    rows[0]["against"]["gp"]["margin"] = -0.005
    assert summarize(rows)["losses"] == {
        "gp": {"below": 20, "significant": 1},
        "uniform": {"below": 0, "significant": 0},
    }


def test_studies_without_a_value_are_skipped() -> None:
    assert mean_of_studies(ROWS, [1.0, None, None]) == 1.0
    assert mean_of_studies(ROWS, [1.0, 3.0, 4.0]) == 3.0
