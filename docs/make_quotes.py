"""Write the figures that pages quote from the JSON files that they came from.

    python docs/make_quotes.py           rewrites tables and numbers in README.md and docs
    python docs/make_quotes.py --check   names what differs and changes nothing

A table begins after a comment such as ``<!-- table fine_truth kidney -->`` and ends at the next empty line. A sentence
is found by its words; only its numbers are written. The scripts that measure call this one; tests/test_docs.py checks
that nothing differs.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
NUMBER = r"([-+−]?\d(?:[\d,.]*\d)?)"
KIDNEY, PANCREAS = "visiumhd_human_kidney_a", "xenium_human_pancreas_a"
OURS, ALONE, GP = "srast", "srast without image", "gp"
METHODS = {OURS: "default, with image", ALONE: "default, counts alone", GP: "gp"}
UNIFORM, COUNTS, DENSITY, NUCLEAR = (
    "uniform, by area",
    "counts (X), by area",
    "counts (X), by true nuclear density",
    "counts (X), by nuclear area",
)
EXPRESSION = "expression, not conserved, by area"
HIGH_RESOLUTION_COLUMNS = (
    "slide nats: X",
    "expression",
    "trial",
    "PCC: X",
    "expression",
    "trial",
    "ceiling",
    "PCC, scaled: X",
    "expression",
    "trial",
    "seams",
    "coverage",
    "at 5+",
)


@dataclass(frozen=True)
class Quote:
    """A sentence of a page, with ``{}`` for each number, and what the numbers are."""

    page: str
    text: str
    values: tuple[str, ...]

    def pattern(self) -> re.Pattern[str]:
        """Return the pattern of the sentence; spaces may be line breaks."""
        parts = [r"\s+".join(re.escape(word) for word in part.split(" ")) for part in self.text.split("{}")]
        return re.compile(NUMBER.join(parts))


@dataclass(frozen=True)
class Table:
    """A table after a comment with its name."""

    page: str
    name: str
    lines: tuple[str, ...]

    def pattern(self) -> re.Pattern[str]:
        """Return the pattern of comment and table."""
        return re.compile(rf"(<!-- table {re.escape(self.name)} -->\n)(.*?)(?=\n\n|\Z)", re.DOTALL)


@cache
def load(name: str) -> Any:
    """Return a JSON file of docs."""
    return json.loads((DOCS / name).read_text(encoding="utf-8"))


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*cells: object) -> tuple[str, str]:
    return row(*cells), "|---" * len(cells) + "|"


def number(value: float | None, digits: int) -> str:
    return "" if value is None or value != value else f"{value:.{digits}f}"


def span(values: list[float], digits: int) -> tuple[str, str]:
    return number(min(values), digits), number(max(values), digits)


def fine(slide: str, method: str) -> dict[str, Any]:
    return load("results/fine_truth.json")[slide]["methods"][method]


def fine_truth() -> Iterator[Quote | Table]:
    """Yield what pages quote of fine_truth.json."""
    data = load("results/fine_truth.json")
    page = "docs/results/fine_truth.md"
    yield Quote(page, "scored on the other, {} times.", (str(data[KIDNEY]["settings"]["thinnings"]),))
    for slide, name in ((KIDNEY, "kidney"), (PANCREAS, "pancreas")):
        lines = [*head("method", "nats", "totals", "composition", "genes below", "stated")]
        for method, label in METHODS.items():
            runs = fine(slide, method)["thinnings"]
            cells = [
                ", ".join(number(run[key], 4) for run in runs) for key in ("nats_per_count", "totals", "composition")
            ]
            cells.append(", ".join(f"{100 * run['genes_below_uniform']:.1f} %" for run in runs))
            stated = [run["stated_skill"] for run in runs]
            cells.append("" if None in stated or method == GP else ", ".join(number(value, 4) for value in stated))
            lines.append(row(label, *cells))
        yield Table(page, f"fine_truth {name}", tuple(lines))
    names = ("slide_nats", "pcc", "ssim", "seam_ratio")
    digits = {"slide_nats": 3, "pcc": 3, "ssim": 3, "seam_ratio": 2}
    titles = [
        f"{title}, counts" if i == 0 else "expression"
        for title in ("slide nats", "PCC", "SSIM", "seams")
        for i in (0, 1)
    ]
    lines = [*head("slide, method", *titles)]
    for slide, name in ((KIDNEY, "kidney"), (PANCREAS, "pancreas")):
        for method, label in METHODS.items():
            mean = fine(slide, method)
            cells = [number(mean[key + end], digits[key]) for key in names for end in ("", "_expression")]
            lines.append(row(f"{name}, {label.removeprefix('default, ')}", *cells))
        truth = data[slide]["truth"]
        best = {"pcc": truth["pcc_ceiling"], "ssim": truth["ssim_other_half"], "seam_ratio": truth["seam_ratio"]}
        cells = [number(best.get(key), digits[key]) for key in names for _ in (0, 1)]
        lines.append(row(f"{name}, noise ceiling, other half, truth", *cells))
    yield Table(page, "fine_truth whole slide", tuple(lines))

    coverage = load("results/fine_truth_coverage.json")
    lines = [*head("slide", "all", "high")]
    for slide, name in ((KIDNEY, "kidney"), (PANCREAS, "pancreas")):
        for method in (OURS, ALONE):
            values = coverage[slide]["methods"][method]
            cells = [number(values[key], 3) for key in ("coverage_80", "coverage_80_high")]
            lines.append(row(f"{name}, {METHODS[method].removeprefix('default, ')}", *cells))
    yield Table(page, "fine_truth coverage", tuple(lines))

    def times(key: str, slide: str, method: str) -> str:
        return number(fine(slide, method)[key] / fine(slide, GP)[key], 1)

    yield Quote(
        page,
        "With an image it is {} times that of the Gaussian process on the kidney and {} times on the pancreas; counts "
        "alone gain {} and {} times the Gaussian process in all.",
        (
            times("composition", KIDNEY, OURS),
            times("composition", PANCREAS, OURS),
            times("nats_per_count", KIDNEY, ALONE),
            times("nats_per_count", PANCREAS, ALONE),
        ),
    )

    def stated(slide: str, method: str) -> list[float]:
        return [run["stated_skill"] / run["achieved_skill"] for run in fine(slide, method)["thinnings"]]

    yield Quote(
        page,
        "With an image, the stated skill is {} to {} times the achieved one over all thinnings of both slides. Without "
        "one, it is {} to {} times on the kidney and {} to {} times on the pancreas.",
        (
            *span(stated(KIDNEY, OURS) + stated(PANCREAS, OURS), 2),
            *span(stated(KIDNEY, ALONE), 2),
            *span(stated(PANCREAS, ALONE), 2),
        ),
    )
    pairs = [[number(fine(slide, method)["nats_per_count"], 3) for slide in (KIDNEY, PANCREAS)] for method in METHODS]
    yield Quote(
        "docs/results/index.md",
        "a kidney and a pancreas score {} and {} nats per count with their image, {} and {} without, and {} and {} by "
        "a Gaussian process. Their expression explains {} and {} nats per count of where held-out counts are on the "
        "slide, the conserved counts {} and {}",
        (
            *(value for pair in pairs for value in pair),
            *(number(fine(slide, OURS)["slide_nats_expression"], 2) for slide in (KIDNEY, PANCREAS)),
            *(number(fine(slide, OURS)["slide_nats"], 2) for slide in (KIDNEY, PANCREAS)),
        ),
    )
    yield Quote(
        "docs/choosing.md",
        "the map gains {} nats per count with the image and {} without",
        (number(fine(KIDNEY, OURS)["nats_per_count"], 3), number(fine(KIDNEY, ALONE)["nats_per_count"], 3)),
    )
    yield Quote(
        "docs/choosing.md",
        "the expression explains {} nats per count of where the other half of the counts is, and the counts {}.",
        (number(fine(KIDNEY, OURS)["slide_nats_expression"], 2), number(fine(KIDNEY, OURS)["slide_nats"], 2)),
    )
    gains = [
        number(fine(slide, OURS)["nats_per_count"] / fine(slide, ALONE)["nats_per_count"], 1)
        for slide in (KIDNEY, PANCREAS)
    ]
    yield Quote(
        "docs/trust.md",
        "With the image it gains {} times as much as without on the kidney, and {} times on the pancreas.",
        tuple(gains),
    )
    yield Quote(
        "docs/trust.md",
        "is {} to {} times what it achieves with an image, and {} to {} times without one.",
        (
            *span(stated(KIDNEY, OURS) + stated(PANCREAS, OURS), 2),
            *span(stated(KIDNEY, ALONE) + stated(PANCREAS, ALONE), 2),
        ),
    )
    lines = [*head("nats per count over a uniform split", "with the image", "counts alone", "Gaussian process")]
    for slide, label in (
        (KIDNEY, "human kidney, Visium HD, pixels of 16 µm"),
        (PANCREAS, "human pancreas, Xenium, 10 µm"),
    ):
        lines.append(row(label, *(number(fine(slide, method)["nats_per_count"], 3) for method in METHODS)))
    yield Table("README.md", "fine_truth", tuple(lines))


def cells() -> Iterator[Quote | Table]:
    """Yield what pages quote of cells.json."""
    runs = load("results/cells.json")[PANCREAS]
    first = runs[0]
    page = "docs/results/cells.md"

    def mean(rule: str, key: str) -> float:
        return sum(run["rules"][rule][key] for run in runs) / len(runs)

    def average(*keys: str) -> float:
        values = runs
        for key in keys:
            values = [value[key] for value in values]
        return sum(values) / len(values)

    keys = list(first["rules"][UNIFORM])
    lines = [*head("rule", *keys), *(row(rule, *(f"{mean(rule, key):.4f}" for key in keys)) for rule in first["rules"])]
    yield Table(page, "cells", tuple(lines))
    both, inside = "nats_cells_and_outside", "nats_cells"
    yield Quote(page, "would have measured it: {} discs", (str(first["n_spots"]),))
    yield Quote(
        page,
        "The {} nuclei come from a watershed of that image; their median area is {} µm², and {} other nuclei share",
        (f"{first['n_cells']:,}", f"{first['median_nucleus_um2']:.0f}", f"{first['cells_sharing_spots']:.0f}"),
    )
    gain = number(mean(COUNTS, both), 3)
    yield Quote(
        page,
        "Counts shared by area are above uniform sharing, by {} nats per count and {} in cell correlation.",
        (gain, number(mean(COUNTS, "cell_correlation") - mean(UNIFORM, "cell_correlation"), 3)),
    )
    yield Quote("docs/analysis.md", "counts shared by area are above uniform sharing, by {} nats per count", (gain,))
    yield Quote(
        page,
        "Counts are denser in nuclei than outside, {} times here, and sharing with that ratio gains another {} nats.",
        (number(average("nuclear_density_ratio", "true"), 1), number(mean(DENSITY, both) - mean(COUNTS, both), 3)),
    )
    yield Quote(page, "the regression says {},", (f"{average('nuclear_density_ratio', 'from spots'):.0f}",))
    yield Quote(
        page,
        "nuclei ({} nats per count, cell correlation {}), because",
        (number(mean(EXPRESSION, inside), 3), number(mean(EXPRESSION, "cell_correlation"), 3)),
    )


def high_resolution() -> Iterator[Quote | Table]:
    """Yield what pages quote of high_resolution.json."""
    data = load("results/high_resolution.json")
    page = "docs/results/high_resolution.md"
    lines, rows = [*head("slide, lattice (spots)", *HIGH_RESOLUTION_COLUMNS)], []
    for name, slide in data.items():
        ours, trial = slide["methods"][OURS], slide["methods"][GP]
        values = [ours["slide_nats"], ours["slide_nats_expression"], trial["slide_nats_expression"]]
        values += [ours["pcc"], ours["pcc_expression"], trial["pcc_expression"], slide["truth"]["pcc_ceiling"]]
        values += [ours["pcc_scaled"], ours["pcc_scaled_expression"], trial["pcc_scaled_expression"]]
        values += [ours["seam_ratio_expression"], ours["coverage_80"], ours["coverage_80_high"]]
        rows.append(values)
        lines.append(row(f"{name} ({slide['n_spots']})", *(number(value, 3) for value in values)))
    columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
    lines.append(row("mean", *(number(sum(column) / len(column), 3) for column in columns)))
    yield Table(page, "high_resolution", tuple(lines))
    yield Quote(page, "There are {} rows, one thinning each", (str(len(rows)),))
    gains = [values[1] - max(values[0], values[2]) for values in rows]
    above = sum(gain > 0 for gain in gains)
    figures = number(sum(gains) / len(gains), 3), number(min(gains), 3)
    yield Quote(page, "of X and of the trial in {} of {} rows", (str(above), str(len(rows))))
    yield Quote(page, "of both is {} on average, and {} in the worst row", figures)
    for kind, first in (("normalized", 3), ("scaled", 7)):
        higher = sum(values[first + 1] > values[first] for values in rows)
        means = [sum(values[first + i] for values in rows) / len(rows) for i in range(3)]
        ratios = number(means[1] / means[0], 2), number(means[1] / means[2], 2)
        text = f"The {kind} one is higher than that of X in {{}} of {{}} rows, on average {{}} times"
        yield Quote(page, text + " that of X and {} times that of the trial", (str(higher), str(len(rows)), *ratios))
    for lattice in ("hex", "square"):
        seams = [values[10] for name, values in zip(data, rows, strict=True) if name.endswith(lattice)]
        where = {"hex": "On disks with gaps they are {} to {}", "square": "on squares {} to {}"}[lattice]
        yield Quote(page, where, span(seams, 2))
    skills = [slide["methods"][OURS] for slide in data.values()]
    stated = [skill["stated_skill"] / skill["nats_per_count"] for skill in skills if skill["stated_skill"] is not None]
    fine_page, too_much = "docs/results/fine_truth.md", sum(ratio > 1 for ratio in stated)
    yield Quote(fine_page, "Counts alone state {} to {} times what they achieve", span(stated, 2))
    yield Quote(fine_page, "and too much in {} of {} rows", (str(too_much), str(len(stated))))
    bins = next(values for name, values in zip(data, rows, strict=True) if name.startswith("merscope"))
    yield Quote(
        page, "they cover {} of all and {} of high counts of the disks.", (number(bins[11], 2), number(bins[12], 2))
    )


def histology() -> Iterator[Quote | Table]:
    """Yield what pages quote of histology.json."""
    slides = load("results/histology.json")
    page = "docs/results/histology.md"

    def mean(values: Iterable[float]) -> float:
        gathered = list(values)
        return sum(gathered) / len(gathered)

    def short(name: str) -> str:
        return name.removeprefix("visium_mouse_").removeprefix("st_human_").removeprefix("st_mouse_")

    titles = "slide", "coarse spots", "best", "without", "with the image", "totals + composition", "of best"
    lines = [*head(*titles, "regression", "off by", "gray distance")]
    for one in slides:
        image = one["with_image"]
        lines.append(
            row(
                short(one["name"]),
                one["spots"],
                f"{one['best']:.4f} ({one['best_baseline']})",
                f"{one['gp+denoised']:.4f}",
                f"**{image['nats']:.4f}**",
                f"{image['totals']:.4f} + {image['composition']:.4f}",
                f"{image['nats'] / one['best']:.2f}",
                f"{one['regression_alone']:.4f}",
                f"{100 * one['regression_mass_error']:.0f} %",
                f"{one['gray_distance']:.4f}",
            )
        )
    means = [
        mean(one["best"] for one in slides),
        mean(one["gp+denoised"] for one in slides),
        mean(one["with_image"]["nats"] for one in slides),
    ]
    best, without, image = (f"{value:.4f}" for value in means)
    last = (f"{mean(one[key] for one in slides):.4f}" for key in ("regression_alone", "gray_distance"))
    regression, gray = last
    off = f"{100 * mean(one['regression_mass_error'] for one in slides):.0f} %"
    ratio = f"{mean(one['with_image']['nats'] / one['best'] for one in slides):.2f}"
    lines.append(row("**mean**", "", best, without, f"**{image}**", "", ratio, regression, off, gray))
    yield Table(page, "histology", tuple(lines))
    gained = sum(one["with_image"]["nats"] > max(one["best"], one["gp+denoised"]) for one in slides)
    yield Quote(
        page,
        "The image is used on {} of {} slides, and with it the score is above the best interpolation on {}",
        (str(sum(one["used"] for one in slides)), str(len(slides)), str(gained)),
    )
    yield Quote(page, "on average it is {} times as high", (number(means[2] / means[0], 2),))
    wrong = [control for one in slides for control in one["controls"].values()]
    yield Quote(
        page,
        "In {} of {} cases the wrong image gives a warning",
        (str(sum(control["notice"] for control in wrong)), str(len(wrong))),
    )
    lines = [*head("slide", "reported offset without a shift", "error of the reported offset with a shift")]
    for one in slides:
        errors = " / ".join("not reported" if error != error else f"{error:.2f}" for error in one["offset_errors"])
        lines.append(row(short(one["name"]), f"{one['offset']:.2f}", errors))
    yield Table(page, "offsets", tuple(lines))
    whole = [one for one in slides if "method" in one]
    lines = [*head("slide", "best interpolation", "method without", "method with the image", "of without", "of best")]

    def cells_of(best: float, method: dict[str, float]) -> list[str]:
        ratios = [f"{method['with'] / method['without']:.2f}", f"{method['with'] / best:.2f}"]
        return [f"{method['without']:.4f}", f"**{method['with']:.4f}**", *ratios]

    for one in whole:
        title = f"{one['best']:.4f} ({one['best_baseline']})"
        lines.append(row(short(one["name"]), title, *cells_of(one["best"], one["method"])))
    best_mean = mean(one["best"] for one in whole)
    both = {key: mean(one["method"][key] for one in whole) for key in ("without", "with")}
    lines.append(row("**mean**", f"{best_mean:.4f}", *cells_of(best_mean, both)))
    yield Table(page, "whole_method", tuple(lines))
    lines = [*head("image", "gain")]
    for one in load("results/histology_degraded.json"):
        unused = "not used, with a warning" if one["noticed"] else "not used"
        lines.append(row(one.get("image", "as it is"), f"{one['nats']:+.4f}" if one["used"] else unused))
    yield Table(page, "degraded", tuple(lines))


def zero_shot() -> Iterator[Quote | Table]:
    """Yield what pages quote of zero_shot/scores.json."""
    from napari_srast.training.score_tables import border_table, program_table

    scores = load("results/zero_shot/scores.json")
    found, rows = scores["summary"], scores["cases"]
    nats, pcc = found["nats_per_count"], found["within_spot_pcc"]

    def values(of: dict[str, float], digits: int) -> tuple[str, ...]:
        best, single = number(of["best_of_each_case"], digits), number(of["best_single"], digits)
        ratios = number(of["ratio_to_best_of_each_case"], 2), number(of["ratio_to_best_single"], 2)
        return number(of["default"], digits), best, ratios[0], single, ratios[1]

    page = "docs/results/index.md"
    yield Quote(page, "On {} pseudo-slides", (str(found["n_cases"]),))
    yield Quote(page, "| nats per count | {} | {} ({} times) | {} ({} times) |", values(nats, 4))
    yield Quote(page, "| within-spot PCC | {} | {} ({} times) | {} ({} times) |", values(pcc, 3))
    yield Quote(page, "two standard errors | | {}, {} | |", (str(found["cases_below"]), str(found["cases_behind"])))
    yield Quote(
        page, "The 80 % intervals cover {} % of the true counts", (f"{100 * found['coverage_80_calibrated_all']:.0f}",)
    )
    yield Quote("docs/trust.md", "[{} of {} pseudo-slides]", (str(found["cases_below"]), str(found["n_cases"])))
    page = "docs/results/zero_shot.md"
    yield Quote(page, "| nats per count | {} | {} | {} | {} | {} |", values(nats, 4))
    yield Quote(page, "| within-spot PCC | {} | {} | {} | {} | {} |", values(pcc, 3))
    parts = {part: found[part] for part in ("totals", "composition")}
    for part, of in parts.items():
        default, overall, best = (number(of[kind], 4) for kind in ("default", "overall", "best_single"))
        ratios = number(of["ratio_to_overall"], 2), number(of["ratio_to_best_single"], 2)
        yield Quote(
            page, f"| {part} | {{}} | {{}} | {{}} | {{}} | {{}} |", (default, overall, ratios[0], best, ratios[1])
        )
    of = parts["composition"]
    yield Quote(
        page,
        f"{{}} against {of['overall_baseline']}, {{}} against {of['best_single_baseline']}",
        (number(of["ratio_to_overall"], 2), number(of["ratio_to_best_single"], 2)),
    )
    yield Quote(page, "On average {} % of a slide's genes gain more", (f"{100 * found['fraction_better']:.0f}",))
    losses = found["losses"]
    yield Quote(
        page,
        "{} of {} cases are below the uniform split, and {} below gp.",
        (str(losses["uniform"]["below"]), str(found["n_cases"]), str(losses["gp"]["below"])),
    )
    yield Quote(
        page,
        "corrected for the number of cases, {} and {} of these losses are significant.",
        (str(losses["uniform"]["significant"]), str(losses["gp"]["significant"])),
    )
    of_stated = found["stated"]
    for name, key in (("all", "enough_spots"), ("away from the border", "interior")):
        of = of_stated[key]
        counts = of["n_within"], of["n_above"], of["n_cases"] - of["n_within"] - of["n_above"]
        values_of_row = (of["n_cases"], *(number(of[kind], 4) for kind in ("stated", "achieved")), *counts)
        yield Quote(page, f"| {name} |" + " {} |" * 6, tuple(map(str, values_of_row)))
    yield Quote(page, "Of the cases, {} have so many.", (str(of_stated["enough_spots"]["n_cases"]),))
    of = of_stated["interior"]
    yield Quote(page, "slide is too high in {} of {} cases", (str(of["n_above"]), str(of["n_cases"])))
    of = of_stated["few_spots"]
    yield Quote(page, "would be too high in {} of {} cases", (str(of["n_above"]), str(of["n_cases"])))
    yield Quote(
        page,
        "chosen on the truth, are {} cases, {} of them by more than two standard errors.",
        (str(found["cases_below"]), str(found["cases_behind"])),
    )
    yield Quote(
        page,
        "best single baseline**: {}; {} times the best baseline of each case.",
        (number(nats["ratio_to_best_single"], 2), number(nats["ratio_to_best_of_each_case"], 2)),
    )
    yield Table(page, "border", tuple(border_table(rows).replace("| srast |", "| default |").splitlines()))
    yield Table(page, "programs", tuple(program_table(rows).splitlines()))
    mean = program_table(rows).splitlines()[-1].split("|")
    flow, programs, best = (cell.split("/")[0].strip() for cell in mean[3:6])
    yield Quote(
        "docs/results/index.md",
        "gain {} nats per count (by the per-gene flow {}, best baseline of each case {}).",
        (programs, flow, best),
    )
    page = "docs/results/uncertainty.md"
    for kind, label in (
        ("multinomial_all", "multinomial, all pairs of a spot and a gene"),
        ("multinomial_deep", "multinomial, pairs of 10 counts or more"),
    ):
        before = {"multinomial_all": ("0.41", "0.85"), "multinomial_deep": ("0.29", "0.70")}[kind]
        value = number(found[f"coverage_80_{kind}"], 2)
        yield Quote(page, f"| {label} | {before[0]} | {{}} | {before[1]} |", (value,))
    yield Quote(page, "**calibrated, all pairs** | 0.52 | **{}** |", (number(found["coverage_80_calibrated_all"], 2),))
    yield Quote(
        page,
        "**calibrated, pairs of 10 counts or more** | 0.56 | **{}** |",
        (number(found["coverage_80_calibrated_deep"], 2),),
    )


def performance() -> Iterator[Quote | Table]:
    """Yield what docs/performance.md quotes of performance/*.json."""
    page = "docs/performance.md"

    def first(name: str, method: str = "srast") -> dict[str, Any]:
        return next(run for run in load(f"performance/{name}.json")["measurements"] if run["method"] == method)

    two, four = first("visium"), first("visium_factor_4")
    yield Quote(page, "20 genes, warm cache | {} s |", (number(two["region_seconds"], 1),))
    yield Quote(page, "a slide of 5,000 spots | {} s |", (number(two["first_region_seconds"], 0),))

    def size(run: dict[str, Any]) -> tuple[str, str]:
        return number(run["seconds"] + run["write_seconds"], 0), number(run["process_mb"] / 1000, 1)

    yield Quote(page, "factor 2, written | {} s, {} GB |", size(two))
    yield Quote(page, "the same at factor 4 | {} s, {} GB |", size(four))
    few = next(
        run
        for run in load("performance/sweep.json")["measurements"]
        if (run["method"], run["spots"], run["genes"]) == ("srast", 5000, 200)
    )
    yield Quote(
        "docs/faq.md",
        "on 5,000 spots, 18,000 genes took {} s and 200 genes {} s",
        (number(two["seconds"], 0), number(few["seconds"], 0)),
    )
    ratio = two["cpu_seconds"] / first("visium", "pycnophylactic")["cpu_seconds"]
    yield Quote(page, "over pycnophylactic interpolation's | {} times |", (number(ratio, 2),))
    runs = {run["spots"]: run for run in load("performance/growth.json")["measurements"] if run["method"] == "srast"}
    small, large = runs[25000], runs[100000]
    yield Quote(
        page,
        "100,000 against 25,000 spots | {} times the time, {} times the memory |",
        (number(large["seconds"] / small["seconds"], 1), number(large["process_mb"] / small["process_mb"], 2)),
    )


SOURCES: tuple[Callable[[], Iterator[Quote | Table]], ...] = (
    fine_truth,
    cells,
    high_resolution,
    histology,
    zero_shot,
    performance,
)


def quotes() -> list[Quote | Table]:
    """Return everything that pages quote."""
    return [quote for source in SOURCES for quote in source()]


def written(quote: Quote | Table, text: str) -> str:
    """Return the page with the numbers of a quote.

    Raises
    ------
    LookupError
        The page has no such sentence or table.
    """
    found = quote.pattern().search(text)
    if found is None:
        wanted = quote.text if isinstance(quote, Quote) else f"<!-- table {quote.name} -->"
        raise LookupError(f"{quote.page} has no '{wanted}'; change the page or docs/make_quotes.py")
    if isinstance(quote, Table):
        return text[: found.start(2)] + "\n".join(quote.lines) + text[found.end(2) :]
    for group in range(len(quote.values), 0, -1):
        text = text[: found.start(group)] + quote.values[group - 1] + text[found.end(group) :]
    return text


def update(check: bool = False) -> list[str]:
    """Write all pages, or only compare them, and return what differed."""
    differs = []
    for quote in quotes():
        path = ROOT / quote.page
        before = path.read_text(encoding="utf-8")
        after = written(quote, before)
        if after != before:
            differs.append(f"{quote.page}: {quote.text if isinstance(quote, Quote) else f'table {quote.name}'}")
            if not check:
                path.write_text(after, encoding="utf-8")
    return differs


if __name__ == "__main__":
    CHECK = "--check" in sys.argv[1:]
    DIFFERS = update(CHECK)
    print("\n".join(DIFFERS) or "All pages have the figures of their JSON files.")
    sys.exit(int(CHECK and bool(DIFFERS)))
