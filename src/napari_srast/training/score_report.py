"""Summarize scores on held-out studies: means, and ratios to the baselines.

Rows are those of :func:`napari_srast.training.cross_validation.score_pseudo_slide`. A mean is the mean over studies of
each study's mean over its pseudo-slides, so every study has the same weight.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from napari_srast.evaluation.coverage import COVERAGES
from napari_srast.evaluation.protocol import BASELINES
from napari_srast.inference.expected_information import MIN_SPOTS

__all__ = [
    "DEFAULT",
    "INTENSITY",
    "KINDS",
    "MAIN_SCORES",
    "PARTS",
    "POOL",
    "REFERENCES",
    "Row",
    "compare_part",
    "compare_stated",
    "compare_with_best",
    "interior_rows",
    "margin_error",
    "mean_of_studies",
    "number",
    "stating_rows",
    "summarize",
]

DEFAULT = "srast"
"""Name of the default method in the rows: the calibrated pool, averaged with the intensity field."""
POOL = "calibrated pool"
"""The pool of network and interpolations with the weights of the slide, without the intensity field."""
INTENSITY = "intensity field"
"""The intensity field, without the pool."""
REFERENCES = ("uniform", "gp")
"""Methods that the default may be worse than only by chance."""
MAIN_SCORES = ("nats_per_count", "totals", "composition", "within_spot_pcc")
"""Scores of a method on the spots of the interior."""
KINDS = (("nats_per_count", "best_baseline"), ("within_spot_pcc", "best_baseline_pcc"))
"""Scores that methods are compared by, with the key of the best baseline of each."""
PARTS = ("totals", "composition")
"""Parts of the nats per count."""

Row = Mapping[str, Any]
_LEVEL = 0.05  # of all tests together
_TOLERANCE, _MIN_TOLERANCE = 0.3, 0.005  # of a stated skill: relative to the achieved one, and in nats per count


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """Summarize the scores of a checkpoint.

    Parameters
    ----------
    rows
        Scored pseudo-slides.

    Returns
    -------
    dict
        "nats_per_count", "within_spot_pcc": of the default, of the best baseline of each pseudo-slide (chosen on the
        truth) and of the single baseline that is best on average, with the default's ratio to each.

        "interior": "n_cases", "nats_per_count", "totals" and "composition" of the spots away from the border, each of
        the default and of the single baseline that is best there, with the ratio of both.

        "totals", "composition": these parts of the nats per count, of the default, of the single baseline that has the
        best nats per count on average and of the one whose part is best, with the default's ratio to each.

        "cases_below", "cases_behind": numbers of pseudo-slides with a negative margin and with a margin below minus
        two standard errors.

        "losses": for each of :data:`REFERENCES`, the number of pseudo-slides on which the default is worse ("below"),
        and worse at a level of 5 % that is corrected for the number of pseudo-slides ("significant": one-sided t tests
        with the error over blocks of spots, Bonferroni).

        "stated": for cases with "enough_spots" for a statement, for their "interior", and for cases of "few_spots":
        "n_cases", means over studies of the "stated" and the "achieved" nats per count, and "n_within" and "n_above",
        the numbers of cases in which both agree, and in which the stated ones are too high.

        "fraction_better", "coverage_80_*", "level_step_median", "spread_skill".

        "seam_ratio_to_truth_*": seam ratio of the mean map and of a draw relative to the truth's, by genes and of
        totals.
    """
    summary: dict[str, Any] = {"n_cases": len(rows), "n_studies": len({row["study"] for row in rows})}
    for kind, chosen in KINDS:
        of_method = {m: mean_of_studies(rows, [r["methods"][m][kind] for r in rows]) for m in (DEFAULT, *BASELINES)}
        best = mean_of_studies(rows, [r["methods"][r[chosen]][kind] for r in rows])
        single = max(BASELINES, key=of_method.__getitem__)
        summary[kind] = {
            "default": of_method[DEFAULT],
            "best_of_each_case": best,
            "ratio_to_best_of_each_case": of_method[DEFAULT] / best,
            "best_single": of_method[single],
            "best_single_baseline": single,
            "ratio_to_best_single": of_method[DEFAULT] / of_method[single],
        }
    summary |= {part: compare_part(rows, part) for part in PARTS}
    inside = interior_rows(rows)
    if inside:
        summary["interior"] = {"n_cases": len(inside)} | {
            kind: compare_with_best(inside, kind) for kind in ("nats_per_count", *PARTS)
        }
    summary["cases_below"] = sum(row["margin"] < 0 for row in rows)
    summary["cases_behind"] = sum(row["margin"] < -2 * margin_error(row) for row in rows)
    summary["losses"] = {name: _count_losses(rows, name) for name in REFERENCES if name in rows[0]["against"]}
    if all("stated" in row for row in rows):
        of_cases = {
            "enough_spots": stating_rows(rows),
            "few_spots": [row for row in rows if row["n_spots"] < MIN_SPOTS],
        }
        of_cases["interior"] = interior_rows(of_cases["enough_spots"])
        summary["stated"] = {name: compare_stated(chosen) for name, chosen in of_cases.items()}
    summary["fraction_better"] = mean_of_studies(rows, [row["fraction_better"] for row in rows])
    at = COVERAGES.index(0.8)
    for kind in ("multinomial", "calibrated"):
        for group in ("all", "deep"):
            covered = [row["coverage"][kind][group][at] for row in rows]
            summary[f"coverage_80_{kind}_{group}"] = mean_of_studies(rows, covered)
    summary["level_step_median"] = float(np.median([row["level_step"] for row in rows]))
    summary["spread_skill"] = mean_of_studies(rows, [row["spread_skill"] for row in rows])
    for kind, truth in (
        ("mean", "truth"),
        ("draw", "truth"),
        ("totals_mean", "totals_truth"),
        ("totals_draw", "totals_truth"),
    ):
        ratios = [number(row["seam"][kind]) / number(row["seam"][truth]) for row in rows]
        summary[f"seam_ratio_to_truth_{kind}"] = mean_of_studies(rows, ratios)
    return summary


def _count_losses(rows: Sequence[Row], reference: str) -> dict[str, int]:
    """Count the pseudo-slides on which the default is worse than a reference, in all and significantly."""
    margin, error, n_blocks = (
        np.array([number(row["against"][reference][key]) for row in rows]) for key in ("margin", "error", "n_blocks")
    )
    threshold = student.ppf(1 - _LEVEL / len(rows), np.maximum(n_blocks - 1, 1))
    return {"below": int((margin < 0).sum()), "significant": int((margin < -threshold * error).sum())}


def mean_of_studies(
    rows: Sequence[Row],
    values: Sequence[float | None],
    group: Callable[[int, Row], Hashable] = lambda _, row: row["study"],
) -> float:
    """Return the mean over studies, or other groups, of the mean over their pseudo-slides.

    Parameters
    ----------
    rows
        Scored pseudo-slides.
    values
        One value for each row. Rows with the value None or NaN are skipped.
    group
        Function from the index of a row and the row to the row's group; by default its study.

    Returns
    -------
    float
        NaN if no row has a value.
    """
    groups: dict[Hashable, list[float]] = {}
    for i, (row, value) in enumerate(zip(rows, values, strict=True)):
        if np.isfinite(number(value)):
            groups.setdefault(group(i, row), []).append(number(value))
    return float(np.mean([np.mean(of_group) for of_group in groups.values()])) if groups else float("nan")


def interior_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the scores of the spots away from the border; cases without such spots are left out."""
    return [
        {**row, "methods": row["interior"]["methods"], "stated": row["interior"].get("stated")}
        for row in rows
        if row["interior"]["methods"]
    ]


