"""Draw scores on held-out studies: margins over the best baseline, means of all methods, coverage.

Rows are those of :func:`napari_srast.training.cross_validation.score_pseudo_slide`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.evaluation.coverage import COVERAGES
from napari_srast.evaluation.plots import figure_class, save_figures
from napari_srast.training.score_report import margin_error, mean_of_studies

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_score_plots"]

Row = Mapping[str, Any]


def write_score_plots(rows: Sequence[Row], directory: Path) -> list[Path]:
    """Draw the margins of all pseudo-slides, the means of all methods and the coverage, as PNG files.

    Parameters
    ----------
    rows
        Scored pseudo-slides.
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
    plots = {"margins.png": _draw_margins, "methods.png": _draw_methods, "coverage.png": _draw_coverage}
    return save_figures({name: draw(rows, figure_type) for name, draw in plots.items()}, directory)


def _draw_margins(rows: Sequence[Row], figure_type: type[Figure]) -> Figure:
    ordered = sorted(rows, key=lambda row: row["margin"])
    figure = figure_type(figsize=(8, 0.16 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    studies = sorted({row["study"] for row in rows})
    for i, row in enumerate(ordered):
        color = f"C{studies.index(row['study']) % 10}"
        axes.errorbar(row["margin"], i, xerr=2 * margin_error(row), fmt="o", markersize=3, color=color, linewidth=1)
    axes.axvline(0, color="k", linewidth=0.8)
    axes.set(yticks=range(len(rows)), xlabel="nats per count minus the best baseline's, ± 2 standard errors")
    axes.set_yticklabels([row["name"] for row in ordered], fontsize=5)
    return figure


def _draw_methods(rows: Sequence[Row], figure_type: type[Figure]) -> Figure:
    kinds = {"totals": "totals (density)", "composition": "composition"}
    methods = sorted(
        rows[0]["methods"], key=lambda m: mean_of_studies(rows, [r["methods"][m]["nats_per_count"] for r in rows])
    )
    figure = figure_type(figsize=(9, 0.35 * len(methods) + 1.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    position = np.arange(len(methods))
    for shift, (kind, label) in zip((-0.2, 0.2), kinds.items(), strict=True):
        values = [mean_of_studies(rows, [r["methods"][m][kind] for r in rows]) for m in methods]
        left.barh(position + shift, values, 0.38, label=label)
    left.set(yticks=position, yticklabels=methods, xlabel="nats per count over the uniform split")
    left.axvline(0, color="k", linewidth=0.8)
    left.legend(fontsize="small")
    pcc = [mean_of_studies(rows, [r["methods"][m]["within_spot_pcc"] for r in rows]) for m in methods]
    right.barh(position, pcc, 0.7, color="C2")
    right.set(xlabel="within-spot PCC, mean over genes")
    return figure


def _draw_coverage(rows: Sequence[Row], figure_type: type[Figure]) -> Figure:
    figure = figure_type(figsize=(7, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, group, title in zip(panels, ("all", "deep"), ("all pairs", "pairs of 10 counts or more"), strict=True):
        for kind, color in (("multinomial", "C7"), ("calibrated", "C0")):
            for row in rows:
                covered = np.array(row["coverage"][kind][group], dtype=float)  # None becomes NaN
                axes.plot(COVERAGES, covered, color=color, linewidth=0.4, alpha=0.5)
            mean = [mean_of_studies(rows, [r["coverage"][kind][group][i] for r in rows]) for i in range(len(COVERAGES))]
            axes.plot(COVERAGES, mean, "o-", color=color, label=kind)
        axes.plot([0, 1], [0, 1], "k:", linewidth=0.8)
        axes.set(xlim=(0.4, 1), ylim=(0, 1), xlabel="nominal coverage", title=title)
    panels[0].set_ylabel("fraction of true counts inside")
    panels[0].legend(fontsize="small")
    return figure
