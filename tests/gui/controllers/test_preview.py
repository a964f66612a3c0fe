"""Measured counts of a large slide, which are found in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.spot_layers import spot_colors
from helpers.window import PATIENCE, click, open_slide
from napari.layers import Image
from qtpy.QtCore import Qt

from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled
from napari_srast.gui.controllers import preview as module
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.layers.spot_preview import CountsPicture, counts_picture, gene_counts
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def _every_slide_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES_AT_ONCE", 0)


@pytest.fixture
def slow_search(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Searches for Gene3 wait for this event, and then ignore that they were stopped."""
    go_on = threading.Event()

    def search(slide: Slide, gene: str | None, should_stop: Callable[[], bool]) -> CountsPicture:
        if gene == "Gene3":
            go_on.wait(30)
        return counts_picture(slide, gene)

    monkeypatch.setattr(module, "counts_picture", search)
    return go_on


def _click_gene(qtbot: Any, widget: SRastWidget, gene: str) -> None:
    view, model = widget.gene_panel.view, widget.gene_panel.model
    index = model.index(model.listed.index(gene), 1)
    view.scrollTo(index)
    qtbot.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=view.visualRect(index).center())


def _wait_for(qtbot: Any, widget: SRastWidget, gene: str) -> None:
    qtbot.waitUntil(lambda: widget.gene_panel.preview.text().startswith(f"{gene}: 0 to "), timeout=PATIENCE)


def _spots(widget: SRastWidget) -> Any:
    return next(layer for layer in widget.controller.viewer.layers if role_of(layer) == "spots")


def _brightness(widget: SRastWidget, slide: Slide) -> np.ndarray:
    return spot_colors(_spots(widget), slide)[:, :3].sum(axis=1)


def test_bins_are_painted_with_the_gene_that_was_clicked_last(
    widget: SRastWidget, qtbot: Any, store: Path, slow_search: threading.Event
) -> None:
    slide = open_slide(qtbot, widget, store)
    counts = slide.counts.toarray()
    _wait_for(qtbot, widget, "All genes")
    assert isinstance(_spots(widget), Image)
    assert np.corrcoef(_brightness(widget, slide), counts.sum(axis=1))[0, 1] > 0.9
    _click_gene(qtbot, widget, "Gene3")
    assert widget.gene_panel.preview.text().startswith("All genes")  # what the bins still show
    _click_gene(qtbot, widget, "Gene4")
    _wait_for(qtbot, widget, "Gene4")
    slow_search.set()
    qtbot.wait(200)
    assert widget.gene_panel.preview.text().startswith("Gene4: ")
    assert np.corrcoef(_brightness(widget, slide), counts[:, 4])[0, 1] > 0.9


def test_search_ends_with_the_colors_and_with_the_slide(
    widget: SRastWidget, qtbot: Any, store: Path, slow_search: threading.Event
) -> None:
    slide = open_slide(qtbot, widget, store)
    _wait_for(qtbot, widget, "All genes")
    _click_gene(qtbot, widget, "Gene3")
    qtbot.mouseClick(widget.gene_panel.color_spots, Qt.MouseButton.LeftButton)
    slow_search.set()
    qtbot.wait(200)
    assert np.ptp(_brightness(widget, slide)) == 0
    assert widget.gene_panel.preview.text() == ""
    slow_search.clear()
    qtbot.mouseClick(widget.gene_panel.color_spots, Qt.MouseButton.LeftButton)
    click(qtbot, widget.slide_panel.close_slide)
    slow_search.set()
    qtbot.wait(200)
    assert len(widget.controller.viewer.layers) == 0
    assert widget.gene_panel.preview.text() == ""


def test_error_of_a_search_is_shown_where_the_counts_would_be(
    widget: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> CountsPicture:
        raise MemoryError

    open_slide(qtbot, widget, store)
    _wait_for(qtbot, widget, "All genes")
    monkeypatch.setattr(module, "counts_picture", fail)
    _click_gene(qtbot, widget, "Gene4")
    qtbot.waitUntil(lambda: "memory" in widget.gene_panel.preview.text(), timeout=PATIENCE)


def test_counts_of_a_gene_are_those_of_its_column(
    make_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = make_slide(7, 5, n_genes=6)
    monkeypatch.setattr("napari_srast.gui.layers.spot_preview._BLOCK", 11)
    for gene in range(6):
        np.testing.assert_array_equal(gene_counts(slide, f"Gene{gene}"), slide.counts.toarray()[:, gene])
    np.testing.assert_array_equal(gene_counts(slide, None), slide.counts.toarray().sum(axis=1))
    with pytest.raises(Cancelled):
        gene_counts(slide, "Gene1", lambda: True)