def compare_with_best(rows: Sequence[Row], kind: str) -> dict[str, Any]:
    """Compare a score of the default with the single baseline that has the best mean of this score."""
    mean = {m: mean_of_studies(rows, [row["methods"][m][kind] for row in rows]) for m in (DEFAULT, *BASELINES)}
    best = max(BASELINES, key=mean.__getitem__)
    return {
        "default": mean[DEFAULT],
        "best_single": mean[best],
        "best_single_baseline": best,
        "ratio": mean[DEFAULT] / mean[best],
    }


def compare_part(rows: Sequence[Row], part: str) -> dict[str, Any]:
    """Compare a part of the nats per count with the baseline of the best nats and with that of the best part."""
    nats, mean = (
        {m: mean_of_studies(rows, [row["methods"][m][kind] for row in rows]) for m in (DEFAULT, *BASELINES)}
        for kind in ("nats_per_count", part)
    )
    overall, single = max(BASELINES, key=nats.__getitem__), max(BASELINES, key=mean.__getitem__)
    return {
        "default": mean[DEFAULT],
        "overall": mean[overall],
        "overall_baseline": overall,
        "ratio_to_overall": mean[DEFAULT] / mean[overall],
        "best_single": mean[single],
        "best_single_baseline": single,
        "ratio_to_best_single": mean[DEFAULT] / mean[single],
    }


def stating_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the cases with enough spots for a statement."""
    return [row for row in rows if row["n_spots"] >= MIN_SPOTS]


def compare_stated(rows: Sequence[Row]) -> dict[str, Any]:
    """Compare the stated with the achieved nats per count of the default.

    They agree ("n_within") if they differ by at most 30 % of the achieved ones or 0.005, whichever is larger. Otherwise
    the stated ones are too high ("n_above") or too low.
    """
    stated = np.array([number(row.get("stated")) for row in rows])
    achieved = np.array([row["methods"][DEFAULT]["nats_per_count"] for row in rows])
    tolerance = np.maximum(_TOLERANCE * np.abs(achieved), _MIN_TOLERANCE)
    return {
        "n_cases": len(rows),
        "stated": mean_of_studies(rows, stated.tolist()),
        "achieved": mean_of_studies(rows, achieved.tolist()),
        "n_within": int((np.abs(stated - achieved) <= tolerance).sum()),
        "n_above": int((stated - achieved > tolerance).sum()),
    }


def margin_error(row: Row) -> float:
    """Return the standard error of a row's margin: the larger of those over spots and over genes."""
    return float(np.nanmax([number(row["margin_se_spots"]), number(row["margin_se_genes"]), 0.0]))


def number(value: float | None) -> float:
    """Return a value of a row as a number; NaN for None."""
    return float("nan") if value is None else float(value)
