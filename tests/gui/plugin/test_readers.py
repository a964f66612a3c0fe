"""napari opens slides, results and regions through the reader, and the panel adopts what it returned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import napari
import npe2
import numpy as np
import pytest
import zarr
from helpers.results import make_result
from helpers.slides import import_slide_with_image
from helpers.space_ranger import capture_area, write_visium
from helpers.window import PATIENCE, wait_ready
from napari.components import ViewerModel
from napari.errors import MultipleReaderError, ReaderPluginError
from qtpy.QtCore import QMimeData, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QApplication
from scipy.spatial import cKDTree

from napari_srast.errors import InputError, RegionError, SrastError
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import KEY, role_of
from napari_srast.gui.layers.opened_layers import PREVIEW_OF
from napari_srast.gui.plugin.readers import get_reader, read_layers
from napari_srast.gui.widgets.import_dialog import ImportDialog
from napari_srast.io.result_writer import write_result

pytestmark = pytest.mark.gui
PLUGIN = "napari-srast"


def _roles(viewer: Any) -> list[str | None]:
    return [role_of(layer) for layer in viewer.layers]


def _world(layer: Any, index: tuple[float, ...]) -> np.ndarray:
    return np.array(layer.data_to_world(index))[-2:]


@pytest.fixture(autouse=True)
def _plugins() -> None:
    """Discover the installed plugins, as napari's window does."""
    npe2.PluginManager.instance().discover()


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 6 x 6 spots with histology, 100 um apart."""
    return import_slide_with_image(tmp_path_factory.mktemp("slide"))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of four genes."""
    return write_result(make_result(), tmp_path_factory.mktemp("result") / "fine.zarr")


@pytest.mark.contract(
    section="Other programs",
    case="stores, tables, Space Ranger folders and results opened with the plugin",
    response="layers at their places",
)
def test_a_store_opens_as_histology_and_spots_at_their_places(slide: Path) -> None:
    viewer = ViewerModel()
    image, spots = viewer.open(slide, plugin=PLUGIN)
    assert _roles(viewer) == ["histology", "spots"]
    assert image.rgb
    np.testing.assert_allclose(_world(spots, (1, 1)), [100, 100])  # one pixel for each bin
    # Spot (0, 0) is at (20, 20) in pixels of the image, whose first center is at 0.5; a pixel measures 5 um.
    np.testing.assert_allclose(_world(image, (19.5, 19.5, 0)[: image.ndim]), [0, 0], atol=1e-6)


@pytest.mark.contract(
    section="Other programs",
    case="stores, tables, Space Ranger folders and results opened with the plugin",
    response="layers at their places",
)
def test_a_result_opens_with_the_images_of_its_genes(result: Path) -> None:
    viewer = ViewerModel()
    viewer.open(result, plugin=PLUGIN)
    assert _roles(viewer) == [*["gene"] * 4, "spots"]
    assert [layer.visible for layer in viewer.layers].count(True) == 1
    gene, expected = viewer.layers["Gene1"], make_result()
    np.testing.assert_array_equal(gene.data, expected.gene_image("Gene1", "expression"))
    k = 17
    at = _world(gene, (expected.raster.row[k], expected.raster.col[k]))
    np.testing.assert_allclose(at, expected.raster.centers[k, ::-1])
    assert {str(unit) for layer in viewer.layers for unit in layer.units} == {"micrometer"}


def test_a_result_opens_from_its_table_alone(tmp_path: Path) -> None:
    viewer = ViewerModel()
    viewer.open(write_result(make_result(), tmp_path / "fine.h5ad"), plugin=PLUGIN)
    assert "gene" in _roles(viewer)


@pytest.mark.contract(
    section="Other programs",
    case="stores, tables, Space Ranger folders and results opened with the plugin",
    response="layers at their places",
)
def test_an_h5ad_table_opens_as_spots(slide: Path) -> None:
    viewer = ViewerModel()
    (spots,) = viewer.open(slide.with_suffix(".h5ad"), plugin=PLUGIN)
    assert spots.name == "breast spots"
    assert spots.data.size == 36


@pytest.mark.contract(
    section="Other programs",
    case="stores, tables, Space Ranger folders and results opened with the plugin",
    response="layers at their places",
)
def test_a_space_ranger_folder_opens_in_micrometers(tmp_path: Path) -> None:
    viewer = ViewerModel()
    viewer.open(write_visium(tmp_path / "run", capture_area()), plugin=PLUGIN)
    spots = viewer.layers[-1]
    world = np.array([_world(spots, point) for point in spots.data])
    distances, _ = cKDTree(world).query(world, k=[2])
    np.testing.assert_allclose(np.median(distances), 100, rtol=0.01)
    assert role_of(spots) == "spots"
    assert str(spots.units[0]) == "micrometer"
    assert "histology" in _roles(viewer)


