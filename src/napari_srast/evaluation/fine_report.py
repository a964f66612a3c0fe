"""Report an evaluation on fine truth as tables on the terminal and as a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_srast.evaluation.fine_truth import FineEvaluation
from napari_srast.evaluation.plots import figure_class, save_figures

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["fine_tables", "write_fine_plots"]

_CELL_COLUMNS = (
    ("nats_per_count", "nats / count"),
    ("totals", "totals"),
    ("composition", "composition"),
    ("genes_below_uniform", "genes below"),
    ("stated_skill", "stated"),
    ("achieved_skill", "achieved"),
    ("seconds", "seconds"),
)
_MAP_COLUMNS = (
    ("slide_nats", "slide nats"),
    ("pcc", "PCC"),
    ("pcc_scaled", "PCC, scaled"),
    ("ssim", "SSIM"),
    ("seam_ratio", "seam ratio"),
    ("coverage_80", "80 % covers"),
    ("coverage_80_high", "at 5 or more"),
)
_OF_COUNTS = ("slide_nats", "pcc", "pcc_scaled", "ssim", "seam_ratio")
_OF_EXPRESSION = {
    "slide_nats": "slide_nats_expression",
    "pcc": "pcc_expression",
    "pcc_scaled": "pcc_scaled_expression",
    "ssim": "ssim_expression",
    "seam_ratio": "seam_ratio_expression",
    "coverage_80": "coverage_80",
    "coverage_80_high": "coverage_80_high",
}


def fine_tables(evaluation: FineEvaluation) -> list[Table]:
    """Return tables for the terminal: scores inside spot cells, and scores of maps on the whole slide.

    Each method has a row for its mean, the best method first, and with several thinnings a row for each.
    """
    return [_cell_table(evaluation), _map_table(evaluation)]


def write_fine_plots(evaluation: FineEvaluation, directory: str | Path) -> list[Path]:
    """Draw cell nats by their parts and slide nats of each method as a PNG file.

    Parameters
    ----------
    evaluation
        The evaluation to draw.
    directory
        Folder to write to; it is created if it does not exist.

    Returns
    -------
    list of Path
        The written files.

    Raises
    ------
    OutputError
        Matplotlib is not installed, or the directory cannot be written.
    """
    figure_type = figure_class()
    methods = _best_first(evaluation)[::-1]
    means = [evaluation.mean(method) for method in methods]
    figure = figure_type(figsize=(9, 0.5 * len(methods) + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    row = np.arange(len(methods))
    left.barh(row - 0.2, [mean["totals"] for mean in means], 0.36, label="totals (density)", color="#7f7f7f")
    left.barh(row + 0.2, [mean["composition"] for mean in means], 0.36, label="composition", color="#1f77b4")
    for i, method in enumerate(methods):
        for j, scores in enumerate(evaluation.scores[method]):
            label = "sum, one mark for each thinning" if i == j == 0 else None
            left.plot(scores.nats_per_count, row[i], "k|", markersize=12, label=label)
    left.set(yticks=row, yticklabels=methods, xlabel="nats per count over the uniform split of each spot")
    left.axvline(0, color="k", linewidth=0.8)
    left.legend(fontsize="small")
    right.barh(row - 0.2, [mean["slide_nats"] for mean in means], 0.36, label="counts", color="#2ca02c")
    expression = np.nan_to_num([mean["slide_nats_expression"] for mean in means])
    right.barh(row + 0.2, expression, 0.36, label="expression", color="#d62728")
    right.set(xlabel="nats per count over a flat map of the slide")
    right.legend(fontsize="small")
    figure.suptitle(evaluation.name)
    return save_figures({"fine_truth.png": figure}, Path(directory), dpi=150)


def _best_first(evaluation: FineEvaluation) -> list[str]:
    return sorted(evaluation.scores, key=lambda method: -np.nan_to_num(evaluation.mean(method)["nats_per_count"]))


def _cell_table(evaluation: FineEvaluation) -> Table:
    settings = evaluation.settings
    spots = "whole cells" if settings["spot_diameter"] is None else f"discs of {settings['spot_diameter']:g}"
    table = _table(
        f"{evaluation.name}: {evaluation.n_spots} spots ({spots}, pitch {settings['pitch']:g}), {evaluation.n_pixels} "
        f"pixels of {settings['pixel_size']:.4g}, {len(evaluation.genes)} genes. Held-out counts inside spots; truth: "
        f"{settings['truth']}",
        _CELL_COLUMNS,
    )
    for method in _best_first(evaluation):
        for label, summary, style in _rows(evaluation, method):
            table.add_row(label, *(_text(summary[key]) for key, _ in _CELL_COLUMNS), style=style)
    return table


def _map_table(evaluation: FineEvaluation) -> Table:
    table = _table("Held-out counts on the whole slide, by counts and by expression", _MAP_COLUMNS)
    for method in _best_first(evaluation):
        for label, summary, style in _rows(evaluation, method):
            cells = [_text(summary[key]) if key in _OF_COUNTS else "-" for key, _ in _MAP_COLUMNS]
            table.add_row(f"{label}, counts", *cells, style=style)
            if np.isfinite(summary["slide_nats_expression"]):
                cells = [_text(summary[_OF_EXPRESSION[key]]) for key, _ in _MAP_COLUMNS]
                table.add_row(f"{label}, expression", *cells, style=style)
    truth = evaluation.to_dict()["truth"]
    table.add_section()
    for label, key, value in (
        ("noise ceiling", "pcc", truth["pcc_ceiling"]),
        ("other half", "ssim", truth["ssim_other_half"]),
        ("held-out half", "seam_ratio", truth["seam_ratio"]),
    ):
        table.add_row(label, *(_text(value) if column == key else "-" for column, _ in _MAP_COLUMNS))
    return table


def _table(title: str, columns: tuple[tuple[str, str], ...]) -> Table:
    from rich.table import Table

    table = Table(title=title)
    table.add_column("method", no_wrap=True)
    for _, heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _rows(evaluation: FineEvaluation, method: str) -> Iterator[tuple[str, Mapping[str, float], str | None]]:
    """Yield label, scores and style of a method's mean and, if there are several, of its thinnings."""
    yield method, evaluation.mean(method), "bold" if method == "srast" else None
    thinnings = evaluation.scores[method]
    for i, scores in enumerate(thinnings if len(thinnings) > 1 else ()):
        yield f"  thinning {i + 1}", scores.summary(), "dim"


def _text(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.4g}"
