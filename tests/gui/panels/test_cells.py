from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import spatialdata
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
from napari.layers import Labels, Shapes
from qtpy.QtWidgets import QFileDialog, QInputDialog

from napari_srast.analysis.cells import cells
from napari_srast.core.cells import CellLabels
from napari_srast.gui.controllers import cells as module
from napari_srast.gui.layers.factory import image_affine, role_of
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.widget import SRastWidget
from napari_srast.io.cell_reader import read_cells

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore")]


def nuclei() -> np.ndarray:
    """Return a label image of 60 x 60 pixels with 36 nuclei of 5 x 5 pixels."""
    image = np.zeros((60, 60), dtype=np.int32)
    for number in range(36):
        row, column = 10 * (number // 6) + 2, 10 * (number % 6) + 3
        image[row : row + 5, column : column + 5] = number + 1
    return image


def masks(slide: Any) -> Labels:
    """Return a layer of nuclei over the first spots of a slide, as another plugin adds it."""
    low = slide.centers.min(axis=0) - 50
    to_intrinsic = np.array([[10.0, 0.0, low[0]], [0.0, 10.0, low[1]], [0.0, 0.0, 1.0]])
    return Labels(nuclei(), name="cellpose masks", affine=image_affine(slide.to_cs @ to_intrinsic))


@pytest.fixture
def shown(widget: SRastWidget, qtbot: Any, skewed_slide: Any) -> Any:
    """The section of the cells, with a result of two shown genes and a layer of nuclei."""
    result = with_expression(make_result(skewed_slide, std=True), range(9))
    panel = show_result(qtbot, widget, skewed_slide, result, widget.result_panel.cell_panel)
    widget.controller.results.show_genes([str(skewed_slide.genes[0])])
    wait_shown(qtbot, widget)
    widget.controller.viewer.add_layer(masks(widget.controller.slides.slide))
    return panel


def choose(panel: Any, text: str) -> None:
    index = panel.source.findText(text)
    assert index >= 0, [panel.source.itemText(i) for i in range(panel.source.count())]
    panel.source.setCurrentIndex(index)
    panel.source.activated.emit(index)


def count_cells(qtbot: Any, widget: SRastWidget, panel: Any, text: str = "layer: cellpose masks") -> Any:
    choose(panel, text)
    click(qtbot, panel.start)
    wait_ready(qtbot, widget)
    assert widget.controller.cells.current is not None, widget.run_bar.status.text()
    return widget.controller.cells.current


def activate(control: Any, text: str) -> None:
    control.setCurrentIndex(control.findText(text))
    control.activated.emit(control.currentIndex())


def visible_genes(widget: SRastWidget) -> list[str]:
    return [layer.name for layer in widget.controller.viewer.layers if role_of(layer) == "gene" and layer.visible]


def value_at(widget: SRastWidget, point: np.ndarray) -> Any:
    """Return what the layer of the cells shows at a point (x, y) of the intrinsic frame."""
    layer, slide = widget.controller.cells.layer, widget.controller.slides.slide
    world = slide.to_cs[:2, :2] @ point + slide.to_cs[:2, 2]
    row, column = np.rint(layer.world_to_data(world[::-1])).astype(int)
    return np.asarray(layer.data)[row, column]


@pytest.mark.parametrize("system", ["global", "skewed"])
def test_cells_of_a_layer_are_counted_as_in_python_and_colored_by_the_shown_gene(
    widget: SRastWidget, qtbot: Any, shown: Any, system: str
) -> None:
    controller = widget.controller
    if system == "skewed":
        controller.slides.set_coordinate_system(system)
        controller.viewer.layers.remove("cellpose masks")
        controller.viewer.add_layer(masks(controller.slides.slide))
    found = count_cells(qtbot, widget, shown)
    displayed, gene = controller.results.current, controller.results.overlay.shown[0].gene
    low = displayed.result.slide.centers.min(axis=0) - 50
    runs = controller.cells.current.cells
    assert isinstance(runs, CellLabels)
    np.testing.assert_allclose(runs.to_intrinsic, [[10, 0, low[0]], [0, 10, low[1]], [0, 0, 1]], atol=1e-6)
    expected = cells(displayed.result, runs)
    np.testing.assert_array_equal(found.counts.toarray(), expected.counts.toarray())
    total = np.asarray(found.counts.sum(axis=0) + found.outside.sum(axis=0))
    np.testing.assert_allclose(total, np.asarray(displayed.result.counts.sum(axis=0)), rtol=1e-5)
    means = displayed.values.of_areas(found.shares, gene, controller.results.overlay.value_view)
    for cell in (0, 7, 20):
        np.testing.assert_allclose(value_at(widget, found.centroids[cell]), means[cell], rtol=1e-5)
    assert tuple(controller.cells.layer.contrast_limits) == controller.results.overlay.shown[0].limits
    assert visible_genes(widget) == []
    outside = f"{found.fraction_outside:.1%} are outside cells"
    assert outside in shown.note.text()
    assert f"with {round(found.obs['n_sharing'].median())} other cells" in shown.note.text()


def test_colors_follow_the_gene_list_the_limits_and_the_chosen_property(
    widget: SRastWidget, qtbot: Any, shown: Any
) -> None:
    found = count_cells(qtbot, widget, shown)
    controller = widget.controller
    overlay, maps = controller.results.overlay, controller.cells
    genes = [str(gene) for gene in found.result.genes]
    controller.results.show_genes([genes[1]])
    wait_shown(qtbot, widget)
    mean = controller.results.current.values.of_areas(found.shares, genes[1], overlay.value_view)[5]
    qtbot.waitUntil(lambda: np.isclose(value_at(widget, found.centroids[5]), mean, rtol=1e-5), timeout=PATIENCE)
    assert visible_genes(widget) == []
    assert shown.meaning.text() == "Mean over the cell: expression, counts per pixel."
    maps.layer.contrast_limits = (0.25, 1.5)  # in napari's layer controls
    assert overlay.shown[0].limits == (0.25, 1.5)
    controller.results.show_genes(genes[:2])
    wait_shown(qtbot, widget)
    qtbot.waitUntil(lambda: maps.layer.rgb, timeout=PATIENCE)
    assert value_at(widget, found.centroids[5])[3] == 255
    activate(shown.color, "Cells per spot")
    assert value_at(widget, found.centroids[5]) == found.obs["n_sharing"].iloc[5] + 1
    assert maps.layer.colorbar.visible
    activate(shown.color, "Uncertainty")
    assert value_at(widget, found.centroids[5]) == pytest.approx(found.std[5, 1])
    assert shown.meaning.text() == f"Standard deviation of the counts of {genes[1]} in the cell."
    activate(shown.color, "All counts")
    assert value_at(widget, found.centroids[5]) == pytest.approx(found.counts[[5]].sum(), rel=1e-5)


def test_cells_are_toggled_like_other_layers(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    count_cells(qtbot, widget, shown)
    maps, controller = widget.controller.cells, widget.controller
    gene = controller.results.overlay.shown[0].gene
    activate(shown.display, "Outlines")
    assert maps.layer.visible
    assert visible_genes(widget) == [gene]
    assert not shown.color.isEnabled()
    for is_visible, text in ((False, "Hidden"), (True, "Outlines")):
        maps.layer.visible = is_visible
        assert shown.display.currentText() == text
    activate(shown.display, "Fill")
    assert visible_genes(widget) == []
    click(qtbot, widget.result_panel.views["before"])
    assert not maps.layer.visible
    assert shown.display.currentText() == "Hidden"
    activate(shown.display, "Fill")
    assert controller.results.overlay.view == "after"
    assert maps.layer.visible
    maps.layer.visible = False  # the eye of the layer list
    assert visible_genes(widget) == [gene]
    assert shown.display.currentText() == "Hidden"
    maps.layer.visible = True
    assert visible_genes(widget) == []
    assert [style.gene for style in controller.results.overlay.shown] == [gene]
    controller.viewer.layers.remove(maps.layer)
    assert visible_genes(widget) == [gene]
    activate(shown.display, "Fill")
    assert maps.layer in controller.viewer.layers
    controller.results.drop()
    assert maps.layer is None
    assert not any(layer.name == "SRast cells" for layer in controller.viewer.layers)
    assert not shown.start.isEnabled()


def test_cells_stay_with_their_result(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    found = count_cells(qtbot, widget, shown)
    controller = widget.controller
    first = controller.results.current
    controller.results.add_saved(controller.slides.current, prepare_for_display(first.result))
    wait_shown(qtbot, widget)
    assert controller.cells.current is None
    assert controller.cells.layer is None
    assert len(visible_genes(widget)) > 0
    controller.results.choose(first)
    wait_shown(qtbot, widget)
    assert controller.cells.current is found
    assert controller.cells.layer in controller.viewer.layers


def test_values_of_the_cell_under_the_cursor_are_read(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    found = count_cells(qtbot, widget, shown)
    viewer, gene = widget.controller.viewer, widget.controller.results.overlay.shown[0].gene
    column = found.result.gene_column(gene)
    for position, text in (
        (found.centroids[8], f"Cell 9: {gene} {found.counts[8, column]:.3g} ± {found.std[8, column]:.2g}"),
        (found.centroids[8] + [45, 0], "Point at a cell"),
    ):
        viewer.cursor.position = tuple(position[::-1])
        for callback in list(viewer.mouse_move_callbacks):
            callback(viewer, None)
        assert text in shown.readout.text()
    assert shown.readout.text().startswith("Point")


def test_labels_without_the_position_of_the_histology_are_moved_onto_it(
    widget: SRastWidget, qtbot: Any, shown: Any
) -> None:
    slide = widget.controller.slides.slide
    labels = np.zeros((80, 100), dtype=np.uint16)
    labels[30:34, 40:46] = 9
    layer = widget.controller.viewer.add_layer(Labels(labels, name="StarDist labels"))
    found = count_cells(qtbot, widget, shown, "layer: StarDist labels")
    np.testing.assert_allclose(found.cells.to_intrinsic, slide.image.to_intrinsic[0])
    np.testing.assert_allclose(found.centroids, [slide.image.to_intrinsic[0][:2] @ [43, 32, 1]])
    np.testing.assert_allclose(layer.affine.affine_matrix, image_affine(slide.to_cs @ slide.image.to_intrinsic[0]))
    assert "'StarDist labels' has the pixels of the histology and no position" in shown.note.text()
    again = count_cells(qtbot, widget, shown, "layer: StarDist labels")
    np.testing.assert_array_equal(again.counts.toarray(), found.counts.toarray())
    assert again.notices == ()


def test_shapes_of_another_layer_are_cells(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    low = widget.controller.slides.slide.centers.min(axis=0)
    square = np.array([[0, 0], [0, 80], [80, 80], [80, 0]]) + low[::-1]
    widget.controller.viewer.add_layer(Shapes([square, square + 120], name="StarDist polygons"))
    found = count_cells(qtbot, widget, shown, "layer: StarDist polygons")
    assert found.cells.ids.tolist() == [1, 2]
    np.testing.assert_allclose(found.centroids, [low + 40, low + 160])
    np.testing.assert_allclose(found.obs["area"], 6400)


def test_layers_of_the_panel_are_no_cells_and_removed_layers_are_not_offered(
    widget: SRastWidget, qtbot: Any, shown: Any
) -> None:
    count_cells(qtbot, widget, shown)
    titles = [shown.source.itemText(i) for i in range(shown.source.count())]
    assert titles == ["layer: cellpose masks", "File…"]
    widget.controller.viewer.layers.remove("cellpose masks")
    assert shown.source.count() == 1
    assert not shown.start.isEnabled()
    assert "Choose cells first" in shown.start.toolTip()


def test_counting_can_be_canceled(widget: SRastWidget, qtbot: Any, shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work, stopped = endless_work()
    monkeypatch.setattr(module, "cells", work)
    choose(shown, "layer: cellpose masks")
    click(qtbot, shown.start)
    assert widget.run_bar.status.text() == "Counting the cells …"
    click(qtbot, widget.run_bar.cancel)
    assert stopped.wait(30)
    assert widget.controller.tasks.busy_reason() is None
    assert widget.controller.cells.current is None


def test_layer_without_cells_is_refused_in_one_sentence(widget: SRastWidget, qtbot: Any, shown: Any) -> None:
    widget.controller.viewer.add_layer(Labels(np.zeros((5, 5), dtype=int), name="empty"))
    choose(shown, "layer: empty")
    click(qtbot, shown.start)
    wait_ready(qtbot, widget)
    assert "'empty' hold no cell" in widget.run_bar.status.text()
    assert widget.controller.cells.current is None


@pytest.fixture
def stored(widget: SRastWidget, qtbot: Any, write_slide: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Any]:
    """The store of a slide with nuclei, and the section of the cells with a result."""
    monkeypatch.setattr(widget, "confirm_whole_slide", lambda text: True)
    store = write_slide()
    sdata = spatialdata.read_zarr(store)
    image = np.zeros((140, 140), dtype=np.int32)
    image[18:78, 18:78] = nuclei()
    name = next(iter(sdata.images))
    transforms = spatialdata.transformations.get_transformation(sdata[name], get_all=True)
    image = spatialdata.models.Labels2DModel.parse(image, dims=("y", "x"), transformations=transforms)
    sdata["stardist_nuclei"] = image
    sdata.write_element("stardist_nuclei")
    open_slide(qtbot, widget, store)
    use_fast_method(widget)
    run(qtbot, widget)
    panel = widget.result_panel.cell_panel
    click(qtbot, panel.section.header)
    return store, panel


def test_cells_of_the_store_are_offered_and_saved_as_on_the_command_line(
    widget: SRastWidget, qtbot: Any, stored: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, panel = stored
    assert [panel.source.itemText(i) for i in range(panel.source.count())] == ["stardist_nuclei", "File…"]
    found = count_cells(qtbot, widget, panel, "stardist_nuclei")
    result = widget.controller.results.current.result
    expected = cells(result, read_cells("stardist_nuclei", result.slide, store))
    np.testing.assert_array_equal(found.counts.toarray(), expected.counts.toarray())
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (" nuclei ", True))
    panel.save_into.trigger()
    wait_ready(qtbot, widget)
    assert "holds no run" in widget.run_bar.status.text()
    widget.controller.results.export(None)
    wait_ready(qtbot, widget)
    panel.save_into.trigger()
    wait_ready(qtbot, widget)
    assert widget.run_bar.status.text() == f"Saved the cells to {store}"
    table = spatialdata.read_zarr(store).tables[f"srast_{result.run}_nuclei_table"]
    np.testing.assert_array_equal(table.X.toarray(), found.counts.toarray())
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "out"), "H5AD (*.h5ad)"))
    next(action for action in panel.save.menu().actions() if ".h5ad" in action.text()).trigger()
    wait_ready(qtbot, widget)
    saved = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert (saved.obs["kind"] == "cell").sum() == len(found.obs)


def test_cells_are_saved_into_the_exported_store(
    widget: SRastWidget, qtbot: Any, stored: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, panel = stored
    count_cells(qtbot, widget, panel, "stardist_nuclei")
    exported = tmp_path / "exported.zarr"
    widget.controller.results.export(exported)
    wait_ready(qtbot, widget)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(exported))
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("cells", True))
    panel.save_into_other.trigger()
    wait_ready(qtbot, widget)
    run_name = widget.controller.results.current.result.run
    assert f"srast_{run_name}_cells" in spatialdata.read_zarr(exported).labels


def test_cells_of_a_file_are_counted_in_its_coordinate_system(
    widget: SRastWidget, qtbot: Any, stored: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, panel = stored
    slide = widget.controller.slides.slide
    system = next(name for name in slide.transforms if name != slide.coordinate_system)
    corners = [[20, 20], [40, 20], [40, 40], [20, 40], [20, 20]]
    path = tmp_path / "nuclei.geojson"
    path.write_text(
        json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]}, "properties": {}})
    )
    asked: list[list[str]] = []

    def answer(parent: Any, title: str, text: str, names: list[str], *_: Any) -> tuple[str, bool]:
        asked.append(names)
        return system, True

    monkeypatch.setattr(QInputDialog, "getItem", answer)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    choose(panel, "File…")
    assert asked == [list(slide.transforms)]
    click(qtbot, panel.start)
    wait_ready(qtbot, widget)
    found = widget.controller.cells.current
    scale = abs(np.linalg.det(slide.transforms[system][:2, :2]))
    np.testing.assert_allclose(found.obs["area"], 400 / scale, rtol=1e-6)
