"""The section of the regions: table, tools, files, and regions that survive a crash."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.window import SQUARE, click, open_slide, run, use_fast_method
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, QRect, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QFileDialog, QLineEdit

from napari_srast.gui.layers.drawn_regions import LINE_COLOR
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.state.unsaved_regions import UnsavedRegions
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui
LEFT = Qt.MouseButton.LeftButton
NAME, CLASS, COLOR, SPOTS = range(4)


@pytest.fixture
def drawn(store: Path, widget: SRastWidget, qtbot: Any) -> SRastWidget:
    """A window with two regions of nine and four spots."""
    open_slide(qtbot, widget, store)
    widget.controller.regions.add(SQUARE)
    widget.controller.regions.add(np.array([[340, 340], [510, 340], [510, 510], [340, 510]]))
    return widget


def place(widget: SRastWidget, row: int, column: int) -> QRect:
    table = widget.region_panel.table
    return table.visualItemRect(table.item(row, column))


def click_cell(qtbot: Any, widget: SRastWidget, row: int, column: int) -> None:
    qtbot.mouseClick(widget.region_panel.table.viewport(), LEFT, pos=place(widget, row, column).center())


def click_box(qtbot: Any, widget: SRastWidget, row: int) -> None:
    cell = place(widget, row, NAME)
    at = cell.topLeft() + QPoint(10, cell.height() // 2)
    qtbot.mouseClick(widget.region_panel.table.viewport(), LEFT, pos=at)


def type_into(qtbot: Any, widget: SRastWidget, row: int, column: int, text: str) -> None:
    table = widget.region_panel.table
    click_cell(qtbot, widget, row, column)
    qtbot.keyClick(table, Qt.Key.Key_F2) if column == NAME else qtbot.mouseDClick(
        table.viewport(), LEFT, pos=place(widget, row, column).center()
    )
    (editor,) = table.viewport().findChildren(QLineEdit)
    editor.selectAll()
    qtbot.keyClicks(editor, text)
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not table.viewport().findChildren(QLineEdit), timeout=5000)


def listed(widget: SRastWidget) -> list[tuple[str, str, str]]:
    table = widget.region_panel.table
    return [tuple(table.item(row, c).text() for c in (NAME, CLASS, SPOTS)) for row in range(table.rowCount())]


def test_table_lists_regions_and_edits_names_and_classes(drawn: SRastWidget, qtbot: Any) -> None:
    assert listed(drawn) == [("Region 1", "", "9"), ("Region 2", "", "4")]
    type_into(qtbot, drawn, 0, NAME, "core")
    type_into(qtbot, drawn, 1, CLASS, "Tumor")
    assert listed(drawn) == [("core", "", "9"), ("Region 2", "Tumor", "4")]
    first, second = (region for region, _ in drawn.controller.regions.all())
    assert first.color == LINE_COLOR
    assert second.color != LINE_COLOR
    click(qtbot, drawn.region_panel.undo)
    click(qtbot, drawn.region_panel.undo)
    assert listed(drawn)[0][0] == "Region 1"
    click(qtbot, drawn.region_panel.redo)
    click(qtbot, drawn.region_panel.redo)
    assert listed(drawn) == [("core", "", "9"), ("Region 2", "Tumor", "4")]
    assert not drawn.region_panel.redo.isEnabled()
    assert "nothing to redo" in drawn.region_panel.redo.toolTip()


def test_ticks_choose_the_regions_that_are_run(drawn: SRastWidget, qtbot: Any) -> None:
    panel = drawn.region_panel
    assert "13 of 36 spots" in panel.count.text()
    click_box(qtbot, drawn, 1)
    assert panel.count.text() == "9 of 36 spots inside 1 of 2 regions."
    use_fast_method(drawn)
    result = run(qtbot, drawn)
    assert len(result.raster.spots) == 9
    click_box(qtbot, drawn, 0)
    assert "No region is ticked: the whole slide" in panel.count.text()
    assert drawn.controller.regions.region() is None
    drawn.controller.results.restore_settings()  # ticks the region of the result; it is not drawn again
    assert [region.is_used for region, _ in drawn.controller.regions.all()] == [True, False]
    panel.table.menu(1).actions()[2].trigger()
    assert "13 of 36 spots" in panel.count.text()


def test_selected_regions_are_marked_deleted_and_colored(
    drawn: SRastWidget, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions, table = drawn.controller.regions, drawn.region_panel.table
    click_cell(qtbot, drawn, 1, SPOTS)
    np.testing.assert_allclose(regions.layer.edge_color[1], 1.0)
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#112233"))
    click_cell(qtbot, drawn, 0, COLOR)
    assert regions.all()[0][0].color == "#112233"
    np.testing.assert_allclose(regions.layer.edge_color[1, :3], [1, 0.83, 0], atol=0.01)  # no longer selected
    qtbot.keyClick(table, Qt.Key.Key_Space)
    assert not regions.all()[0][0].is_used
    qtbot.keyClick(table, Qt.Key.Key_Delete)
    assert listed(drawn) == [("Region 2", "", "4")]
    click(qtbot, drawn.region_panel.clear)
    assert table.isHidden()


def test_classes_share_a_color(drawn: SRastWidget) -> None:
    regions = drawn.controller.regions
    regions.edit([1, 2], classification="Tumor")
    assert len({region.color for region, _ in regions.all()}) == 1
    regions.edit([2], classification="Stroma")
    assert len({region.color for region, _ in regions.all()}) == 2
    regions.edit([2], classification="")
    assert regions.all()[1][0].color == LINE_COLOR


def test_the_active_tool_is_visible(drawn: SRastWidget, qtbot: Any) -> None:
    panel = drawn.region_panel
    rectangle, ellipse, *_ = panel.tools
    click(qtbot, rectangle)
    click(qtbot, ellipse)
    assert [tool.isChecked() for tool in panel.tools] == [False, True, False, False]
    drawn.controller.regions.layer.mode = "select"  # as by a key of napari
    assert panel.edit.isChecked()
    click(qtbot, panel.edit)
    assert drawn.controller.regions.layer.mode == "pan_zoom"
    click(qtbot, rectangle)
    layers = drawn.controller.viewer.layers
    layers.selection.active = layers[0]
    assert not rectangle.isChecked()


def test_annotations_of_qupath_load_in_pixels_of_the_image(
    drawn: SRastWidget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, panel = drawn.controller.slides.slide, drawn.region_panel
    matrix = slide.to_cs @ slide.image.to_intrinsic[0]
    x, y = np.linalg.solve(matrix[:2, :2], np.array([100, 100]) - matrix[:2, 2])
    square = [[x - 1, y - 1], [x + 1, y - 1], [x + 1, y + 1], [x - 1, y + 1], [x - 1, y - 1]]
    kind = {"name": "Tumor", "color": [200, 0, 0]}
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "properties": {"objectType": "annotation", "name": "core", "classification": kind},
    }
    path = tmp_path / "qupath.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    monkeypatch.setattr(panel, "ask_for_pixels", lambda _: True)
    panel.load_geojson.trigger()
    assert listed(drawn)[2] == ("core", "Tumor", "1")
    (loaded,) = (region for region, _ in drawn.controller.regions.all() if region.is_used)
    assert loaded.color == "#c80000"
    np.testing.assert_allclose(loaded.region.geometry.centroid.coords[0], (100, 100), atol=1)
    panel.load_geojson.trigger()  # once more
    assert len(listed(drawn)) == 3
    target = tmp_path / "saved.geojson"
    drawn.controller.regions.files.save_geojson(target)
    saved = json.loads(target.read_text())["features"][2]["properties"]
    assert (saved["name"], saved["classification"]) == ("core", kind)


def wait_for_unsaved(qtbot: Any, store: Path, n_regions: int) -> None:
    qtbot.waitUntil(lambda: len(UnsavedRegions().read(store)) == n_regions, timeout=5000)


def reopened(qtbot: Any, store: Path) -> SRastWidget:
    """Return a new window with the slide, as after a crash: nothing of the first one was closed."""
    widget = SRastWidget(ViewerModel())
    qtbot.addWidget(widget)
    widget.show()
    open_slide(qtbot, widget, store)
    return widget


@pytest.mark.contract(
    section="In the window",
    case="crash while regions are not saved",
    response="they are offered when the slide is opened again, until they are restored and saved, or discarded",
)
def test_unsaved_regions_survive_a_crash(drawn: SRastWidget, qtbot: Any, store: Path) -> None:
    drawn.controller.regions.edit([2], name="core", classification="Tumor")
    wait_for_unsaved(qtbot, store, 2)
    again = reopened(qtbot, store)
    panel = again.region_panel
    assert panel.offer.text() == "2 regions of an earlier session not saved."
    assert panel.restore.isVisible()
    again.controller.regions.add(SQUARE + 100)  # both are kept until the user decides
    wait_for_unsaved(qtbot, store, 3)
    click(qtbot, panel.restore)
    assert not panel.restore.isVisible()
    assert [row[:2] for row in listed(again)] == [("Region 1", ""), ("Region 1", ""), ("core", "Tumor")]
    again.controller.regions.files.save_with_slide()
    assert UnsavedRegions().read(store) == []
    again.controller.regions.undo()
    wait_for_unsaved(qtbot, store, 1)
    third = reopened(qtbot, store)
    click(qtbot, third.region_panel.discard)
    assert UnsavedRegions().read(store) == []
    for widget in (again, third):
        widget.controller.shutdown()


def test_cleared_regions_are_not_offered_and_a_full_disk_is_said_once(
    drawn: SRastWidget, qtbot: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_unsaved(qtbot, store, 2)
    click(qtbot, drawn.region_panel.clear)
    wait_for_unsaved(qtbot, store, 0)
    messages: list[str] = []
    drawn.controller.messages.error_message.connect(messages.append)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_srast.io.annotations.replace_file", fail)
    for _ in range(2):
        drawn.controller.regions.add(SQUARE)
        drawn.controller.regions.recovery.write_changed()
    (message,) = messages
    assert "would not survive a crash" in message
    assert "No space left" in message


def test_a_damaged_file_of_unsaved_regions_is_kept_and_named(store: Path, widget: SRastWidget, qtbot: Any) -> None:
    file = UnsavedRegions().file(store)
    file.parent.mkdir(parents=True)
    file.write_text('{"type": "FeatureColl')
    messages: list[str] = []
    widget.controller.messages.error_message.connect(messages.append)
    open_slide(qtbot, widget, store)
    widget.controller.regions.add(SQUARE)
    wait_for_unsaved(qtbot, store, 1)
    kept = file.with_suffix(".unreadable")
    assert kept.read_text() == '{"type": "FeatureColl'
    (message,) = messages
    assert f"kept as '{kept}'" in message


def test_regions_of_a_closed_slide_are_offered_where_it_is_still_open(drawn: SRastWidget, qtbot: Any) -> None:
    controller = drawn.controller
    slide = controller.slides.slide
    without = dataclasses.replace(slide, image=None, source=dataclasses.replace(slide.source, image=None))
    controller.slides.show(LoadedSlide(slide=without, source=None))
    assert len(controller.slides.sessions) == 2
    controller.slides.switch(controller.slides.sessions[0])
    controller.slides.close()
    assert len(controller.regions.recovery.offered) == 2
    wait_for_unsaved(qtbot, Path(slide.source.path), 2)


def test_names_that_look_like_html_are_shown_as_they_are(drawn: SRastWidget) -> None:
    drawn.controller.regions.edit([1], name="<b>core</b>")
    assert drawn.region_panel.table.item(0, NAME).toolTip() == "<qt>&lt;b&gt;core&lt;/b&gt;</qt>"
    assert drawn.region_panel.count.textFormat() == Qt.TextFormat.PlainText


def test_a_file_is_not_replaced_by_regions_without_area(
    store: Path, widget: SRastWidget, qtbot: Any, tmp_path: Path
) -> None:
    open_slide(qtbot, widget, store)
    widget.controller.regions.draw("edit")
    widget.controller.regions.layer.add_lines(np.array([[0, 0], [9, 9]]))
    messages: list[str] = []
    widget.controller.messages.error_message.connect(messages.append)
    target = tmp_path / "saved.geojson"
    target.write_text("old")
    widget.controller.regions.files.save_geojson(target)
    assert messages == ["No shape encloses an area; draw a region first."]
    assert target.read_text() == "old"


def test_view_goes_to_the_tissue_on_opening_and_to_the_region_after_a_run(drawn: SRastWidget, qtbot: Any) -> None:
    slide, camera = drawn.controller.slides.slide, drawn.controller.viewer.scene.camera
    np.testing.assert_allclose(camera.center[-2:][::-1], slide.centers.mean(axis=0), atol=60)
    whole = camera.zoom
    drawn.region_panel.table.menu(1).actions()[0].trigger()  # show the region on the slide
    np.testing.assert_allclose(camera.center[-2:][::-1], (425, 425), atol=1)
    assert camera.zoom > 2 * whole
    use_fast_method(drawn)
    drawn.controller.regions.use([1])
    run(qtbot, drawn)
    np.testing.assert_allclose(camera.center[-2:][::-1], (100, 100), atol=60)
    assert camera.zoom > whole
