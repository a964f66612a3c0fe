from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import spatialdata
from helpers.planted import planted_slide
from helpers.results import make_result, with_expression
from helpers.window import (
    PATIENCE,
    click,
    endless_work,
    open_slide,
    run,
    show_result,
    use_fast_method,
    wait_ready,
    wait_shown,
)
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QInputDialog

from napari_srast.analysis.domains import Domains, domains
from napari_srast.core.result import UpsampleResult
from napari_srast.gui.controllers import domains as module
from napari_srast.gui.widget import SRastWidget
from napari_srast.io.result_writer import write_result

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def shown(widget: SRastWidget, qtbot: Any) -> Any:
    """The domains panel with a result of the planted slide."""
    pytest.importorskip("igraph")
    slide = planted_slide(n=8)
    result = with_expression(make_result(slide), range(40))
    return show_result(qtbot, widget, slide, result, widget.result_panel.domain_panel)


def find(qtbot: Any, widget: SRastWidget, panel: Any, number: int) -> None:
    panel.number.setValue(number)
    click(qtbot, panel.start)
    wait_ready(qtbot, widget)


def test_domains_are_found_shown_named_and_merged(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    maps = widget.controller.domains
    assert not shown.merge.isEnabled()
    find(qtbot, widget, shown, 4)
    found = maps.current
    assert shown.table.rowCount() == len(found.sizes) > 2
    assert maps.layer in widget.controller.viewer.layers
    np.testing.assert_array_equal(maps.layer.data, found.image())
    corner = np.array(maps.layer.data_to_world((-0.5, -0.5)))[::-1]
    np.testing.assert_allclose(corner, found.result.raster.affine[:2, 2], atol=1e-6)
    assert "same counts" in shown.note.text()
    shown.table.item(0, 0).setText("stroma")
    assert maps.current.labels.categories[0] == "stroma"
    shown.table.item(1, 0).setText("stroma")
    assert shown.table.item(1, 0).text() == "2"  # refused
    shown.table.selectRow(0)
    shown.table.setSelectionMode(shown.table.SelectionMode.MultiSelection)
    shown.table.selectRow(1)
    click(qtbot, shown.merge)
    wait_ready(qtbot, widget)
    assert len(maps.current.sizes) == len(found.sizes) - 1
    assert maps.current.sizes.iloc[0] == found.sizes.iloc[:2].sum()
    assert maps.current.labels.categories[0] == "stroma"


def type_into(qtbot: Any, spin: Any, text: str) -> None:
    """Replace the value of a spin box by typing."""
    spin.setFocus()
    spin.selectAll()
    qtbot.keyClicks(spin, text)
    qtbot.keyClick(spin, Qt.Key.Key_Return)


def test_domains_are_found_at_the_typed_resolution_by_the_typed_genes(
    widget: SRastWidget, qtbot: Any, shown: Any
) -> None:
    result, maps = widget.controller.results.current.result, widget.controller.domains
    type_into(qtbot, shown.resolution, "0.3")
    qtbot.keyClicks(shown.genes, "G1, G2, G5")
    click(qtbot, shown.start)
    wait_ready(qtbot, widget)
    expected = domains(result, resolution=0.3, genes=["G1", "G2", "G5"])
    assert (maps.current.resolution, maps.current.genes) == (0.3, ("G1", "G2", "G5"))
    np.testing.assert_array_equal(maps.current.labels.codes, expected.labels.codes)
    assert shown.note.text().startswith("By 3 genes at resolution 0.3.")
    shown.genes.clear()
    type_into(qtbot, shown.resolution, "5")
    click(qtbot, shown.start)
    wait_ready(qtbot, widget)
    assert len(maps.current.sizes) > len(expected.sizes)
    assert shown.note.text().startswith("By 40 genes at resolution 5.")


def test_resolution_has_no_effect_on_a_number_of_domains(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    assert shown.number.text() == "auto"
    assert shown.resolution.isEnabled()
    type_into(qtbot, shown.number, "3")
    assert shown.number.text() == "3 domains"
    assert not shown.resolution.isEnabled()
    assert "is searched for the number of domains" in shown.resolution.toolTip()
    click(qtbot, shown.start)
    wait_ready(qtbot, widget)
    assert len(widget.controller.domains.current.sizes) == 3
    shown.number.setFocus()
    for _ in range(2):
        qtbot.keyClick(shown.number, Qt.Key.Key_Down)
    assert shown.number.text() == "auto"
    assert shown.resolution.isEnabled()


def test_wrong_genes_are_named(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    qtbot.keyClicks(shown.genes, "G1,,G2")
    assert not shown.start.isEnabled()
    assert "A name in the list of genes is empty" in shown.start.toolTip()
    shown.genes.clear()
    qtbot.keyClicks(shown.genes, "G1, Nothing")
    click(qtbot, shown.start)
    wait_ready(qtbot, widget)
    assert "no gene 'Nothing'" in widget.run_bar.status.text()
    assert widget.controller.domains.current is None


def test_markers_are_saved_as_a_table(
    widget: SRastWidget, qtbot: Any, shown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not shown.markers.isEnabled()
    find(qtbot, widget, shown, 3)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "markers"), "CSV (*.csv)"))
    click(qtbot, shown.markers)
    wait_ready(qtbot, widget)
    assert widget.run_bar.status.text() == f"Saved to {tmp_path / 'markers.csv'}"
    table = pd.read_csv(tmp_path / "markers.csv", dtype={"domain": str})
    assert list(table["gene"]) == list(widget.controller.domains.current.markers["gene"])


def test_outlines_and_hiding_change_the_layer_and_removal_is_noticed(
    widget: SRastWidget, qtbot: Any, shown: Any
) -> None:
    find(qtbot, widget, shown, 3)
    maps, layers = widget.controller.domains, widget.controller.viewer.layers
    for text, contour, visible in (("Outlines", 1, True), ("Hidden", 0, False), ("Fill", 0, True)):
        shown.display.setCurrentText(text)
        shown.display.activated.emit(shown.display.currentIndex())
        assert (maps.layer.contour, maps.layer.visible) == (contour, visible)
    layers.remove(maps.layer)
    assert maps.layer is None
    shown.display.activated.emit(shown.display.currentIndex())
    assert maps.layer in layers
    layers.remove(maps.layer)
    find(qtbot, widget, shown, 3)
    widget.controller.results.drop()
    assert maps.layer is None
    assert not any(layer.name == "SRast domains" for layer in layers)
    assert shown.table.rowCount() == 0
    assert not shown.start.isEnabled()


@pytest.fixture
def saved(widget: SRastWidget, qtbot: Any, write_slide: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Any]:
    """The store of a slide whose result has domains, and the result; neither is saved yet."""
    pytest.importorskip("igraph")
    monkeypatch.setattr(widget, "confirm_whole_slide", lambda text: True)
    store = write_slide()
    open_slide(qtbot, widget, store)
    use_fast_method(widget)
    result = run(qtbot, widget)
    panel = widget.result_panel.domain_panel
    click(qtbot, panel.section.header)
    find(qtbot, widget, panel, 2)
    return store, result


def save(
    qtbot: Any, widget: SRastWidget, monkeypatch: pytest.MonkeyPatch, name: str, *, is_confirmed: bool = True
) -> str:
    """Save the domains under a name, and return what the status line says."""
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (name, is_confirmed))
    click(qtbot, widget.result_panel.domain_panel.save)
    wait_ready(qtbot, widget)
    return str(widget.run_bar.status.text())


