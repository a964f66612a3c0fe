"""Report an evaluation as JSON, as a table on the terminal and as plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_srast.errors import OutputError
from napari_srast.evaluation.fine_truth import FineEvaluation
from napari_srast.evaluation.plots import figure_class, save_figures
from napari_srast.evaluation.protocol import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

__all__ = ["evaluation_table", "write_json", "write_plots"]

_COLUMNS = (
    ("nats_per_count", "nats / count"),
    ("totals", "totals"),
    ("composition", "composition"),
    ("within_spot_pcc", "within-spot PCC"),
    ("seam_ratio", "seam ratio"),
    ("coverage_80", "80 % covers"),
    ("seconds", "seconds"),
)


def write_json(evaluation: Evaluation | FineEvaluation, path: str | Path) -> Path:
    """Write all scores as JSON.

    Parameters
    ----------
    evaluation
        The evaluation to write.
    path
        The file to write.

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    path = Path(path)
    try:
        path.write_text(json.dumps(evaluation.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written ({error.strerror}); choose another file.") from error
    return path


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return a table for the terminal with one row for each method, the best first."""
    from rich.table import Table

    table = Table(
        title=f"{evaluation.name}: {evaluation.n_spots} spots, {evaluation.n_pixels} pixels, "
        f"{len(evaluation.genes)} genes"
    )
    table.add_column("method")
    for _, title in _COLUMNS:
        table.add_column(title, justify="right")
    methods = evaluation.to_dict()["methods"]
    for method in _best_first(evaluation):
        scores = methods[method]
        cells = ["-" if scores[key] is None else f"{scores[key]:.4g}" for key, _ in _COLUMNS]
        table.add_row(method, *cells, style="bold" if method == "srast" else None)
    return table


def write_plots(evaluation: Evaluation, directory: str | Path) -> list[Path]:
    """Draw the scores of each method, also by gene depth, as PNG files.

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
    figures = {"methods.png": _draw_methods(evaluation, figure_type), "depth.png": _draw_depth(evaluation, figure_type)}
    return save_figures(figures, Path(directory), dpi=150)


def _best_first(evaluation: Evaluation) -> list[str]:
    return sorted(evaluation.scores, key=lambda method: -np.nan_to_num(evaluation.scores[method].nats_per_count))


def _draw_methods(evaluation: Evaluation, figure_type: type[Figure]) -> Figure:
    """Draw nats per count, split into totals and composition, and within-spot PCC."""
    methods = _best_first(evaluation)[::-1]
    scores = [evaluation.scores[method] for method in methods]
    figure = figure_type(figsize=(9, 0.4 * len(methods) + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    row = np.arange(len(methods))
    left.barh(row - 0.2, [s.totals for s in scores], 0.36, label="totals (density)", color="#7f7f7f")
    left.barh(row + 0.2, [s.composition for s in scores], 0.36, label="composition", color="#1f77b4")
    errors = [s.summary()["nats_per_count_se"] for s in scores]
    left.errorbar([s.nats_per_count for s in scores], row, xerr=errors, fmt="k|", label="sum, with standard error")
    left.set(yticks=row, yticklabels=methods, xlabel="nats per count over the uniform split")
    left.axvline(0, color="k", linewidth=0.8)
    left.legend(fontsize="small")
    right.barh(row, [s.within_spot_pcc for s in scores], 0.7, color="#2ca02c")
    right.set(xlabel="within-spot PCC, mean over genes")
    right.axvline(0, color="k", linewidth=0.8)
    figure.suptitle(evaluation.name)
    return figure


def _draw_depth(evaluation: Evaluation, figure_type: type[Figure]) -> Figure:
    """Draw nats per count of each method against the genes' mean counts per spot."""
    figure = figure_type(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for method in _best_first(evaluation):
        strata = evaluation.scores[method].strata()
        depth = [max(s.low, 0.03) * 3**0.5 for s in strata]
        width = 2.5 if method == "srast" else 1.0
        axes.plot(depth, [s.nats_per_count for s in strata], marker="o", label=method, linewidth=width)
    axes.axhline(0, color="k", linewidth=0.8)
    axes.set(xscale="log", xlabel="mean counts of a gene per spot", ylabel="nats per count over the uniform split")
    axes.legend(fontsize="small", ncols=2)
    axes.set_title(evaluation.name)
    return figure
