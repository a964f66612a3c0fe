from __future__ import annotations

from collections.abc import Callable
from typing import Any

import napari
import numpy as np
import pytest
from helpers.window import PATIENCE, SKEWED, canvas_point, click, wait_ready
from napari.components import ViewerModel
from napari.layers import Shapes
from qtpy.QtCore import QPoint, Qt

from napari_srast.core.slide import Slide
from napari_srast.errors import RegionError
from napari_srast.gui.layers.regions import REGION_LAYER, RegionLayer, shape_polygons
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui
BOX = np.array([[10.0, 20.0], [10.0, 60.0], [30.0, 60.0], [30.0, 20.0]])  # (y, x)


@pytest.fixture
def region() -> tuple[RegionLayer, list[int], ViewerModel]:
    viewer, calls = ViewerModel(), []
    return RegionLayer(viewer, lambda: calls.append(1)), calls, viewer


def test_no_shapes_are_no_region(region: tuple[RegionLayer, list[int], ViewerModel]) -> None:
    assert region[0].region("global") is None
    region[0].draw("polygon")
    assert region[0].region("global") is None


def test_ellipses_are_sampled() -> None:
    layer = Shapes([BOX], shape_type="ellipse")
    (polygon,) = shape_polygons(layer)
    x, y = polygon.T
    np.testing.assert_allclose(((x - 40) / 20) ** 2 + ((y - 20) / 10) ** 2, 1.0, atol=1e-9)
    area = 0.5 * abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    assert area == pytest.approx(np.pi * 20 * 10, rel=1e-3)


def test_rotated_ellipses_are_sampled(region: tuple[RegionLayer, list[int], ViewerModel]) -> None:
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    (polygon,) = shape_polygons(Shapes([BOX @ turn.T], shape_type="ellipse"))
    back = polygon[:, ::-1] @ turn
    np.testing.assert_allclose(((back[:, 1] - 40) / 20) ** 2 + ((back[:, 0] - 20) / 10) ** 2, 1.0, atol=1e-9)


def test_region_is_the_union_of_closed_shapes(
    region: tuple[RegionLayer, list[int], ViewerModel],
) -> None:
    regions, calls, _ = region
    regions.add(np.array([[0, 0], [10, 0], [10, 10], [0, 10]]))
    regions.add(np.array([[5, 0], [15, 0], [15, 10], [5, 10]]))
    assert regions.layer is not None
    regions.layer.add_paths(np.array([[0.0, 0.0], [50.0, 50.0], [90.0, 0.0]]))
    assert len(calls) >= 3
    union = regions.region("global")
    assert union is not None
    assert union.geometry.area == pytest.approx(150)


def test_lines_alone_raise_an_error(region: tuple[RegionLayer, list[int], ViewerModel]) -> None:
    regions = region[0]
    regions.draw("lasso")
    assert regions.layer is not None
    regions.layer.add_paths(np.array([[0.0, 0.0], [50.0, 50.0], [90.0, 0.0]]))
    with pytest.raises(RegionError, match="at least three corners"):
        regions.region("global")


def test_layer_transforms_are_applied() -> None:
    layer = Shapes([BOX], shape_type="rectangle", translate=(100, 1000), scale=(2, 3))
    (polygon,) = shape_polygons(layer)
    np.testing.assert_allclose(polygon, np.column_stack([BOX[:, 1] * 3 + 1000, BOX[:, 0] * 2 + 100]))


def test_shapes_move_with_the_coordinate_system(
    region: tuple[RegionLayer, list[int], ViewerModel],
) -> None:
    regions = region[0]
    corners = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 20.0]])
    regions.add(corners)
    regions.move(SKEWED)
    assert regions.layer is not None
    np.testing.assert_allclose(shape_polygons(regions.layer)[0], corners @ SKEWED[:2, :2].T + SKEWED[:2, 2], atol=1e-4)
    again = np.array([[250.0, -70.0], [200.0, -70.0], [250.0, 0.0]])
    regions.add(again)  # drawn in world coordinates although the layer is skewed
    np.testing.assert_allclose(shape_polygons(regions.layer)[1], again, atol=1e-4)


