"""Slides of which several parts match: the window asks which one, and lists the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import spatialdata
from helpers.window import PATIENCE, click, open_slide, wait_ready
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QDialogButtonBox
from spatialdata.models import ShapesModel, TableModel

from napari_srast.gui.widget import SRastWidget
from napari_srast.gui.widgets.choice_dialog import ChoiceDialog
from napari_srast.gui.widgets.import_dialog import ImportDialog
from napari_srast.io.store import write_store

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore")]

ROW, COL = (a.ravel() for a in np.mgrid[:6, :6])
POINTS = np.column_stack([COL, ROW]) * 50.0


def _table(n: int, **obs: Any) -> anndata.AnnData:
    counts = np.random.default_rng(0).poisson(5, (n, 3)).astype(np.float32) + 1
    return anndata.AnnData(counts, obs=pd.DataFrame(obs, index=[f"s{i}" for i in range(n)]))


@pytest.fixture
def sections(tmp_path: Path) -> Path:
    """A store whose table has two overlapping sections, A and B, of 36 spots."""
    shapes = ShapesModel.parse(np.concatenate([POINTS, POINTS + 20]), geometry=0, radius=25)
    table = _table(
        72, sample=np.repeat(["A", "B"], 36), region=pd.Categorical(["spots"] * 72), instance_id=np.arange(72)
    )
    table = TableModel.parse(table, region="spots", region_key="region", instance_key="instance_id")
    path = tmp_path / "sections.zarr"
    write_store(spatialdata.SpatialData(shapes={"spots": shapes}, tables={"table": table}), path)
    return path


@pytest.fixture
def bins(tmp_path: Path) -> Path:
    """A store with bins of two sizes, each with a table of its own."""
    tables, shapes = {}, {}
    for name in ("bins_008um", "bins_016um"):
        table = _table(36, region=pd.Categorical([name] * 36), instance_id=np.arange(36))
        tables[f"{name}_table"] = TableModel.parse(table, region=name, region_key="region", instance_key="instance_id")
        shapes[name] = ShapesModel.parse(POINTS, geometry=0, radius=25)
    path = tmp_path / "bins.zarr"
    write_store(spatialdata.SpatialData(shapes=shapes, tables=tables), path)
    return path


def _answer(qtbot: Any, name: str | None, seen: list[list[str]], kind: type = ChoiceDialog) -> None:
    """Answer the next dialog with a name; None cancels it."""

    def act() -> None:
        dialog: Any = QApplication.activeModalWidget()
        if not isinstance(dialog, kind):  # it runs an event loop of its own, so a test cannot wait for it
            QTimer.singleShot(50, act)
            return
        if kind is ImportDialog:
            seen.append([])
            click(qtbot, dialog.accept_button)
            return
        names = [dialog.names.item(i).text() for i in range(dialog.names.count())]
        seen.append(names)
        if name is not None:
            dialog.names.setCurrentRow(names.index(name))
        kinds = QDialogButtonBox.StandardButton
        click(qtbot, dialog.buttons.button(kinds.Cancel if name is None else kinds.Ok))

    QTimer.singleShot(0, act)


def _choose(widget: SRastWidget, box: Any, name: str) -> None:
    box.setCurrentText(name)
    box.textActivated.emit(name)


@pytest.mark.contract(
    section="In the window",
    case="a slide with several sections, kinds of spots or tables",
    response="asks which one to open; Section, Spots and Table change the choice",
)
def test_section_is_asked_for_and_can_be_changed(widget: SRastWidget, qtbot: Any, sections: Path) -> None:
    seen: list[list[str]] = []
    _answer(qtbot, "B", seen)
    widget.open_path(sections)
    qtbot.waitUntil(lambda: bool(seen), timeout=PATIENCE)
    wait_ready(qtbot, widget)
    panel, slides = widget.slide_panel, widget.controller.slides
    assert seen == [["A", "B", "all"]]
    assert slides.slide is not None
    assert (slides.slide.n_spots, slides.slide.source.library) == (36, "B")
    np.testing.assert_allclose(slides.slide.centers.min(axis=0), 20)
    assert not panel.library.isHidden()
    assert [panel.library.itemText(i) for i in range(3)] == ["A", "B", "all"]
    assert panel.library.currentText() == "B"
    for name, spots in (("A", 36), ("all", 72)):
        _choose(widget, panel.library, name)
        wait_ready(qtbot, widget)
        assert slides.slide.n_spots == spots
        assert panel.library.currentText() == name
    assert len(slides.sessions) == 1


def test_nothing_is_opened_if_no_section_is_chosen(widget: SRastWidget, qtbot: Any, sections: Path) -> None:
    seen: list[list[str]] = []
    _answer(qtbot, None, seen)
    widget.open_path(sections)
    qtbot.waitUntil(lambda: "no part of it was chosen" in widget.run_bar.status.text(), timeout=PATIENCE)
    assert widget.controller.slides.slide is None
    assert widget.controller.tasks.busy_reason() is None


def test_bins_are_asked_for_and_bring_their_table(widget: SRastWidget, qtbot: Any, bins: Path) -> None:
    seen: list[list[str]] = []
    _answer(qtbot, "bins_008um", seen)
    widget.open_path(bins)
    qtbot.waitUntil(lambda: bool(seen), timeout=PATIENCE)
    wait_ready(qtbot, widget)
    assert [sorted(names) for names in seen] == [["bins_008um", "bins_016um"]]
    _choose(widget, widget.slide_panel.spots, "bins_016um")
    wait_ready(qtbot, widget)
    slide = widget.controller.slides.slide
    assert slide is not None
    assert (slide.source.spots, slide.source.table) == ("bins_016um", "bins_016um_table")
    assert widget.slide_panel.library.isHidden()


def test_import_asks_for_the_section(
    widget: SRastWidget, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = _table(72, sample=np.repeat(["A", "B"], 36))
    table.obsm["spatial"] = np.concatenate([POINTS, POINTS + 20])
    source = tmp_path / "BOTH.H5AD"
    table.write_h5ad(tmp_path / "both.h5ad")
    (tmp_path / "both.h5ad").rename(source)
    seen: list[list[str]] = []
    _answer(qtbot, None, seen, ImportDialog)
    widget.open_path(source)
    qtbot.waitUntil(lambda: len(seen) == 1, timeout=PATIENCE)
    _answer(qtbot, "A", seen)
    qtbot.waitUntil(lambda: len(seen) == 2, timeout=PATIENCE)
    wait_ready(qtbot, widget)
    assert seen[1] == ["A", "B", "all"]
    assert widget.controller.slides.slide is not None
    assert widget.controller.slides.slide.n_spots == 36


def test_napari_asks_for_the_section_of_a_file(open_window: Callable[[], Any], qtbot: Any, sections: Path) -> None:
    widget = open_window()
    seen: list[list[str]] = []
    _answer(qtbot, "A", seen)
    widget.controller.viewer.open(str(sections), plugin="napari-srast")
    wait_ready(qtbot, widget)
    assert seen == [["A", "B", "all"]]
    assert widget.controller.slides.slide.source.library == "A"


def test_slide_with_one_section_has_no_chooser(widget: SRastWidget, qtbot: Any, store: Path) -> None:
    open_slide(qtbot, widget, store)
    assert widget.slide_panel.library.isHidden()
