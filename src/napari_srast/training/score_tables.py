"""Write scores on held-out studies as Markdown tables.

Rows and means are those of :mod:`napari_srast.training.score_report`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from napari_srast.evaluation.coverage import COVERAGES
from napari_srast.evaluation.protocol import BASELINES
from napari_srast.training.score_report import (
    DEFAULT,
    INTENSITY,
    KINDS,
    MAIN_SCORES,
    PARTS,
    POOL,
    Row,
    compare_part,
    compare_stated,
    compare_with_best,
    interior_rows,
    margin_error,
    mean_of_studies,
    number,
    stating_rows,
)

__all__ = [
    "average_table",
    "border_table",
    "case_table",
    "method_table",
    "part_table",
    "program_table",
    "skill_table",
    "study_table",
]

_COMPARED = ("gp+denoised", "gp", "pycnophylactic", "bilinear")
_TITLES = {
    "nats_per_count": "nats per count",
    "totals": "totals",
    "composition": "composition",
    "within_spot_pcc": "within-spot PCC",
}


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
        for kind, _ in KINDS:
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
    parts = {part: compare_part(rows, part) for part in PARTS}
    overall = parts[PARTS[0]]["overall_baseline"]
    titles = ["of the nats per count", "default", f"best single baseline ({overall})", "ratio"]
    titles += ["best single baseline of this part", "ratio"]
    lines = [_line(titles), "|---" * len(titles) + "|"]
    for part, of in parts.items():
        cells = [part, f"{of['default']:.4f}", f"{of['overall']:.4f}", f"{of['ratio_to_overall']:.2f} times"]
        cells += [f"{of['best_single_baseline']} {of['best_single']:.4f}", f"{of['ratio_to_best_single']:.2f} times"]
        lines.append(_line(cells))
    return "\n".join(lines)


def border_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of the default and its two parts on all spots, and on those away from the border."""
    methods = [method for method in (DEFAULT, POOL, INTENSITY) if method in rows[0]["methods"]]
    titles = ["spots", "cases", "", *methods, "best single baseline", "ratio"]
    lines = [_line(titles), "|---" * len(titles) + "|"]
    for name, chosen in (("all", rows), ("away from the border", interior_rows(rows))):
        for kind in MAIN_SCORES if chosen else ():
            of_method = {m: mean_of_studies(chosen, [row["methods"][m][kind] for row in chosen]) for m in methods}
            best = compare_with_best(chosen, kind)
            baseline = f"{best['best_single_baseline']} {best['best_single']:.4f}"
            cells = [*(f"{value:.4f}" for value in of_method.values()), baseline, f"{best['ratio']:.2f} times"]
            lines.append(_line([name, len(chosen), _TITLES[kind], *cells]))
    return "\n".join(lines)


def skill_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of the stated and the achieved nats per count of the default, by study.

    It has the cases with enough spots for a statement, and their spots away from the border. Both agree if they differ
    by at most 30 % of the achieved ones or 0.005; otherwise the stated ones are too high or too low.
    """
    of_cases = ["stated", "achieved", "agree", "too high"]
    titles = ["study", "cases", *of_cases, "away from the border", *of_cases]
    lines = [_line(titles), "|---" * len(titles) + "|"]
    stating = stating_rows(rows)
    for study in (*sorted({row["study"] for row in stating}), None):
        of_study = [row for row in stating if study in (row["study"], None)]
        cells: list[object] = [study or "**mean of studies**"]
        for of in (compare_stated(of_study), compare_stated(interior_rows(of_study))):
            means = [f"{of[key]:.4f}" if of["n_cases"] else "" for key in ("stated", "achieved")]
            cells += [of["n_cases"], *means, of["n_within"], of["n_above"]]
        lines.append(_line(cells))
    return "\n".join(lines)


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
                    f"{number(methods[DEFAULT]['within_spot_pcc']):.3f}",
                    f"{number(methods[row['best_baseline_pcc']]['within_spot_pcc']):.3f}",
                    f"{number(row['fraction_better']):.2f}",
                    f"{number(row['coverage']['calibrated']['all'][at]):.2f}",
                ]
            )
        )
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