def test_a_deleted_region_layer_is_created_again(region: tuple[RegionLayer, list[int], ViewerModel]) -> None:
    regions, calls, viewer = region
    regions.add(np.array([[0, 0], [10, 0], [10, 10]]))
    viewer.layers.remove(REGION_LAYER)
    assert regions.layer is None
    assert calls
    regions.draw("rectangle")
    assert viewer.layers[REGION_LAYER].mode == "add_rectangle"


def test_one_click_with_a_tool_leaves_no_shape(
    open_window: Callable[[], SRastWidget], qtbot: Any, skewed_slide: Slide
) -> None:
    window = open_window()
    controller = window.controller
    controller.slides.show(LoadedSlide(slide=skewed_slide, source=None))
    wait_ready(qtbot, window)
    canvas = napari.current_viewer().window._qt_viewer.canvas.native
    at = canvas_point(window, (150, 150))
    for tool in window.region_panel.tools[:2]:
        click(qtbot, tool)
        qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
        qtbot.wait(50)
        assert len(controller.regions.layer.data) == 0, tool.objectName()
        assert controller.regions.region() is None
        qtbot.waitUntil(window.run_bar.run.isEnabled, timeout=PATIENCE)
        assert not controller.regions.can_undo
    for move in ((40, 0), (40, 30)):  # the tool is still active, and a drag draws
        corner = at + QPoint(*move)
        qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=at)
        qtbot.mouseMove(canvas, corner)
        qtbot.wait(20)
        qtbot.mouseMove(canvas, corner + QPoint(0, 20))
        qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=corner + QPoint(0, 20))
    assert len(controller.regions.layer.data) == 2


@pytest.mark.parametrize("zoom", [0.15, 0.7, 3.0])
@pytest.mark.parametrize("background", [(245, 235, 245), (10, 5, 10)], ids=["pale", "dark"])
def test_every_side_of_the_outline_is_visible_and_the_fill_is_clear(
    zoom: float,
    background: tuple[int, int, int],
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    make_slide: Callable[..., Slide],
) -> None:
    window = open_window()
    controller, viewer = window.controller, window.controller.viewer
    controller.slides.show(LoadedSlide(slide=make_slide(), source=None))
    wait_ready(qtbot, window)
    for layer in viewer.layers:
        layer.visible = False
    viewer.add_image(np.full((4000, 4000, 3), background, dtype=np.uint8), rgb=True, translate=(-2000, -2000))
    size = 60 / zoom
    controller.regions.add(np.array([[-size, -size], [size, -size], [size, size], [-size, size]]))
    viewer.canvas.overlays.scale_bar.visible = False
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 0, 0), zoom
    qtbot.wait(50)
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    middle = np.array(picture.shape[:2]) // 2
    np.testing.assert_allclose(picture[tuple(middle)], background, atol=2)
    for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        line = np.array([picture[tuple(middle + np.array(step) * d)] for d in range(50, 70)])
        away = np.abs(line - background).max(axis=1)
        brightness = line.max(axis=1)
        assert (away > 100).sum() in range(2, 9), step
        assert brightness.max() > 200, step
        assert brightness.min() < 60, step


def test_halo_follows_shapes_transform_and_visibility(region: tuple[RegionLayer, list[int], ViewerModel]) -> None:
    regions, _, viewer = region
    regions.add(np.array([[0, 0], [10, 0], [10, 10], [0, 10]]))
    regions.add(np.array([[20, 0], [30, 0], [30, 10]]))
    halo, layer = regions.layers
    assert viewer.layers.index(halo) == viewer.layers.index(layer) - 1
    assert viewer.layers.selection.active is layer
    changes: list[object] = []
    halo.events.data.connect(changes.append)
    layer.refresh()
    assert changes == []
    layer.selected_data = {0}
    layer.remove_selected()
    assert len(halo.data) == 1
    np.testing.assert_array_equal(halo.data[0], layer.data[0])
    regions.move(SKEWED)
    np.testing.assert_allclose(halo.affine.affine_matrix, layer.affine.affine_matrix)
    ratio = halo.edge_width[0] / layer.edge_width[0]
    viewer.scene.camera.zoom *= 10
    assert halo.edge_width[0] / layer.edge_width[0] == pytest.approx(ratio)
    assert ratio > 2
    layer.visible = False
    assert not halo.visible
    regions.remove()
    assert len(viewer.layers) == 0
