"""The section that compares drawn regions: choices, table, files, and what is said about them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.planted import planted_slide
from helpers.window import PATIENCE, click, endless_work, wait_ready
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_srast.analysis.comparison import compare_regions
from napari_srast.core.region import Region
from napari_srast.gui.controllers import region_comparison as module
from napari_srast.gui.panels.region_comparison import ComparisonPanel
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget
from napari_srast.gui.widgets.plot_window import PlotWindow

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore")]

LEFT = np.array([[0, 0], [700, 0], [700, 1400], [0, 1400]], dtype=float)
RIGHT = LEFT + np.array([705, 0])


@pytest.fixture
def panel(widget: SRastWidget, qtbot: Any) -> ComparisonPanel:
    """The unfolded section with a slide of 14 x 14 spots, and its left and right half as regions."""
    widget.controller.slides.show(LoadedSlide(slide=planted_slide(n=14), source=None))
    wait_ready(qtbot, widget)
    regions = widget.controller.regions
    regions.add(LEFT)
    regions.add(RIGHT)
    left, right = (drawn.key for drawn, _ in regions.all())
    regions.edit([left], name="left")
    regions.edit([right], name="right")
    widget.tabs.setCurrentWidget(widget.result_panel)
    panel = widget.result_panel.comparison_panel
    click(qtbot, panel.section.header)
    return panel


def choose(box: Any, text: str) -> None:
    box.setCurrentText(text)
    assert box.currentText() == text
    box.activated.emit(box.currentIndex())


def compare(qtbot: Any, widget: SRastWidget, panel: ComparisonPanel, first: str, second: str) -> None:
    choose(panel.first, first)
    choose(panel.second, second)
    panel.block.setValue(3)
    click(qtbot, panel.start)
    wait_ready(qtbot, widget)


def items(box: Any) -> list[str]:
    return [box.itemText(i) for i in range(box.count())]


def column(panel: ComparisonPanel, number: int) -> list[str]:
    return [panel.model.data(panel.model.index(row, number)) for row in range(panel.model.rowCount())]


def test_two_regions_are_compared_as_in_python(widget: SRastWidget, qtbot: Any, panel: ComparisonPanel) -> None:
    assert items(panel.first) == ["left", "right"]
    assert items(panel.second) == ["all other spots", "left", "right"]
    compare(qtbot, widget, panel, "left", "right")
    slide = widget.controller.slides.slide
    regions = {name: Region.from_polygons([corners]) for name, corners in (("left", LEFT), ("right", RIGHT))}
    expected = compare_regions(slide, regions, block=3).sort_values("log2_fold_change", ascending=False, kind="stable")
    assert column(panel, 0) == list(expected["gene"])
    assert column(panel, 1) == [f"{value:+.2f}" for value in expected["log2_fold_change"]]
    first = expected.iloc[0]
    assert column(panel, 2)[0] == f"{first['low']:+.2f} to {first['high']:+.2f}"
    assert "left: 98 spots in" in panel.note.text()
    assert "no replicates, so there are no p-values" in panel.note.text()
    assert widget.run_bar.status.text().startswith("Compared left with right:")
    assert widget.controller.results.current is None  # it needs none


def test_one_region_is_compared_with_all_other_spots(widget: SRastWidget, qtbot: Any, panel: ComparisonPanel) -> None:
    compare(qtbot, widget, panel, "right", "all other spots")
    compared = widget.controller.region_comparison.current
    assert compared.table.attrs["spots"] == {"right": 98, "rest": 98}
    assert "all other spots: 98 spots" in panel.note.text()


def test_regions_of_a_class_are_compared_together(widget: SRastWidget, qtbot: Any, panel: ComparisonPanel) -> None:
    regions = widget.controller.regions
    regions.clear()
    for x in (0, 900):
        regions.add(np.array([[x, 0], [x + 500, 0], [x + 500, 1000], [x, 1000]]))
    regions.edit([drawn.key for drawn, _ in regions.all()], classification="tumor")
    assert "class tumor (2 regions)" in items(panel.first)
    compare(qtbot, widget, panel, "class tumor (2 regions)", "all other spots")
    assert widget.controller.region_comparison.current.table.attrs["spots"] == {"tumor": 100, "rest": 96}


def test_table_is_sorted_and_filtered(widget: SRastWidget, qtbot: Any, panel: ComparisonPanel) -> None:
    compare(qtbot, widget, panel, "left", "right")
    table = widget.controller.region_comparison.current.table
    header = panel.table.horizontalHeader()
    for section, expected in (
        (1, table.sort_values("log2_fold_change")["gene"]),
        (0, sorted(table["gene"])),
    ):
        at = header.sectionViewportPosition(section) + 20
        qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=header.rect().center().__class__(at, 8))
        assert column(panel, 0) == list(expected)
    panel.model.sort(2, Qt.SortOrder.DescendingOrder)
    assert column(panel, 0)[0] == table["gene"][0]  # the clearest difference
    qtbot.keyClicks(panel.filter, "g3")
    assert set(column(panel, 0)) == {name for name in table["gene"] if "3" in name and name.startswith("G3")}
    panel.filter.clear()
    gray = [
        panel.model.data(panel.model.index(row, 0), Qt.ItemDataRole.ForegroundRole) is not None
        for row in range(panel.model.rowCount())
    ]
    assert sum(gray) == int(((table["low"] <= 0) & (table["high"] >= 0)).sum()) > 0


def test_plot_and_table_are_saved(
    widget: SRastWidget, qtbot: Any, panel: ComparisonPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    compare(qtbot, widget, panel, "left", "right")
    answers = [
        (str(tmp_path / "changes.csv"), "*.csv"),
        (str(tmp_path / "a.svg"), "*.png"),
        (str(tmp_path / "b"), "*.pdf"),
    ]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: answers.pop(0))
    click(qtbot, panel.plot)
    wait_ready(qtbot, widget)
    (plot,) = panel.findChildren(PlotWindow)
    assert plot.isVisible()
    assert plot.windowTitle() == "left compared with right"
    assert plot.picture.pixmap().toImage().pixelColor(2, 2).name() == "#ffffff"
    compare(qtbot, widget, panel, "right", "left")  # the window keeps its comparison
    for control in (panel.save, plot.save, plot.save):
        click(qtbot, control)
        wait_ready(qtbot, widget)
        assert widget.run_bar.status.text().startswith("Saved to")
    assert sorted(path.name for path in tmp_path.glob("*.*") if path.is_file()) == ["a.svg", "b.pdf", "changes.csv"]
    saved, table = pd.read_csv(tmp_path / "changes.csv"), widget.controller.region_comparison.current.table
    pd.testing.assert_frame_equal(saved, table, check_exact=False, rtol=1e-12)
    assert "right (left), left (right)" in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "b.pdf").read_bytes().startswith(b"%PDF")
    answers.append((str(tmp_path / "changes.csv"), "*.csv"))
    click(qtbot, panel.save)
    wait_ready(qtbot, widget)
    assert "exists" in widget.run_bar.status.text()
    answers.append(("", ""))
    click(qtbot, plot.save)
    assert widget.controller.tasks.busy_reason() is None
    click(qtbot, plot.dismiss)
    qtbot.waitUntil(lambda: not panel.findChildren(PlotWindow), timeout=PATIENCE)


def test_missing_plot_package_is_named(
    widget: SRastWidget, qtbot: Any, panel: ComparisonPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(qtbot, widget, panel, "left", "right")
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    click(qtbot, panel.plot)
    wait_ready(qtbot, widget)
    assert "pip install" in widget.run_bar.status.text()
    assert panel.plot.isEnabled()


def test_disabled_controls_say_why(widget: SRastWidget, qtbot: Any, panel: ComparisonPanel) -> None:
    regions = widget.controller.regions
    for control in (panel.plot, panel.save, panel.table, panel.filter):
        assert not control.isEnabled()
        assert "Compare regions first." in control.toolTip()
    choose(panel.second, "left")
    assert not panel.start.isEnabled()
    assert "Choose two different regions." in panel.start.toolTip()
    regions.edit([drawn.key for drawn, _ in regions.all()], name="same")
    choose(panel.second, "same")
    panel.second.setCurrentIndex(2)
    panel.second.activated.emit(2)
    assert "rename one of them" in panel.start.toolTip()
    regions.clear()
    for control in (panel.first, panel.second, panel.start):
        assert not control.isEnabled()
        assert "Draw or load a region" in control.toolTip()
    widget.controller.slides.close()
    qtbot.waitUntil(lambda: "Open a slide first." in panel.start.toolTip(), timeout=10_000)


@pytest.mark.contract(
    section="In the window",
    case="regions are compared that share spots, or are too small for intervals",
    response="names the spots or blocks, and what to change; nothing is compared",
)
def test_regions_that_cannot_be_compared_are_explained(widget: SRastWidget, qtbot: Any, panel: ComparisonPanel) -> None:
    regions = widget.controller.regions
    regions.add(LEFT * 0.3)
    regions.edit([regions.all()[-1][0].key], name="small")
    compare(qtbot, widget, panel, "left", "small")
    assert "would be in both 'left' and 'small'; separate the regions" in widget.run_bar.status.text()
    compare(qtbot, widget, panel, "small", "right")
    assert "draw a larger region or choose smaller blocks" in widget.run_bar.status.text()
    assert widget.controller.region_comparison.current is None
    assert panel.start.isEnabled()


def test_a_changed_region_makes_the_comparison_outdated(
    widget: SRastWidget, qtbot: Any, panel: ComparisonPanel
) -> None:
    compare(qtbot, widget, panel, "left", "right")
    regions = widget.controller.regions
    regions.edit([regions.all()[0][0].key], color="#ff0000")
    assert "have changed" not in panel.note.text()
    regions.delete([regions.all()[0][0].key])
    assert panel.note.text().startswith("The regions have changed since; compare again.")
    regions.undo()
    assert "have changed" not in panel.note.text()


def test_comparison_can_be_canceled(
    widget: SRastWidget, qtbot: Any, panel: ComparisonPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, stopped = endless_work()
    monkeypatch.setattr(module, "compare_regions", work)
    click(qtbot, panel.start)
    assert widget.run_bar.status.text() == "Comparing the regions …"
    assert "in progress" in panel.start.toolTip()
    click(qtbot, widget.run_bar.cancel)
    assert widget.run_bar.status.text() == "Canceled. Nothing was changed."
    assert stopped.wait(30)
    assert widget.controller.region_comparison.current is None
    assert panel.start.isEnabled()


def test_each_slide_keeps_its_comparison(widget: SRastWidget, qtbot: Any, panel: ComparisonPanel) -> None:
    compare(qtbot, widget, panel, "left", "right")
    first = widget.controller.slides.current
    other = dataclasses.replace(planted_slide(n=5), spot_ids=np.array([f"t{i}" for i in range(25)], dtype=object))
    widget.controller.slides.show(LoadedSlide(slide=other, source=None))
    wait_ready(qtbot, widget)
    assert panel.model.rowCount() == 0
    assert panel.first.count() == 0
    widget.controller.slides.switch(first)
    assert panel.model.rowCount() == 40
    assert items(panel.first) == ["left", "right"]