def test_domains_are_saved_in_the_store_that_holds_the_result(
    widget: SRastWidget, qtbot: Any, saved: tuple[Path, UpsampleResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, result = saved
    before = sorted(store.rglob("*"))
    assert "holds no run" in save(qtbot, widget, monkeypatch, "domains")
    assert sorted(store.rglob("*")) == before
    widget.controller.results.export(None)
    wait_ready(qtbot, widget)
    save(qtbot, widget, monkeypatch, "domains", is_confirmed=False)
    assert "Added 'domains'" in save(qtbot, widget, monkeypatch, "domains")
    widget.controller.domains.rename("1", "stroma")
    assert "already holds 'domains'" in save(qtbot, widget, monkeypatch, "domains")
    assert "Added 'named'" in save(qtbot, widget, monkeypatch, " named ")
    obs = spatialdata.read_zarr(store).tables[f"srast_{result.run}_table"].obs
    assert obs["domains"].cat.categories[0] == "1"
    assert obs["named"].cat.categories[0] == "stroma"


def reopened(qtbot: Any, widget: SRastWidget, store: Path) -> Any:
    """Close the slide, open it again with its saved result, and return the panel of the domains."""
    controller = widget.controller
    controller.slides.close()
    open_slide(qtbot, widget, store)
    results = widget.result_panel.results
    index = next(i for i in range(results.count()) if results.itemText(i).startswith("saved:"))
    results.activated.emit(index)
    wait_ready(qtbot, widget)
    wait_shown(qtbot, widget)
    return widget.result_panel.domain_panel


def choose(panel: Any, text: str) -> None:
    panel.sets.setCurrentText(text)
    panel.sets.activated.emit(panel.sets.currentIndex())


def test_saved_domains_are_shown_again_with_their_result(
    widget: SRastWidget, qtbot: Any, saved: tuple[Path, UpsampleResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = saved
    maps, panel = widget.controller.domains, widget.result_panel.domain_panel
    widget.controller.results.export(None)
    wait_ready(qtbot, widget)
    assert panel.sets.isHidden()
    save(qtbot, widget, monkeypatch, "first")
    maps.rename("1", "stroma")
    save(qtbot, widget, monkeypatch, "second")
    codes, names = maps.current.labels.codes, list(maps.current.labels.categories)
    monkeypatch.setattr(module, "domains", lambda *_, **__: pytest.fail("the domains were found again"))
    panel = reopened(qtbot, widget, store)
    assert maps.chosen == "second"
    np.testing.assert_array_equal(maps.current.labels.codes, codes)
    assert [panel.table.item(row, 0).text() for row in range(panel.table.rowCount())] == names
    assert maps.layer in widget.controller.viewer.layers
    np.testing.assert_array_equal(maps.layer.data, maps.current.image())
    assert [panel.sets.itemText(i) for i in range(panel.sets.count())] == ["saved: first", "saved: second"]
    choose(panel, "saved: first")
    assert panel.table.item(0, 0).text() == "1"
    panel.table.item(0, 0).setText("tumor")
    assert panel.sets.currentText() == "not saved"
    choose(panel, "saved: second")
    assert panel.table.item(0, 0).text() == "stroma"
    choose(panel, "not saved")
    assert panel.table.item(0, 0).text() == "tumor"


def test_saved_domains_are_shown_with_a_store_that_holds_only_results(
    widget: SRastWidget, qtbot: Any, tmp_path: Path
) -> None:
    pytest.importorskip("igraph")
    result = with_expression(make_result(planted_slide(n=6)), range(40))
    store = write_result(result, tmp_path / "fine.zarr")
    domains(result, n_domains=3).write(store)
    widget.open_path(store)
    qtbot.waitUntil(lambda: widget.controller.results.current is not None, timeout=PATIENCE)
    wait_shown(qtbot, widget)
    assert widget.controller.domains.chosen == "domains"
    assert widget.controller.domains.current.result is widget.controller.results.current.result


@pytest.mark.contract(
    section="In the window",
    case="a saved set of domains is damaged",
    response="named in one sentence; the result opens without it",
)
def test_damaged_domains_are_named_and_the_result_opens(
    widget: SRastWidget, qtbot: Any, saved: tuple[Path, UpsampleResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, result = saved
    widget.controller.results.export(None)
    wait_ready(qtbot, widget)
    save(qtbot, widget, monkeypatch, "good")
    save(qtbot, widget, monkeypatch, "bad")
    for file in (store / "tables" / f"srast_{result.run}_table" / "obs" / "bad" / "codes").rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            file.write_bytes(b"damaged")
    reopened(qtbot, widget, store)
    assert widget.controller.results.current.result.run == result.run
    assert "'bad' of run" in widget.run_bar.status.text()
    assert widget.controller.domains.saved == ["good"]


@pytest.mark.contract(
    section="In the window",
    case="a column that another program added to a saved result is damaged",
    response="named in one sentence; the result opens without it",
)
def test_a_damaged_column_of_another_program_is_named_and_the_result_opens(
    widget: SRastWidget, qtbot: Any, saved: tuple[Path, UpsampleResult]
) -> None:
    import anndata

    store, result = saved
    widget.controller.results.export(None)
    wait_ready(qtbot, widget)
    table = store / "tables" / f"srast_{result.run}_table"
    content = anndata.read_zarr(table)
    content.obs["depth"] = np.arange(len(content), dtype=float)
    content.write_zarr(table)
    for file in (table / "obs" / "depth").rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            file.write_bytes(b"damaged")
    reopened(qtbot, widget, store)
    assert widget.controller.results.current.result.run == result.run
    assert f"'obs/depth' of table 'srast_{result.run}_table' is damaged" in widget.run_bar.status.text()


def test_saving_of_domains_ends_although_it_is_canceled(
    widget: SRastWidget, qtbot: Any, saved: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = saved
    release = threading.Event()

    def slow(self: Domains, path: Path, name: str) -> Path:
        release.wait(60)
        return path

    monkeypatch.setattr(Domains, "write", slow)
    widget.controller.domains.save()
    click(qtbot, widget.run_bar.cancel)
    assert widget.run_bar.status.text() == "Saving the domains cannot be canceled; wait a moment."
    release.set()
    wait_ready(qtbot, widget)
    assert widget.run_bar.status.text() == f"Added 'domains' to {store}"


def test_name_that_is_given_during_a_merge_is_kept(
    widget: SRastWidget, qtbot: Any, shown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(qtbot, widget, shown, 4)
    release, merge = threading.Event(), Domains.merge

    def slow(self: Domains, *arguments: Any) -> Domains:
        release.wait(60)
        return merge(self, *arguments)

    monkeypatch.setattr(Domains, "merge", slow)
    maps = widget.controller.domains
    n_domains = len(maps.current.sizes)
    maps.merge(["1", "2"])
    shown.table.item(2, 0).setText("stroma")
    release.set()
    wait_ready(qtbot, widget)
    assert "merge again" in widget.run_bar.status.text()
    assert len(maps.current.sizes) == n_domains
    assert maps.current.labels.categories[2] == "stroma"


def test_search_for_domains_can_be_canceled(
    widget: SRastWidget, qtbot: Any, shown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, stopped = endless_work()
    monkeypatch.setattr(module, "domains", work)
    click(qtbot, shown.start)
    assert widget.run_bar.status.text() == "Finding domains …"
    click(qtbot, widget.run_bar.cancel)
    assert widget.run_bar.status.text() == "Canceled. Nothing was changed."
    assert stopped.wait(30)
    assert widget.controller.tasks.busy_reason() is None
    assert widget.controller.domains.current is None


def test_missing_package_is_named_with_the_command_that_installs_it(
    widget: SRastWidget, qtbot: Any, shown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "igraph", None)
    find(qtbot, widget, shown, 3)
    assert widget.run_bar.status.text() == (
        'Domains need the package igraph; install it with: pip install "napari-srast[analysis]".'
    )
    assert shown.start.isEnabled()
