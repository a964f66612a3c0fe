"""Summary and tables give every study the same weight and choose the best baseline of each pseudo-slide."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_srast.errors import OutputError
from napari_srast.evaluation.protocol import BASELINES
from napari_srast.training.score_report import (
    DEFAULT,
    average_table,
    case_table,
    mean_of_studies,
    method_table,
    part_table,
    program_table,
    study_table,
    summarize,
    write_score_plots,
)

KINDS = (
    "nats_per_count",
    "totals",
    "composition",
    "nats_per_gene",
    "within_spot_pcc",
    "within_spot_pcc_weighted",
)


def row(study: str, name: str, default: float, gp: float, bilinear: float, error: float = 0.001) -> dict:
    nats = {DEFAULT: default, "gp": gp, "bilinear": bilinear}
    methods = {m: {kind: nats.get(m, 0.0) for kind in KINDS} for m in (DEFAULT, *BASELINES)}
    best = max(BASELINES, key=lambda m: methods[m]["nats_per_count"])
    covered = {"multinomial": {"all": [0.3, 0.6, 0.8], "deep": [0.2, 0.4, 0.6]}}
    return {
        "study": study,
        "name": name,
        "case": "square",
        "methods": methods,
        "best_baseline": best,
        "best_baseline_pcc": best,
        "margin": default - methods[best]["nats_per_count"],
        "margin_se_spots": error,
        "margin_se_genes": None,
        "fraction_better": 0.75,
        "coverage": covered | {"calibrated": {"all": [0.5, 0.81, 0.95], "deep": [0.5, 0.79, None]}},
        "spread_skill": 1.1,
        "level_step": -0.5,
        "seam": {
            "truth": 1.1,
            "mean": 4.4,
            "draw": 1.21,
            "totals_truth": 1.0,
            "totals_mean": 1.5,
            "totals_draw": None,
        },
    }


ROWS = [
    row("a", "one", default=0.06, gp=0.02, bilinear=0.01),
    row("a", "two", default=0.02, gp=0.02, bilinear=0.03, error=0.02),
    row("b", "three", default=0.01, gp=0.005, bilinear=0.02),
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


def test_average_table_matches_hand_computation() -> None:
    rows = [*ROWS, row("b", "three", default=0.03, gp=0.025, bilinear=0.02)]  # another pseudo-slide of the same slide
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in average_table(rows).splitlines()[2:]]
    assert [line[:5] for line in lines] == [
        ["studies", "2", "0.0300", "bilinear 0.0200", "1.50 times"],
        ["slides", "3", "0.0333", "bilinear 0.0200", "1.67 times"],
        ["cases", "4", "0.0300", "bilinear 0.0200", "1.50 times"],
    ]


def test_part_table_compares_with_the_best_baseline_and_with_that_of_the_part() -> None:
    rows = [
        row("a", "one", default=0.06, gp=0.02, bilinear=0.01),
        row("b", "two", default=0.02, gp=0.02, bilinear=0.01),
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


def test_studies_without_a_value_are_skipped() -> None:
    assert mean_of_studies(ROWS, [1.0, None, None]) == 1.0
    assert mean_of_studies(ROWS, [1.0, 3.0, 4.0]) == 3.0


def test_tables_contain_all_rows() -> None:
    by_study, by_method, by_case = study_table(ROWS), method_table(ROWS), case_table(ROWS)
    for table in (by_study, by_method, by_case):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| a | 2 | 0.0400 / 0.040 | 0.0250 / 0.025 |" in by_study
    assert "**0.0250 / 0.025**" in by_study
    order = [line.split("|")[1].strip(" *") for line in by_method.splitlines()[2:]]
    assert order[:3] == [DEFAULT, "bilinear", "gp"]
    assert len(order) == 1 + len(BASELINES)
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


def test_plots_are_written_or_the_folder_is_reported(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for path in write_score_plots(ROWS, tmp_path / "plots"):
        assert path.read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="another folder"):
        write_score_plots(ROWS, tmp_path / "file")