def test_regions_open_with_names_and_classes(tmp_path: Path) -> None:
    square = {"type": "Polygon", "coordinates": [[[10, 20], [40, 20], [40, 60], [10, 60], [10, 20]]]}
    features = [
        {"type": "Feature", "geometry": square, "properties": {"name": "A", "classification": {"name": "Tumor"}}},
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}},
        {"type": "Feature", "geometry": None, "properties": None},
    ]
    (tmp_path / "annotations.geojson").write_text(json.dumps(features))
    viewer = ViewerModel()
    (layer,) = viewer.open(tmp_path / "annotations.geojson", plugin=PLUGIN)
    assert layer.features.iloc[0].to_dict() == {
        **{"region": 1, "name": "A", "classification": "Tumor"},
        "color": "",
    }
    np.testing.assert_allclose(layer.data[0].min(axis=0), [20, 10])  # (y, x)
    np.testing.assert_allclose(layer.data[0].max(axis=0), [60, 40])


def test_several_slides_open_one_after_another_and_as_a_stack(slide: Path, result: Path) -> None:
    viewer = ViewerModel()
    viewer.open([slide, result], plugin=PLUGIN)
    assert _roles(viewer).count("spots") == 2
    stacked = ViewerModel()
    stacked.open([slide, result], plugin=PLUGIN, stack=True)
    assert _roles(stacked) == _roles(viewer)


# ------------------------------------------------------------------ what is not ours


@pytest.mark.contract(
    section="In the window",
    case="A folder that is no slide is opened with the plugin",
    response="the reader declines, and other readers are offered",
)
def test_foreign_folders_are_declined(tmp_path: Path, slide: Path) -> None:
    ome = tmp_path / "ome.zarr"
    zarr.create_group(ome, attributes={"ome": {"version": "0.5", "multiscales": []}})
    (tmp_path / "photos").mkdir()
    for path in (ome, tmp_path / "photos", tmp_path / "missing.zarr"):
        assert get_reader(str(path)) is None
    assert get_reader([str(slide), str(ome)]) is None
    assert get_reader([]) is None
    with pytest.raises(ValueError, match="refused"):
        ViewerModel().open(ome, plugin=PLUGIN)


@pytest.mark.contract(
    section="Other programs",
    case="a store that napari-spatialdata reads, too",
    response="both readers are offered",
)
def test_the_reader_of_napari_spatialdata_stays_on_offer(slide: Path) -> None:
    pytest.importorskip("napari_spatialdata")
    plugins = {reader.plugin_name for reader in npe2.PluginManager.instance().iter_compatible_readers([str(slide)])}
    assert {PLUGIN, "napari-spatialdata"} <= plugins
    with pytest.raises(MultipleReaderError):
        ViewerModel().open(slide, plugin=None)


# ------------------------------------------------------------------ damaged input


def _break(kind: str, slide: Path, folder: Path) -> Path:
    """Return a damaged copy of a slide."""
    import shutil

    if kind == "empty_h5ad":
        (folder / "empty.h5ad").write_bytes(b"")
        return folder / "empty.h5ad"
    if kind == "no_coordinates":
        anndata.AnnData(np.ones((3, 2), dtype=np.float32)).write_h5ad(folder / "plain.h5ad")
        return folder / "plain.h5ad"
    if kind == "no_spots":
        anndata.AnnData(np.ones((0, 2)), obsm={"spatial": np.ones((0, 2))}).write_h5ad(folder / "none.h5ad")
        return folder / "none.h5ad"
    if kind == "space_ranger_without_counts":
        (folder / "outs" / "spatial").mkdir(parents=True)
        for name in ("tissue_positions.csv", "scalefactors_json.json"):
            (folder / "outs" / "spatial" / name).write_text("")
        return folder / "outs"
    copy = Path(shutil.copytree(slide, folder / "damaged.zarr"))
    if kind == "root":
        (copy / "zarr.json").write_text("{ damaged")
    elif kind == "no_root":
        (copy / "zarr.json").unlink()
    elif kind == "table":
        (copy / "tables" / "table" / "X" / "data" / "zarr.json").write_text("")
    elif kind == "spots":
        shutil.rmtree(copy / "shapes" / "spots")
        (copy / "shapes" / "spots").mkdir()
    return copy


