"""Report scores on held-out studies: means, ratios to the baselines and Markdown tables.

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

__all__ = [
    "DEFAULT",
    "INTENSITY",
    "MAIN_SCORES",
    "POOL",
    "REFERENCES",
    "average_table",
    "border_table",
    "case_table",
    "interior_rows",
    "margin_error",
    "mean_of_studies",
    "method_table",
    "part_table",
    "program_table",
    "study_table",
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

Row = Mapping[str, Any]
_COMPARED = ("gp+denoised", "gp", "pycnophylactic", "bilinear")
_KINDS = (("nats_per_count", "best_baseline"), ("within_spot_pcc", "best_baseline_pcc"))
_LEVEL = 0.05  # of all tests together
_PARTS = ("totals", "composition")  # of the nats per count
_TITLES = {
    "nats_per_count": "nats per count",
    "totals": "totals",
    "composition": "composition",
    "within_spot_pcc": "within-spot PCC",
}


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

        "fraction_better", "coverage_80_*", "level_step_median", "spread_skill".

        "seam_ratio_to_truth_*": seam ratio of the mean map and of a draw relative to the truth's, by genes and of
        totals.
    """
    summary: dict[str, Any] = {"n_cases": len(rows), "n_studies": len({row["study"] for row in rows})}
    for kind, chosen in _KINDS:
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
    summary |= {part: _compare_part(rows, part) for part in _PARTS}
    inside = interior_rows(rows)
    if inside:
        summary["interior"] = {"n_cases": len(inside)} | {
            kind: _compare_with_best(inside, kind) for kind in ("nats_per_count", *_PARTS)
        }
    summary["cases_below"] = sum(row["margin"] < 0 for row in rows)
    summary["cases_behind"] = sum(row["margin"] < -2 * margin_error(row) for row in rows)
    summary["losses"] = {name: _count_losses(rows, name) for name in REFERENCES if name in rows[0]["against"]}
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
        ratios = [_number(row["seam"][kind]) / _number(row["seam"][truth]) for row in rows]
        summary[f"seam_ratio_to_truth_{kind}"] = mean_of_studies(rows, ratios)
    return summary


