"""Draw the comparison of two regions as a volcano plot, whose height is no p-value.

The height of a gene is its effect size over its standard error, from the bootstrap of blocks: how clearly this slide
determines the difference. Spots of one slide are no replicates, so a height is no evidence for other donors.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_srast.errors import InputError, OutputError
from napari_srast.evaluation.plots import figure_class
from napari_srast.io.atomic import atomic_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PLOT_FORMATS", "draw_changes", "plot_changes"]

PLOT_FORMATS = (".png", ".pdf", ".svg")
_COLUMNS = ("gene", "log2_fold_change", "low", "high", "standard_error")
_PREFIX = "per_10000_"
_COLORS = {"higher": "#c2410c", "lower": "#1d4ed8", "unclear": "#9aa0a6"}
_NOTE_WIDTH = 105  # letters
# Text stays text, so that it can be edited in PDF and SVG; equal tables give equal bytes.
_STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,  # a name may have dollar signs
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "napari-srast",
}
_METADATA: dict[str, Any] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {"Software": None}}


def plot_changes(table: pd.DataFrame, path: str | Path, *, labels: int = 15) -> Path:
    """Write a volcano plot of compared regions.

    Each gene is a point at its log2 fold change and at that over its standard error. Genes whose interval excludes 0
    are colored. The plot states that it shows no p-values.

    Parameters
    ----------
    table
        Table that :func:`napari_srast.compare_regions` returned.
    path
        New file: ``.png``, ``.pdf`` or ``.svg``.
    labels
        Largest number of genes with names: those whose intervals are farthest from 0. Names that would overlap others
        are left out.

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    InputError
        The table has other columns.
    OutputError
        The path has another ending, exists already or cannot be written, or matplotlib is not installed.

    Examples
    --------
    >>> import napari_srast as srast
    >>> table = srast.compare_regions(slide, {"tumor": tumor, "stroma": stroma})  # doctest: +SKIP
    >>> srast.plot_changes(table, "changes.png")  # doctest: +SKIP
    """
    path = Path(path)
    ending = path.suffix.casefold()
    if ending not in PLOT_FORMATS:
        raise OutputError(f"A plot cannot be written as '{path.name}'; choose .png, .pdf or .svg.")
    figure = draw_changes(table, labels=labels)
    from matplotlib import rc_context

    with atomic_output(path) as partial, rc_context(_STYLE):
        figure.savefig(partial, format=ending[1:], dpi=200, metadata=_METADATA[ending])
    return path


def draw_changes(table: pd.DataFrame, *, labels: int = 15) -> Figure:
    """Return the figure of :func:`plot_changes`; see there for the parameters."""
    missing = [name for name in _COLUMNS if name not in table]
    if missing:
        raise InputError(f"The table has no column '{missing[0]}'; plot a table that compare_regions returned.")
    figure_type = figure_class()
    from matplotlib import rc_context

    effect, error = (table[name].to_numpy(dtype=float) for name in ("log2_fold_change", "standard_error"))
    with np.errstate(divide="ignore", invalid="ignore"):
        height = np.where(effect == 0, 0.0, np.abs(effect) / error)
    is_infinite = np.isinf(height)  # a difference without any variation between the blocks
    top = float(height[~is_infinite].max(initial=1.0))
    height = np.where(is_infinite, 1.1 * top, height)
    kinds = np.where(table["low"] > 0, "higher", np.where(table["high"] < 0, "lower", "unclear"))
    first, second = _names(table)
    with rc_context(_STYLE):
        figure = figure_type(figsize=(6.4, 5.4), layout="constrained")
        axes = figure.add_subplot()
        for kind, color in _COLORS.items():
            for chosen, marker in ((~is_infinite, "o"), (is_infinite, "^")):
                some = (kinds == kind) & chosen
                axes.scatter(effect[some], height[some], s=12, c=color, marker=marker, linewidths=0, alpha=0.8)
        axes.axvline(0, color="#d0d4da", linewidth=0.8, zorder=0)
        axes.set_xlabel(f"log2 fold change: {second} (left), {first} (right)")
        axes.set_ylabel("|log2 fold change| / standard error (blocks of spots)")
        axes.spines[["top", "right"]].set_visible(False)
        reach = 1.15 * float(np.abs(effect).max(initial=0.1))
        axes.set(xlim=(-reach, reach), ylim=(0, 1.2 * top))
        n_clear = int((kinds != "unclear").sum())
        title = f"{n_clear:,} of {len(table):,} genes: interval without 0"
        axes.set_title(title, fontsize=10)
        note = str(table.attrs.get("note", "")) or "Spots of one slide are no replicates; the heights are no p-values."
        figure.supxlabel("\n".join(textwrap.wrap(note, _NOTE_WIDTH)), fontsize=7, color="#5b6270")
        order = np.argsort(-(np.abs(effect) - (table["high"].to_numpy() - effect)), kind="stable")
        named = [int(i) for i in order[:labels] if kinds[i] != "unclear"]
        _name_points(axes, np.column_stack([effect, height])[named], table["gene"].astype(str).iloc[named].tolist())
    return figure


def _names(table: pd.DataFrame) -> tuple[str, str]:
    """Return the names of the two regions."""
    names = [str(name)[len(_PREFIX) :] for name in table.columns if str(name).startswith(_PREFIX)]
    if len(names) != 2:
        raise InputError(f"The table has no two columns '{_PREFIX}...'; plot a table that compare_regions returned.")
    return names[0], names[1]


def _name_points(axes: Axes, points: np.ndarray, names: list[str]) -> None:
    """Write names next to points, from the first to the last, without those that overlap an earlier one."""
    figure: Any = axes.figure
    figure.draw_without_rendering()  # places the axes
    taken: list[Any] = []
    for point, name in zip(points, names, strict=True):
        text = axes.annotate(
            name,
            point,
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=7,
            fontstyle="italic",
            annotation_clip=False,
        )
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            text.set_in_layout(False)
            taken.append(box)