@pytest.mark.contract(
    section="In the window",
    case="A damaged slide or table is dropped on the canvas",
    response="one sentence with the next step, and no layer is added",
)
@pytest.mark.parametrize(
    "kind",
    ["root", "no_root", "table", "spots", "empty_h5ad", "no_coordinates", "no_spots", "space_ranger_without_counts"],
)
def test_damaged_slides_are_refused_in_one_sentence(kind: str, slide: Path, tmp_path: Path) -> None:
    path, viewer = _break(kind, slide, tmp_path), ViewerModel()
    if get_reader(str(path)) is None:
        assert kind == "space_ranger_without_counts"  # nothing says that this is a Space Ranger folder
        return
    with pytest.raises(SrastError) as caught:
        viewer.open(path, plugin=PLUGIN)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert not viewer.layers


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '{"type": "FeatureCollection", "features": 3}', '{"type": "Polygon"}', "\xff"]
)
def test_damaged_regions_are_refused_in_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "region.geojson"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(RegionError, match=r"region\.geojson.*\.$"):
        ViewerModel().open(path, plugin=PLUGIN)


def test_the_error_of_a_dropped_table_names_what_is_missing(slide: Path, tmp_path: Path) -> None:
    path = _break("no_coordinates", slide, tmp_path)
    with pytest.raises(ReaderPluginError, match=r"no obsm\['spatial'\]"):
        ViewerModel().open(path, plugin=None)  # as on the canvas, where this is the only reader


def test_a_path_that_became_foreign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing at"):
        read_layers(str(tmp_path / "gone.zarr"))


# ------------------------------------------------------------------ the panel


def test_the_panel_adopts_an_opened_slide(widget: Any, slide: Path) -> None:
    slides = widget.controller.slides
    slides._workspace.viewer.open(slide, plugin=PLUGIN)
    assert len(slides.sessions) == 1
    assert slides.slide.source.path == str(slide)
    assert slides.loaded.source == slide
    assert _roles(slides._workspace.viewer).count("spots") == 1


def test_the_panel_replaces_the_previews_of_a_result(widget: Any, result: Path, qtbot: Any) -> None:
    viewer, results = widget.controller.viewer, widget.controller.results
    viewer.open(result, plugin=PLUGIN)
    assert len(results.all) == 1
    overlay = results.overlay

    def previews() -> list[Any]:
        return [layer for layer in viewer.layers if PREVIEW_OF in layer.metadata.get(KEY, {})]

    qtbot.waitUntil(lambda: bool(overlay.shown) and not previews(), timeout=60_000)
    assert len(results.all) == 1


def test_a_slide_that_is_open_already_is_not_opened_twice(widget: Any, slide: Path, qtbot: Any) -> None:
    viewer = widget.controller.viewer
    viewer.open(slide, plugin=PLUGIN)
    first = list(viewer.layers)
    viewer.open(slide, plugin=PLUGIN)
    qtbot.waitUntil(lambda: list(viewer.layers) == first, timeout=60_000)
    assert len(widget.controller.slides.sessions) == 1


def test_a_slide_that_was_opened_before_the_panel_is_adopted(slide: Path, qtbot: Any) -> None:
    from napari_srast.gui.widget import SRastWidget

    viewer = ViewerModel()
    viewer.open(slide, plugin=PLUGIN)
    widget = SRastWidget(viewer)
    qtbot.addWidget(widget)
    assert len(widget.controller.slides.sessions) == 1
    assert len(viewer.layers) == 2
    widget.controller.shutdown()


def test_regions_in_a_named_coordinate_system_are_placed_on_the_slide(
    widget: Any, skewed_slide: Any, tmp_path: Path
) -> None:
    from napari_srast.geometry.affine import apply_affine
    from napari_srast.gui.layers.regions import shape_polygons
    from napari_srast.gui.state.slide_loading import LoadedSlide

    corners = np.array([[0.0, 0.0], [90.0, 0.0], [90.0, 50.0]])
    feature = {
        "type": "Feature",
        "properties": {"coordinate_system": "skewed"},
        "geometry": {"type": "Polygon", "coordinates": [[*corners.tolist(), corners[0].tolist()]]},
    }
    (tmp_path / "region.geojson").write_text(json.dumps(feature))
    widget.controller.slides.show(LoadedSlide(slide=skewed_slide, source=None))
    (layer,) = widget.controller.viewer.open(tmp_path / "region.geojson", plugin=PLUGIN)
    expected = apply_affine(np.linalg.inv(skewed_slide.transforms["skewed"]), corners)
    (polygon,) = shape_polygons(layer)
    order = np.lexsort(polygon.round(6).T), np.lexsort(expected.round(6).T)
    np.testing.assert_allclose(polygon[order[0]], expected[order[1]], atol=1e-6)
    assert layer in widget.controller.regions.foreign_shapes()