def _count_losses(rows: Sequence[Row], reference: str) -> dict[str, int]:
    """Count the pseudo-slides on which the default is worse than a reference, in all and significantly."""
    margin, error, n_blocks = (
        np.array([_number(row["against"][reference][key]) for row in rows]) for key in ("margin", "error", "n_blocks")
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
        if np.isfinite(_number(value)):
            groups.setdefault(group(i, row), []).append(_number(value))
    return float(np.mean([np.mean(of_group) for of_group in groups.values()])) if groups else float("nan")


def average_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of the default and the best single baseline, averaged over studies, slides and cases."""
    groups: dict[str, Callable[[int, Row], Hashable]] = {
        "studies": lambda _, row: row["study"],
        "slides": lambda _, row: (row["study"], row["name"]),
        "cases": lambda i, _: i,
    }
    lines = [_line(["mean over", "", "nats per count", "", "", "within-spot PCC", "", ""]), "|---" * 8 + "|"]
    for name, group in groups.items():
        cells = [name, str(len({group(i, row) for i, row in enumerate(rows)}))]
        for kind, _ in _KINDS:
            mean = {
                method: mean_of_studies(rows, [row["methods"][method][kind] for row in rows], group)
                for method in (DEFAULT, *BASELINES)
            }
            best = max(BASELINES, key=mean.__getitem__)
            cells += [f"{mean[DEFAULT]:.4f}", f"{best} {mean[best]:.4f}", f"{mean[DEFAULT] / mean[best]:.2f} times"]
        lines.append(_line(cells))
    return "\n".join(lines)


def part_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of totals and composition: means over studies, and the default's ratio to baselines."""
    parts = {part: _compare_part(rows, part) for part in _PARTS}
    overall = parts[_PARTS[0]]["overall_baseline"]
    titles = ["of the nats per count", "default", f"best single baseline ({overall})", "ratio"]
    titles += ["best single baseline of this part", "ratio"]
    lines = [_line(titles), "|---" * len(titles) + "|"]
    for part, of in parts.items():
        cells = [part, f"{of['default']:.4f}", f"{of['overall']:.4f}", f"{of['ratio_to_overall']:.2f} times"]
        cells += [f"{of['best_single_baseline']} {of['best_single']:.4f}", f"{of['ratio_to_best_single']:.2f} times"]
        lines.append(_line(cells))
    return "\n".join(lines)


def interior_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the scores of the spots away from the border; cases without such spots are left out."""
    return [{**row, "methods": row["interior"]["methods"]} for row in rows if row["interior"]["methods"]]


def border_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of the default and its two parts on all spots, and on those away from the border."""
    methods = [method for method in (DEFAULT, POOL, INTENSITY) if method in rows[0]["methods"]]
    titles = ["spots", "cases", "", *methods, "best single baseline", "ratio"]
    lines = [_line(titles), "|---" * len(titles) + "|"]
    for name, chosen in (("all", rows), ("away from the border", interior_rows(rows))):
        for kind in MAIN_SCORES if chosen else ():
            of_method = {m: mean_of_studies(chosen, [row["methods"][m][kind] for row in chosen]) for m in methods}
            best = _compare_with_best(chosen, kind)
            baseline = f"{best['best_single_baseline']} {best['best_single']:.4f}"
            cells = [*(f"{value:.4f}" for value in of_method.values()), baseline, f"{best['ratio']:.2f} times"]
            lines.append(_line([name, len(chosen), _TITLES[kind], *cells]))
    return "\n".join(lines)


def _compare_with_best(rows: Sequence[Row], kind: str) -> dict[str, Any]:
    """Compare a score of the default with the single baseline that has the best mean of this score."""
    mean = {m: mean_of_studies(rows, [row["methods"][m][kind] for row in rows]) for m in (DEFAULT, *BASELINES)}
    best = max(BASELINES, key=mean.__getitem__)
    return {
        "default": mean[DEFAULT],
        "best_single": mean[best],
        "best_single_baseline": best,
        "ratio": mean[DEFAULT] / mean[best],
    }


def _compare_part(rows: Sequence[Row], part: str) -> dict[str, Any]:
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


def margin_error(row: Row) -> float:
    """Return the standard error of a row's margin: the larger of those over spots and over genes."""
    return float(np.nanmax([_number(row["margin_se_spots"]), _number(row["margin_se_genes"]), 0.0]))


def study_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of nats per count / within-spot PCC by study, for all methods and some baselines."""
    methods = [method for method in rows[0]["methods"] if method not in BASELINES]
    titles = ["study", "cases", *methods, "best baseline of each case", *_COMPARED]
    lines = [_line(titles), "|---" * len(titles) + "|"]
    for study in (*sorted({row["study"] for row in rows}), None):
        selected = [row for row in rows if study in (row["study"], None)]
        bold = "" if study else "**"
        pairs = []
        for method in (*methods, None, *_COMPARED):
            nats = [row["methods"][method or row["best_baseline"]]["nats_per_count"] for row in selected]
            pcc = [row["methods"][method or row["best_baseline_pcc"]]["within_spot_pcc"] for row in selected]
            pairs.append(f"{bold}{mean_of_studies(selected, nats):.4f} / {mean_of_studies(selected, pcc):.3f}{bold}")
        lines.append(_line([f"{bold}{study or 'mean of studies'}{bold}", len(selected), *pairs]))
    return "\n".join(lines)


def program_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of the studies with large panels: the pool of each gene, and the maps of gene programs.

    Cells hold nats per count / their mean over genes / within-spot PCC. The change is in nats per count, with the mean
    over pseudo-slides of its standard error over genes.
    """
    with_programs = [row for row in rows if row.get("shared")]
    titles = ["study", "cases", "per-gene flow", "program maps", "best baseline of each case", "change"]
    lines = [_line(titles), "|---" * len(titles) + "|"]
    kinds = ("nats_per_count", "nats_per_gene", "within_spot_pcc")
    for study in (*sorted({row["study"] for row in with_programs}), None):
        of_study = [row for row in with_programs if study in (row["study"], None)]
        cells = []
        for scores in (
            [row["methods"][POOL] for row in of_study],
            [row["shared"] for row in of_study],
            [row["methods"][row["best_baseline"]] for row in of_study],
        ):
            nats, by_gene, pcc = (mean_of_studies(of_study, [one[kind] for one in scores]) for kind in kinds)
            cells.append(f"{nats:.4f} / {by_gene:.4f} / {pcc:.3f}")
        change, error = (
            mean_of_studies(of_study, [row["shared"][k] for row in of_study]) for k in ("change", "change_se")
        )
        lines.append(_line([study or "**mean of studies**", len(of_study), *cells, f"{change:+.4f} ± {error:.4f}"]))
    return "\n".join(lines)


def method_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of the mean scores of every method, the best first."""
    kinds = {
        "nats_per_count": "nats per count",
        "totals": "of it totals",
        "composition": "of it composition",
        "nats_per_gene": "nats per count, mean over genes",
        "within_spot_pcc": "within-spot PCC",
        "within_spot_pcc_weighted": "weighted by counts",
    }
    means = {
        method: [mean_of_studies(rows, [row["methods"][method][kind] for row in rows]) for kind in kinds]
        for method in rows[0]["methods"]
    }
    lines = [_line(["method", *kinds.values()]), "|---" * (len(kinds) + 1) + "|"]
    for method, values in sorted(means.items(), key=lambda item: -item[1][0]):
        lines.append(_line([f"**{method}**" if method == DEFAULT else method, *(f"{value:.4f}" for value in values)]))
    return "\n".join(lines)


def case_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of all pseudo-slides: the default and the best baseline of each."""
    titles = [
        "slide",
        "case",
        "nats per count",
        "best baseline",
        "margin",
        "PCC",
        "best PCC",
        "genes ahead",
        "80 % covers",
    ]
    lines = [_line(titles), "|---" * len(titles) + "|"]
    at = COVERAGES.index(0.8)
    for row in sorted(rows, key=lambda row: (row["study"], row["name"], row["case"])):
        methods, best = row["methods"], row["best_baseline"]
        lines.append(
            _line(
                [
                    row["name"],
                    row["case"],
                    f"{methods[DEFAULT]['nats_per_count']:.4f}",
                    f"{best} {methods[best]['nats_per_count']:.4f}",
                    f"{row['margin']:+.4f} ± {margin_error(row):.4f}",
                    f"{_number(methods[DEFAULT]['within_spot_pcc']):.3f}",
                    f"{_number(methods[row['best_baseline_pcc']]['within_spot_pcc']):.3f}",
                    f"{_number(row['fraction_better']):.2f}",
                    f"{_number(row['coverage']['calibrated']['all'][at]):.2f}",
                ]
            )
        )
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
