from __future__ import annotations

import numpy as np
import pytest
from helpers.window import SKEWED
from napari.components import ViewerModel
from napari.layers import Shapes

from napari_srast.errors import RegionError
from napari_srast.gui.layers.regions import REGION_LAYER, RegionLayer, shape_polygons

pytestmark = pytest.mark.gui
BOX = np.array([[10.0, 20.0], [10.0, 60.0], [30.0, 60.0], [30.0, 20.0]])  # (y, x)


@pytest.fixture
def region() -> tuple[RegionLayer, list[int], ViewerModel]:
    viewer, calls = ViewerModel(), []
    return RegionLayer(viewer, lambda: calls.append(1)), calls, viewer


def test_no_shapes_are_no_region(region: tuple[RegionLayer, list[int], ViewerModel]) -> None:
    assert region[0].region("global") is None
    region[0].draw("polygon", 1.0)
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
    regions.add(np.array([[0, 0], [10, 0], [10, 10], [0, 10]]), 1.0)
    regions.add(np.array([[5, 0], [15, 0], [15, 10], [5, 10]]), 1.0)
    assert regions.layer is not None
    regions.layer.add_paths(np.array([[0.0, 0.0], [50.0, 50.0], [90.0, 0.0]]))
    assert len(calls) >= 3
    union = regions.region("global")
    assert union is not None
    assert union.geometry.area == pytest.approx(150)


def test_lines_alone_raise_an_error(region: tuple[RegionLayer, list[int], ViewerModel]) -> None:
    regions = region[0]
    regions.draw("lasso", 1.0)
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
    regions.add(corners, 1.0)
    regions.move(SKEWED)
    assert regions.layer is not None
    np.testing.assert_allclose(shape_polygons(regions.layer)[0], corners @ SKEWED[:2, :2].T + SKEWED[:2, 2], atol=1e-4)
    again = np.array([[250.0, -70.0], [200.0, -70.0], [250.0, 0.0]])
    regions.add(again, 1.0)  # drawn in world coordinates although the layer is skewed
    np.testing.assert_allclose(shape_polygons(regions.layer)[1], again, atol=1e-4)


def test_a_deleted_region_layer_is_created_again(region: tuple[RegionLayer, list[int], ViewerModel]) -> None:
    regions, calls, viewer = region
    regions.add(np.array([[0, 0], [10, 0], [10, 10]]), 1.0)
    viewer.layers.remove(REGION_LAYER)
    assert regions.layer is None
    assert calls
    regions.draw("rectangle", 1.0)
    assert viewer.layers[REGION_LAYER].mode == "add_rectangle"