@pytest.fixture
def drop_on_canvas() -> Callable[[Any, Path], None]:
    """Drop a file on the canvas of a viewer, as the mouse does."""

    def drop(viewer: Any, path: Path) -> None:
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path))])
        canvas = viewer.window._qt_viewer
        action, button, keys = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        canvas.dropEvent(QDropEvent(QPointF(5, 5), action, data, button, keys))

    return drop


def _dock(viewer: Any) -> Any:
    return viewer.window.dock_widgets.get("SRast (napari-srast)")


@pytest.mark.contract(
    section="Other programs",
    case="a slide dropped on the canvas",
    response="the panel opens and adopts it",
)
def test_a_slide_that_is_dropped_on_the_canvas_opens_the_panel(
    make_napari_viewer: Any, drop_on_canvas: Any, slide: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari._qt.dialogs import qt_reader_dialog
    from napari.settings import get_settings

    viewer = make_napari_viewer()
    get_settings().application.gui_notification_level = "none"
    # napari asks, because napari-spatialdata and napari's own reader accept folders, too.
    answer = ("SRast", False)
    monkeypatch.setattr(qt_reader_dialog.QtReaderDialog, "get_user_choices", lambda self: answer)
    assert napari.current_viewer() is viewer
    drop_on_canvas(viewer, slide)
    qtbot.waitUntil(lambda: _dock(viewer) is not None, timeout=120_000)
    widget = _dock(viewer)
    wait_ready(qtbot, widget)
    assert widget.controller.slides.slide.source.path == str(slide)
    assert _roles(viewer) == ["histology", "spots"]
    # A second file, with the panel open: the only reader of tables, so napari does not ask.
    drop_on_canvas(viewer, slide.with_suffix(".h5ad"))
    assert len(widget.controller.slides.sessions) == 2
    widget.controller.shutdown()


def test_a_slide_that_opens_the_panel_fits_the_narrower_canvas(
    make_napari_viewer: Any, slide: Path, qtbot: Any
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1200, 800)
    viewer.open(slide, plugin=PLUGIN)
    qtbot.waitUntil(lambda: _dock(viewer) is not None, timeout=120_000)
    widget = _dock(viewer)
    wait_ready(qtbot, widget)

    def fits() -> bool:
        layers = widget.controller.slides.current.tissue_layers
        corners = np.concatenate([layer.extent.world[:, -2:] for layer in layers])
        half = np.asarray(viewer.canvas.size) / 2 / viewer.scene.camera.zoom
        middle = np.asarray(viewer.scene.camera.center[-2:])
        return bool((corners >= middle - half).all() and (corners <= middle + half).all())

    qtbot.waitUntil(fits, timeout=30_000)
    widget.controller.shutdown()


def test_a_table_on_the_canvas_of_a_window_is_imported_with_its_image(
    open_window: Any, drop_on_canvas: Any, slide: Path, qtbot: Any
) -> None:
    widget = open_window()
    viewer = napari.current_viewer()
    seen: list[ImportDialog] = []

    def accept() -> None:
        dialog = QApplication.activeModalWidget()
        if isinstance(dialog, ImportDialog):
            seen.append(dialog)
            timer.stop()
            dialog.store.setText(str(store))
            qtbot.mouseClick(dialog.accept_button, Qt.MouseButton.LeftButton)

    store = slide.with_name("dropped.zarr")
    timer = QTimer()
    timer.timeout.connect(accept)
    timer.start(50)
    drop_on_canvas(viewer, slide.with_suffix(".h5ad"))
    qtbot.waitUntil(lambda: bool(seen), timeout=PATIENCE)
    qtbot.waitUntil(lambda: widget.controller.slides.slide is not None, timeout=PATIENCE)
    wait_ready(qtbot, widget)
    assert widget.controller.slides.slide.source.path == str(store)
    assert _roles(viewer) == ["histology", "spots"]


def test_a_table_on_the_canvas_waits_for_a_run(open_window: Any, drop_on_canvas: Any, slide: Path, qtbot: Any) -> None:
    widget, errors = open_window(), []
    widget.controller.messages.error_message.connect(errors.append)
    widget.controller.tasks.set_state(AppState.RUNNING)
    drop_on_canvas(napari.current_viewer(), slide.with_suffix(".h5ad"))
    qtbot.waitUntil(lambda: bool(errors), timeout=PATIENCE)
    assert errors == ["A run is in progress; wait for it, or cancel it."]
    assert QApplication.activeModalWidget() is None
    widget.controller.tasks.set_state(AppState.EMPTY)


def test_a_table_without_a_store_is_named_by_its_file(widget: Any, slide: Path) -> None:
    widget.controller.viewer.open(slide.with_suffix(".h5ad"), plugin=PLUGIN)
    assert widget.slide_panel.slides.currentText() == "breast"
    assert widget.controller.viewer.layers[-1].name == "breast spots"
