"""The list of genes in Prepare: order and headings, with real mouse events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.spot_layers import spot_colors
from helpers.window import PATIENCE, SQUARE, open_slide, run, use_fast_method, visible
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QStyle, QTableView

from napari_srast.core.mass_balance import gene_totals
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.state.spatial_structure import interest_order, spatial_structure
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


def _click_heading(qtbot: Any, view: QTableView, column: int) -> None:
    header = view.horizontalHeader()
    position = QPoint(header.sectionViewportPosition(column) + 8, header.height() // 2)
    qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=position)


def test_genes_stay_sorted_when_the_slide_changes(
    widget: SRastWidget, qtbot: Any, write_slide: Callable[..., Path]
) -> None:
    panel, slides = widget.gene_panel, widget.controller.slides
    open_slide(qtbot, widget, write_slide(name="one"))
    _click_heading(qtbot, panel.view, 1)
    open_slide(qtbot, widget, write_slide(name="two", seed=1))
    for session in reversed(slides.sessions):
        slides.switch(session)
        totals = dict(zip(session.slide.genes, session.slide.counts.sum(axis=0).A1, strict=True))
        listed = [totals[gene] for gene in panel.model.listed]
        assert listed == sorted(totals.values(), reverse=True)
        assert panel.view.horizontalHeader().sortIndicatorSection() == 1


def test_structure_of_a_large_slide_is_listed_when_it_is_known(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Event()

    def structure_later(slide: Slide, should_stop: Callable[[], bool] | None = None) -> np.ndarray:
        assert waiting.wait(60)
        return spatial_structure(slide, should_stop)

    monkeypatch.setattr("napari_srast.gui.state.slide_loading._ENTRIES_AT_ONCE", 0)
    monkeypatch.setattr("napari_srast.gui.panels.genes.spatial_structure", structure_later)
    slide, panel = open_slide(qtbot, widget, store), widget.gene_panel
    model, loaded = panel.model, widget.controller.slides.loaded
    assert loaded is not None
    assert loaded.structure is None
    assert model.columnCount() == 2  # without Moran's I
    assert model.listed == list(slide.genes)
    model.check(["Gene3"])
    _click_gene(qtbot, widget, "Gene7")
    waiting.set()
    qtbot.waitUntil(lambda: model.columnCount() == 3, timeout=PATIENCE)
    structure = spatial_structure(slide)
    order = interest_order(slide.genes, structure)
    assert model.listed == [str(slide.genes[gene]) for gene in order]
    np.testing.assert_array_equal(widget.controller.slides.loaded.structure, structure)
    assert model.checked == ["Gene3"]
    assert model.gene_at(panel.view.currentIndex()) == widget.controller.preview.gene == "Gene7"


def test_structure_of_a_closed_slide_is_not_waited_for(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, stopped = threading.Event(), threading.Event()

    def structure(slide: Slide, should_stop: Callable[[], bool]) -> np.ndarray:
        started.set()
        while not should_stop():
            time.sleep(0.01)
        stopped.set()
        raise Cancelled

    monkeypatch.setattr("napari_srast.gui.state.slide_loading._ENTRIES_AT_ONCE", 0)
    monkeypatch.setattr("napari_srast.gui.panels.genes.spatial_structure", structure)
    open_slide(qtbot, widget, store)
    qtbot.waitUntil(started.is_set, timeout=PATIENCE)
    widget.controller.slides.close()
    assert stopped.wait(60)
    assert widget.gene_panel.model.n_genes == 0


def test_unknown_totals_of_a_large_slide_are_summed_outside_the_gui_thread(
    widget: SRastWidget, qtbot: Any, make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def observed(counts: Any) -> np.ndarray:
        threads.append(threading.current_thread())
        return gene_totals(counts)

    monkeypatch.setattr("napari_srast.gui.state.spatial_structure._SUMMED_AT_ONCE", 0)
    monkeypatch.setattr("napari_srast.gui.state.spatial_structure.gene_totals", observed)
    monkeypatch.setattr("napari_srast.gui.panels.genes.gene_totals", observed)
    slide, model = make_slide(6, 6), widget.gene_panel.model
    widget.controller.slides.show(LoadedSlide(slide=slide, source=None))
    assert model.listed == list(slide.genes)
    qtbot.waitUntil(lambda: model.columnCount() == 3, timeout=PATIENCE)
    assert threads
    assert threading.main_thread() not in threads
    loaded = widget.controller.slides.loaded
    assert loaded is not None
    np.testing.assert_array_equal(loaded.totals, gene_totals(slide.counts))


def test_headings_fit_next_to_the_arrow_of_the_sorted_column(widget: SRastWidget, qtbot: Any, store: Path) -> None:
    open_slide(qtbot, widget, store)
    header = widget.gene_panel.view.horizontalHeader()
    for column in range(1, header.count()):
        _click_heading(qtbot, widget.gene_panel.view, column)
        title = str(header.model().headerData(column, Qt.Orientation.Horizontal))
        arrow = header.style().pixelMetric(QStyle.PixelMetric.PM_HeaderMarkSize, None, header)
        assert header.fontMetrics().horizontalAdvance(title) + min(arrow, 12) < header.sectionSize(column)


def _spots(widget: SRastWidget) -> Any:
    return next(layer for layer in widget.controller.viewer.layers if role_of(layer) == "spots")


def _click_gene(qtbot: Any, widget: SRastWidget, gene: str) -> None:
    view, model = widget.gene_panel.view, widget.gene_panel.model
    index = model.index(model.listed.index(gene), 1)  # next to the name, which would also tick the gene
    view.scrollTo(index)
    qtbot.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=view.visualRect(index).center())


def _brightness(layer: Any, slide: Slide) -> np.ndarray:
    return spot_colors(layer, slide)[:, :3].sum(axis=1)


def test_clicking_a_gene_shows_its_measured_counts(widget: SRastWidget, qtbot: Any, store: Path) -> None:
    slide = open_slide(qtbot, widget, store)
    counts = slide.counts.toarray()
    spots = _spots(widget)
    assert np.corrcoef(_brightness(spots, slide), counts.sum(axis=1))[0, 1] > 0.9  # all genes at first
    assert widget.gene_panel.preview.text().startswith("All genes: 0 to ")
    _click_gene(qtbot, widget, "Gene7")
    assert np.corrcoef(_brightness(spots, slide), counts[:, 7])[0, 1] > 0.9
    assert widget.gene_panel.preview.text().startswith("Gene7: ")
    assert widget.gene_panel.model.checked == []
    qtbot.mouseClick(widget.gene_panel.color_spots, Qt.MouseButton.LeftButton)
    assert np.ptp(_brightness(spots, slide)) == 0
    assert f"Median {np.median(counts.sum(axis=1)):,.0f} counts" in widget.slide_panel.about.text()


def test_measured_counts_replace_the_result_until_it_is_explored(widget: SRastWidget, qtbot: Any, store: Path) -> None:
    open_slide(qtbot, widget, store)
    widget.controller.regions.add(SQUARE)
    widget.gene_panel.model.check(["Gene3"])
    use_fast_method(widget)
    run(qtbot, widget)
    spots = _spots(widget)
    assert not spots.visible
    widget.tabs.setCurrentIndex(0)
    _click_gene(qtbot, widget, "Gene7")
    assert spots.visible
    assert visible(widget) == []
    widget.tabs.setCurrentIndex(1)
    assert not spots.visible
    assert visible(widget) == ["Gene3"]
