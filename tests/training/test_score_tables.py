"""Tables give every study the same weight, and contain every row."""

from __future__ import annotations

import pytest
from helpers.score_rows import make_row

from napari_srast.evaluation.protocol import BASELINES
from napari_srast.training.score_report import DEFAULT, INTENSITY, POOL, summarize
from napari_srast.training.score_tables import (
    average_table,
    border_table,
    case_table,
    method_table,
    part_table,
    program_table,
    skill_table,
    study_table,
)

ROWS = [
    make_row("a", "one", default=0.06, gp=0.02, bilinear=0.01),
    make_row("a", "two", default=0.02, gp=0.02, bilinear=0.03, error=0.02),
    make_row("b", "three", default=0.01, gp=0.005, bilinear=0.02),
]


def test_average_table_matches_hand_computation() -> None:
    rows = [
        *ROWS,
        make_row("b", "three", default=0.03, gp=0.025, bilinear=0.02),
    ]  # another pseudo-slide of the same slide
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in average_table(rows).splitlines()[2:]]
    assert [line[:5] for line in lines] == [
        ["studies", "2", "0.0300", "bilinear 0.0200", "1.50 times"],
        ["slides", "3", "0.0333", "bilinear 0.0200", "1.67 times"],
        ["cases", "4", "0.0300", "bilinear 0.0200", "1.50 times"],
    ]


def test_part_table_compares_with_the_best_baseline_and_with_that_of_the_part() -> None:
    rows = [
        make_row("a", "one", default=0.06, gp=0.02, bilinear=0.01),
        make_row("b", "two", default=0.02, gp=0.02, bilinear=0.01),
    ]
    composition = {DEFAULT: 0.03, "gp": 0.01, "bilinear": 0.02}
    for one in rows:
        for method, value in composition.items():
            one["methods"][method]["composition"] = value
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part_table(rows).splitlines()[2:]]
    assert cells == [
        ["totals", "0.0400", "0.0200", "2.00 times", "gp 0.0200", "2.00 times"],
        ["composition", "0.0300", "0.0100", "3.00 times", "bilinear 0.0200", "1.50 times"],
    ]
    of_composition = summarize(rows)["composition"]
    assert of_composition["overall_baseline"] == "gp"
    assert of_composition["ratio_to_best_single"] == pytest.approx(1.5)


def test_border_table_scores_the_interior_separately() -> None:
    without_interior = {**make_row("a", "three", default=9.0, gp=0.01, bilinear=0.0)}
    without_interior["interior"] = {"n_spots": 0, "methods": None}
    rows = [*ROWS, without_interior]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in border_table(rows).splitlines()[2:]]
    assert [line[:3] for line in lines[::4]] == [
        ["all", "4", "nats per count"],
        ["away from the border", "3", "nats per count"],
    ]
    assert lines[4][3:] == ["0.0125", "0.0125", "0.0125", "bilinear 0.0100", "1.25 times"]
    interior = summarize(rows)["interior"]
    assert interior["n_cases"] == 3
    assert interior["nats_per_count"]["ratio"] == pytest.approx(1.25)
    assert interior["nats_per_count"]["best_single_baseline"] == "bilinear"


def test_tables_contain_all_rows() -> None:
    by_study, by_method, by_case = study_table(ROWS), method_table(ROWS), case_table(ROWS)
    for table in (by_study, by_method, by_case):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert f"| a | 2 |{' 0.0400 / 0.040 |' * 3} 0.0250 / 0.025 |" in by_study
    assert "**0.0250 / 0.025**" in by_study
    order = [line.split("|")[1].strip(" *") for line in by_method.splitlines()[2:]]
    assert order[:5] == [DEFAULT, POOL, INTENSITY, "bilinear", "gp"]
    assert len(order) == 3 + len(BASELINES)
    assert "| two | square | 0.0200 | bilinear 0.0300 | -0.0100 ± 0.0200 |" in by_case


def test_program_table_contains_large_panels_only() -> None:
    scores = {
        "nats_per_count": 0.03,
        "nats_per_gene": 0.02,
        "within_spot_pcc": 0.2,
        "change": -0.01,
        "change_se": 0.002,
    }
    lines = program_table([{**ROWS[0], "shared": scores}, *ROWS[1:]]).splitlines()
    assert len(lines) == 4
    cells = "0.0600 / 0.0600 / 0.060 | 0.0300 / 0.0200 / 0.200 | 0.0200 / 0.0200 / 0.020 | -0.0100 ± 0.0020 |"
    assert lines[2] == f"| a | 1 | {cells}"
    assert lines[3] == f"| **mean of studies** | 1 | {cells}"


def test_skill_table_counts_cases_in_which_stated_and_achieved_agree() -> None:
    rows = [
        {**ROWS[0], "n_spots": 200, "stated": 0.077},  # 0.06: within 30 %
        {**ROWS[1], "n_spots": 200, "stated": 0.027},  # 0.02: above 30 % and 0.005
        {**ROWS[2], "n_spots": 119, "stated": 0.0148},  # 0.01: too few spots
    ]
    for row, stated in zip(rows, (0.02, 0.0148, 1.0), strict=True):  # 0.03: too low; 0.01: within 0.005
        row["interior"] = {**row["interior"], "stated": stated}
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in skill_table(rows).splitlines()[2:]]
    expected = ["2", "0.0520", "0.0400", "1", "1", "2", "0.0174", "0.0200", "1", "0"]
    assert cells == [["a", *expected], ["**mean of studies**", *expected]]
    stated = summarize(rows)["stated"]
    assert [stated[name]["n_cases"] for name in ("enough_spots", "interior", "few_spots")] == [2, 2, 1]
