"""The volcano plot of compared regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.planted import planted_slide

from napari_srast.analysis.comparison import compare_regions
from napari_srast.analysis.volcano import draw_changes, plot_changes
from napari_srast.core.region import Region
from napari_srast.errors import InputError, OutputError


def table_of(effect: list[float], error: list[float], names: list[str] | None = None) -> pd.DataFrame:
    values = np.array(effect)
    width = 2 * np.array(error)
    return pd.DataFrame(
        {
            "gene": names or [f"G{i}" for i in range(len(effect))],
            "log2_fold_change": values,
            "low": values - width,
            "high": values + width,
            "standard_error": error,
            "per_10000_$tumor": 1.0,
            "per_10000_rest": 1.0,
        }
    )


def points_of(figure: object) -> np.ndarray:
    offsets = [np.asarray(some.get_offsets()) for some in figure.axes[0].collections]  # type: ignore[attr-defined]
    return np.concatenate(offsets)


def test_height_is_the_effect_over_its_standard_error() -> None:
    figure = draw_changes(table_of([2.0, -1.0, 0.1, 0.0, 1.0], [0.5, 0.1, 0.2, 0.0, 0.0]))
    points = {round(float(x), 3): float(y) for x, y in points_of(figure)}
    assert points[2.0] == pytest.approx(4)
    assert points[-1.0] == pytest.approx(10)
    assert points[0.1] == pytest.approx(0.5)
    assert points[0.0] == 0  # no difference, and no variation
    assert points[1.0] == pytest.approx(11)  # without variation: above all others
    axes = figure.axes[0]
    assert axes.get_xlabel() == "log2 fold change: rest (left), $tumor (right)"
    assert "p-value" not in axes.get_ylabel()
    assert axes.get_title() == "3 of 5 genes: interval without 0"


def test_names_are_those_of_clear_genes_and_do_not_overlap() -> None:
    names = ["$A{", "same place", "B", "unclear"]
    figure = draw_changes(table_of([2.0, 2.0, -1.0, 0.1], [0.2, 0.2, 0.1, 0.5], names))
    assert [text.get_text() for text in figure.axes[0].texts] == ["$A{", "B"]
    assert draw_changes(table_of([2.0], [0.2]), labels=0).axes[0].texts[:] == []


def test_plot_of_compared_regions_is_written_with_its_note_and_equal_bytes(tmp_path: Path) -> None:
    region = Region.from_wkt("POLYGON ((-100 -100, 900 -100, 900 400, -100 400, -100 -100))")
    table = compare_regions(planted_slide(n=8), {"upper": region}, block=1)
    width = table["high"] - table["log2_fold_change"]
    assert (width / table["standard_error"]).round(6).nunique() == 1
    first = plot_changes(table, tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "no p-values" in " ".join(first.split())
    assert plot_changes(table, tmp_path / "b.svg").read_text(encoding="utf-8") == first
    for name in ("a.png", "a.pdf"):
        assert plot_changes(table, tmp_path / name).stat().st_size > 5000


def test_unusable_plots_are_refused(tmp_path: Path) -> None:
    table = table_of([1.0], [0.1])
    with pytest.raises(OutputError, match=r"\.png, \.pdf or \.svg"):
        plot_changes(table, tmp_path / "a.jpg")
    with pytest.raises(InputError, match="no column 'standard_error'"):
        plot_changes(table.drop(columns="standard_error"), tmp_path / "a.png")
    with pytest.raises(InputError, match="per_10000_"):
        plot_changes(table.drop(columns="per_10000_rest"), tmp_path / "a.png")
    plot_changes(table, tmp_path / "a.png")
    with pytest.raises(OutputError, match="exists already"):
        plot_changes(table, tmp_path / "a.png")
